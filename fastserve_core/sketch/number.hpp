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
#include "table.hpp"
#include "tile_sweep.hpp"

namespace fastserve::number {

using namespace fastserve::sketch;

constexpr int64_t kTurnValues = 1 << 22;  // counted before another thread may have its turn
constexpr int64_t kHeldRows = 1 << 30;    // the counters of a panel may have 32 bits

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

    void copy_moment(const Plan& plan, int moment, double* out) noexcept;
    Problem merge(const Plan& plan, const char* state, size_t size) noexcept;
    void write(const Plan& plan, char* out, bool then_clear) noexcept;
    static size_t state_bytes(const Plan& plan) noexcept {
        return Header::kBytes + 8 * static_cast<size_t>(1 + kWords * plan.features() + plan.counts());
    }

private:
    double variance(int64_t f, int64_t seen, double m2) const noexcept;

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
