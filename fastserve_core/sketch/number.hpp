// Counts and moments of one tensor's values against fixed edges: rows in, sums out, in blocks that stay in cache.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <tuple>
#include <type_traits>
#include <vector>

#include "bytes.hpp"
#include "tile_sweep.hpp"

namespace fastserve::number {

using namespace fastserve::sketch;

constexpr int64_t kMaxCounts = 4'000'000;
constexpr int64_t kMaxFeatureEdges = 65'535;
constexpr int64_t kTurnValues = 1 << 22;   // counted before another thread may have its turn
constexpr int64_t kHeldRows = 1 << 30;     // the counters of a panel may have 32 bits

// What of an edge a value of type S can tell: x > edge exactly when key_of(x) > `key`, or always.
template <typename S>
struct Floor {
    KeyOf<S> key;
    bool always;
};

// Floats: the largest S that is not above the edge; -inf where there is none, which all but -inf are above.
template <typename S>
inline Floor<S> floor_to(double edge) noexcept {
    if constexpr (std::is_same_v<S, double>) {
        return {key_of(edge == 0 ? 0.0 : edge), false};
    } else if constexpr (std::is_same_v<S, float>) {
        constexpr float kMax = std::numeric_limits<float>::max(), kEndless = std::numeric_limits<float>::infinity();
        if (edge >= static_cast<double>(kMax)) return {key_of(kMax), false};
        if (edge < -static_cast<double>(kMax)) return {key_of(-kEndless), false};
        float near = static_cast<float>(edge);
        if (static_cast<double>(near) > edge) near = std::nextafter(near, -kEndless);
        return {key_of(near == 0 ? 0.0F : near), false};
    } else {
        constexpr double kBelow = std::is_signed_v<S> ? (sizeof(S) == 4 ? -0x1p31 : -0x1p63) : 0.0;
        constexpr double kAbove = kBelow + (sizeof(S) == 4 ? 0x1p32 : 0x1p64);
        const double whole = std::floor(edge);
        if (whole < kBelow) return {kMissing<KeyOf<S>>, true};
        if (whole >= kAbove) return {kNever<KeyOf<S>>, false};
        return {key_of(static_cast<S>(whole)), false};
    }
}

// The edges of every feature, fixed once `close` has been called, and how their keys lie in memory.
class Plan {
public:
    std::vector<int64_t> offsets{0};
    std::vector<double> edges;  // feature f owns [offsets[f] - f, offsets[f + 1] - f - 1)
    std::vector<double> shifts;

    int64_t features() const noexcept { return static_cast<int64_t>(shifts.size()); }
    int64_t counts() const noexcept { return offsets.back(); }
    uint64_t fingerprint() const noexcept { return fingerprint_; }
    int64_t number(int64_t f) const noexcept { return offsets[f + 1] - offsets[f] - 1; }
    const double* edges_of(int64_t f) const noexcept { return edges.data() + offsets[f] - f; }

    void add(const double* values, int64_t number, double shift) {
        edges.insert(edges.end(), values, values + number);
        offsets.push_back(offsets.back() + number + 1);
        shifts.push_back(shift);
    }

    void close() {
        fingerprint_ = hash_number(static_cast<uint64_t>(features()), 3);
        for (int64_t f = 0; f < features(); ++f) {
            fingerprint_ = hash_number(fingerprint_ ^ read<uint64_t>(&shifts[f]), static_cast<uint64_t>(number(f)));
            for (int64_t j = 0; j < number(f); ++j)
                fingerprint_ = hash_number(fingerprint_, read<uint64_t>(edges_of(f) + j));
        }
        while (features() < kLanes && features() * fold % kLanes) fold *= 2;
        width = features() * fold;
        tables.assign(features(), 0);
        for (int64_t column = 0; column < width; column += kLanes) add_panel(column);
        panel_keys = keys;
        for (int64_t f = 0; f < features(); ++f) {
            if (!searched(f)) continue;
            tables[f] = keys;
            keys += number(f);
        }
    }

    bool searched(int64_t f) const noexcept { return number(f) > kWide; }

    int64_t fold = 1;             // rows that share a vector
    int64_t width = 0;            // values of so many rows
    int64_t keys = 0;             // in a table
    int64_t panel_keys = 0;       // of them those that are not searched
    std::vector<Panel> panels;
    std::vector<int64_t> tables;  // where a feature's keys start

private:
    void add_panel(int64_t column) {
        Panel panel{std::min(column, width - kLanes), 0, false, keys, 0, {}};
        panel.first = static_cast<int>(column - panel.column);
        for (int lane = 0; lane < kLanes; ++lane) {
            const int64_t f = panel.features[lane] = (panel.column + lane) % features();
            if (lane < panel.first) continue;
            if (panel.column + lane < features()) tables[f] = keys + lane;
            panel.searched |= searched(f);
            if (!searched(f)) panel.number = std::max(panel.number, number(f));
        }
        keys += panel.number * kLanes;
        panels.push_back(panel);
    }

    uint64_t fingerprint_ = 0;
};

// The edges' keys for one dtype: first those of the panels, [number][kLanes] each, then those that are searched. And
// what has been counted with them since `Counts::settle`.
template <typename S>
struct Table {
    std::vector<KeyOf<S>> keys, above;
    std::vector<int32_t> skips;  // edges that every value is above
    std::vector<Tally<KeyOf<S>>> tallies;
    std::vector<Grid> grids;  // of the panels, where one is usable
    int64_t rows = 0;

    void clear() noexcept {
        for (auto& tally : tallies) tally.clear();
        std::fill(above.begin(), above.end(), 0);
        rows = 0;
    }

    void fill(const Plan& plan) {
        skips.assign(plan.features(), 0);
        for (int64_t f = 0; f < plan.features(); ++f)
            for (int64_t j = 0; j < plan.number(f); ++j) skips[f] += floor_to<S>(plan.edges_of(f)[j]).always;
        keys.assign(plan.keys, kNever<KeyOf<S>>);
        for (const Panel& panel : plan.panels)
            for (int lane = panel.first; lane < kLanes; ++lane) {
                const int64_t f = panel.features[lane];
                if (!plan.searched(f)) lay(plan, f, panel.table + lane, kLanes);
            }
        for (int64_t f = 0; f < plan.features(); ++f)
            if (plan.searched(f)) lay(plan, f, plan.tables[f], 1);
        above.resize(plan.panel_keys);
        tallies.resize(plan.panels.size());
        for (size_t p = 0; p < tallies.size(); ++p)
            for (int lane = 0; lane < kLanes; ++lane)
                tallies[p].shift[lane] = plan.shifts[plan.panels[p].features[lane]];
        if constexpr (std::is_same_v<S, float>) fit(plan);
        clear();
    }

private:
    void fit(const Plan& plan) {
        if (best_level() != kAvx2) return;
        grids.resize(plan.panels.size());
        bool any = false;
        for (size_t p = 0; p < grids.size(); ++p) {
            const Panel& panel = plan.panels[p];
            Grid& grid = grids[p];
            grid.clear();
            grid.usable = !panel.searched && panel.number >= kFewEdges && panel.number <= kMostEdges;
            for (int lane = 0; lane < kLanes && grid.usable; ++lane) {
                const int64_t f = panel.features[lane], number = plan.number(f);
                float edges[kMostEdges];
                grid.usable = number <= kMostEdges;
                for (int64_t j = 0; j < number && grid.usable; ++j)
                    edges[j] = static_cast<float>(double_of_key<float>(floor_to<float>(plan.edges_of(f)[j]).key));
                grid.usable = grid.usable && grid.fit(lane, edges, number, plan.shifts[f]);
                if (lane < panel.first) grid.forget_edges(lane);
            }
            any |= grid.usable;
        }
        if (!any) grids = {};
    }

    void lay(const Plan& plan, int64_t f, int64_t at, int64_t stride) noexcept {
        for (int64_t j = skips[f]; j < plan.number(f); ++j, at += stride)
            keys[at] = floor_to<S>(plan.edges_of(f)[j]).key;
    }
};

enum Counter { kCountMissing, kCountNegative, kCountPositive, kCountKinds };
enum Summand { kSum, kSquares, kMinimum, kMaximum, kSumKinds };

// What came so far. Calls of several threads take turns; none runs Python code meanwhile.
class Counts {
public:
    static constexpr int64_t kWords = kCountKinds + kSumKinds;  // a feature, beside its counts

    void open(const Plan& plan) {
        for (auto& each : counted_) each.resize(plan.features());
        for (auto& each : summed_) each.resize(plan.features());
        counts_.resize(plan.counts());
        clear();
    }

    int64_t rows() noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        return rows_;
    }

    void reset() noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        clear();
    }

    void copy_counts(const Plan& plan, int64_t* out) noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        settle(plan);
        std::copy(counts_.begin(), counts_.end(), out);
    }

    void copy_counted(const Plan& plan, int kind, int64_t* out) noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        settle(plan);
        std::copy(counted_[kind].begin(), counted_[kind].end(), out);
    }

    enum Moment { kMean, kM2, kVariance, kLeast, kMost };

    void copy_moment(const Plan& plan, int moment, double* out) noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        settle(plan);
        for (int64_t f = 0; f < plan.features(); ++f) {
            const int64_t seen = finite(f);
            const double number = static_cast<double>(seen), sum = summed_[kSum][f];
            const double least = summed_[kMinimum][f], most = summed_[kMaximum][f];
            const double rest = seen ? summed_[kSquares][f] - sum * sum / number : 0.0, m2 = rest < 0.0 ? 0.0 : rest;
            switch (moment) {
                case kMean: out[f] = seen ? between(least, plan.shifts[f] + sum / number, most) : NAN; break;
                case kM2: out[f] = m2; break;
                case kVariance: out[f] = variance(f, seen, m2); break;
                case kLeast: out[f] = seen ? least : NAN; break;
                default: out[f] = seen ? most : NAN; break;
            }
        }
    }

    // NaN too where values lie so far from the shift, or from 0, that their squares or they tell no differences.
    double variance(int64_t f, int64_t seen, double m2) const noexcept {
        if (seen < 2) return NAN;
        const double least = summed_[kMinimum][f], most = summed_[kMaximum][f], step = step_at(least, most);
        const double found = least == most ? 0.0 : m2 / static_cast<double>(seen - 1);
        return least == most || (m2 > 1e-9 * summed_[kSquares][f] && found > 256 * step * step) ? found : NAN;
    }

    // Memory held, tables of the dtypes seen so far included.
    size_t memory(const Plan& plan) noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        const size_t features = plan.shifts.size(), counts = counts_.size();
        size_t tables = 0;
        const auto add = [&tables](const auto& table) {
            tables += (table.keys.size() + table.above.size()) * sizeof table.keys[0] +
                      table.skips.size() * sizeof table.skips[0] + table.tallies.size() * sizeof table.tallies[0] +
                      table.grids.size() * sizeof table.grids[0];
        };
        std::apply([&add](const auto&... table) { (add(table), ...); }, tables_);
        return sizeof *this + sizeof plan + plan.panels.size() * sizeof(Panel) + tables + counts * (8 + 8) +
               features * (8 + 8 + 8 * kWords);
    }

    // Counts rows of a C-contiguous [rows, features] array of a dtype; false, and nothing counted, past 2^63 - 1 rows.
    bool update(const Plan& plan, char kind, int itemsize, const void* values, int64_t rows) {
        return with_dtype(kind, itemsize, values, [&](const auto* typed) { return update(plan, typed, rows); });
    }

    // Apart for each dtype: a function with the loops of all would be slower to enter, by some per cent of one row.
    template <typename S>
    __attribute__((noinline)) bool update(const Plan& plan, const S* values, int64_t rows) {
        const int64_t turn_rows = std::max(kTurnValues / plan.width * plan.fold, kBlockRows * plan.fold);
        for (int64_t done = 0, size; done < rows; done += size) {
            size = std::min(rows - done, turn_rows);
            const std::lock_guard<std::mutex> turn(mutex_);
            if (rows - done > INT64_MAX - rows_) return false;
            auto& table = std::get<Table<Counted<S>>>(tables_);
            if (table.tallies.empty()) table.fill(plan);
            if (table.rows > kHeldRows) settle(plan);
            count(plan, table, values + done * plan.features(), size);
            rows_ += size;
        }
        return true;
    }

    Problem merge(const Plan& plan, const char* state, size_t size) noexcept;
    void write(const Plan& plan, char* out, bool then_clear) noexcept;
    static size_t state_bytes(const Plan& plan) noexcept {
        return Header::kBytes + 8 * static_cast<size_t>(1 + kWords * plan.features() + plan.counts());
    }

private:
    int64_t finite(int64_t f) const noexcept {
        return rows_ - counted_[kCountMissing][f] - counted_[kCountNegative][f] - counted_[kCountPositive][f];
    }

    template <typename S>
    void count(const Plan& plan, Table<Counted<S>>& table, const S* values, int64_t rows) noexcept {
        const int64_t stacked = rows / plan.fold, width = plan.width, bytes = width * static_cast<int64_t>(sizeof(S));
        Rows<S> task{values, 0, width, plan.panels.data(), static_cast<int64_t>(plan.panels.size()),
                     table.keys.data(), table.above.data(), table.tallies.data(), plan.tables.data(),
                     table.skips.data(), plan.offsets.data(), counts_.data()};
        int64_t left = stacked;
#if defined(__x86_64__)
        if constexpr (std::is_same_v<S, float>)
            if (left >= tiles::kRows && !table.grids.empty() && chosen_level == kAvx2) {
                task.rows = left - left % tiles::kRows;
                tiles::sweep_tiles(task, table.grids.data());
                task.values += task.rows * width;
                left -= task.rows;
            }
#endif
        for (; left > 0; left -= task.rows, task.values += task.rows * width) {
            task.rows = std::min(kBlockRows, left);
            const char* next = reinterpret_cast<const char*>(task.values + task.rows * width);
            sweep(task, Ahead{next, next + std::min(kBlockRows, left - task.rows) * bytes});
        }
        table.rows += stacked;
        for (int64_t r = stacked * plan.fold; r < rows; ++r) place(plan, table, values + r * plan.features());
    }

    // One row that does not fill a vector.
    template <typename S>
    void place(const Plan& plan, const Table<Counted<S>>& table, const S* row) noexcept {
        for (int64_t f = 0; f < plan.features(); ++f) {
            const double value = double_of(row[f]);
            counted_[kCountMissing][f] += std::isnan(value);
            counted_[kCountNegative][f] += value == -kInfinity;
            counted_[kCountPositive][f] += value == kInfinity;
            if (std::isnan(value)) continue;
            const KeyOf<S>* edges = table.keys.data() + plan.tables[f];
            const int64_t number = plan.number(f) - table.skips[f], apart = plan.searched(f) ? 1 : kLanes;
            ++counts_[plan.offsets[f] + table.skips[f] + search(edges, number, apart, key_of(row[f]))];
            if (std::isinf(value)) continue;
            const double from = value - plan.shifts[f];
            summed_[kSum][f] += from;
            summed_[kSquares][f] += from * from;
            summed_[kMinimum][f] = std::min(summed_[kMinimum][f], value);
            summed_[kMaximum][f] = std::max(summed_[kMaximum][f], value);
        }
    }

    // Puts what the panels hold where it is read.
    void settle(const Plan& plan) noexcept {
        std::apply([&](auto&... table) { (settle(plan, table), ...); }, tables_);
    }

    template <typename S>
    void settle(const Plan& plan, Table<S>& table) noexcept {
        if (table.rows == 0) return;
        for (size_t p = 0; p < plan.panels.size(); ++p)
            for (int lane = plan.panels[p].first; lane < kLanes; ++lane)
                settle_lane(plan, table, table.tallies[p], table.above.data() + plan.panels[p].table + lane,
                            plan.panels[p].features[lane], lane);
        table.clear();
    }

    template <typename S>
    void settle_lane(const Plan& plan, const Table<S>& table, const Tally<KeyOf<S>>& tally, const KeyOf<S>* above,
                     int64_t f, int lane) noexcept {
        counted_[kCountMissing][f] += tally.missing[lane];
        counted_[kCountNegative][f] += tally.negative[lane];
        counted_[kCountPositive][f] += tally.positive[lane];
        summed_[kSum][f] += tally.sum[lane];
        summed_[kSquares][f] += tally.squares[lane];
        if (tally.low[lane] <= tally.high[lane]) {
            summed_[kMinimum][f] = std::min(summed_[kMinimum][f], double_of_key<S>(tally.low[lane]));
            summed_[kMaximum][f] = std::max(summed_[kMaximum][f], double_of_key<S>(tally.high[lane]));
        }
        if (plan.searched(f)) return;
        int64_t* counts = counts_.data() + plan.offsets[f] + table.skips[f];
        int64_t before = table.rows - tally.missing[lane];
        for (int64_t left = plan.number(f) - table.skips[f]; left > 0; --left, above += kLanes, ++counts) {
            *counts += before - *above;
            before = *above;
        }
        *counts += before;
    }

    void clear() noexcept {
        rows_ = 0;
        for (auto& each : counted_) std::fill(each.begin(), each.end(), 0);
        for (auto& each : summed_) std::fill(each.begin(), each.end(), 0.0);
        std::fill(summed_[kMinimum].begin(), summed_[kMinimum].end(), kInfinity);
        std::fill(summed_[kMaximum].begin(), summed_[kMaximum].end(), -kInfinity);
        std::fill(counts_.begin(), counts_.end(), 0);
        std::apply([](auto&... table) { (table.clear(), ...); }, tables_);
    }

    std::mutex mutex_;
    int64_t rows_ = 0;
    std::vector<int64_t> counted_[kCountKinds], counts_;
    std::vector<double> summed_[kSumKinds];
    std::tuple<Table<float>, Table<double>, Table<int32_t>, Table<uint32_t>, Table<int64_t>, Table<uint64_t>> tables_;
};

}  // namespace fastserve::number
