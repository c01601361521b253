// Counts and moments of one tensor's values against fixed edges: rows in, sums out, in blocks that stay in cache.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <type_traits>
#include <vector>

#include "bytes.hpp"
#include "kernels.hpp"

namespace fastserve::number {

using namespace fastserve::sketch;

constexpr int64_t kMaxCounts = 4'000'000;
constexpr int64_t kWide = 64;          // with more edges a binary search is faster than comparing with all
constexpr int64_t kBlockRows = 128;
constexpr int64_t kMostPending = 1 << 30;  // the counters of blocks have 32 bits
constexpr int64_t kFewRows = 8;        // so few are placed one by one
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The largest T that is not above the edge: for a value of type T, x > edge and x > floor(edge) are the same.
template <typename T>
inline T floor_to(double edge) noexcept {
    if constexpr (std::is_same_v<T, double>) return edge;
    if (edge > static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    if (edge < -static_cast<double>(std::numeric_limits<T>::max())) return -std::numeric_limits<T>::infinity();
    const T near = static_cast<T>(edge);
    return static_cast<double>(near) <= edge ? near : std::nextafter(near, -std::numeric_limits<T>::infinity());
}

// The smallest double that is not below the value: it lies above an edge exactly when the value does.
template <typename S>
FASTSERVE_INLINE double ceil_to_double(S value) noexcept {
    if constexpr (sizeof(S) < 8) {
        return static_cast<double>(value);
    } else {
        const double near = static_cast<double>(value);
        constexpr double kTop = std::is_signed_v<S> ? 0x1p63 : 0x1p64;
        if (near >= kTop || static_cast<S>(near) >= value) return near;
        return std::nextafter(near, kInfinity);
    }
}

// The edges of every feature, fixed once `close` has been called, and how they lie in vectors.
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
        const int64_t all = features();
        fold = all == 1 || all == 2 || all == 4 ? kLanes / all : 1;
        width = all * fold;
        groups = (width + kLanes - 1) / kLanes;
        fingerprint_ = hash_number(static_cast<uint64_t>(all), 3);
        for (int64_t f = 0; f < all; ++f) {
            if (number(f) > kWide)
                wide.push_back(f);
            else
                narrow = std::max(narrow, number(f));
            fingerprint_ = hash_number(fingerprint_ ^ bits(shifts[f]), static_cast<uint64_t>(number(f)));
            for (int64_t j = 0; j < number(f); ++j) fingerprint_ = hash_number(fingerprint_, bits(edges_of(f)[j]));
        }
        lane_shifts.assign(groups * kLanes, 0.0);
        for (int64_t lane = 0; lane < width; ++lane) lane_shifts[lane] = shifts[lane % all];
    }

    template <typename T>
    void lay_out(std::vector<T>& out) const {
        out.assign(groups * narrow * kLanes, std::numeric_limits<T>::infinity());
        for (int64_t lane = 0; lane < width; ++lane) {
            const int64_t f = lane % features();
            if (number(f) > kWide) continue;
            for (int64_t j = 0; j < number(f); ++j)
                out[(lane / kLanes * narrow + j) * kLanes + lane % kLanes] = floor_to<T>(edges_of(f)[j]);
        }
    }

    int64_t fold = 1;    // rows that share a vector
    int64_t width = 0;   // lanes in use
    int64_t groups = 0;  // vectors a row
    int64_t narrow = 0;  // most edges of a feature that is not wide
    std::vector<int64_t> wide;
    std::vector<double> lane_shifts;

private:
    static uint64_t bits(double value) noexcept {
        uint64_t word;
        std::memcpy(&word, &value, 8);
        return word;
    }

    uint64_t fingerprint_ = 0;
};

// What came so far. Calls of several threads take turns; none runs Python code meanwhile.
class Counts {
public:
    static constexpr uint16_t kVersion = 1;
    static constexpr size_t kHeader = 4 + 2 + 3 * 8;
    static constexpr int64_t kWords = 7;  // a feature, beside its counts

    void open(const Plan& plan) {
        sums_.resize((plan.features() + kLanes - 1) / kLanes);
        for (Moments& each : sums_) each.clear();
        counts_.assign(plan.counts(), 0);
        above_.assign(plan.groups * plan.narrow * kLanes, 0);
        moments_.resize(plan.groups);
        for (Moments& each : moments_) each.clear();
    }

    int64_t rows() const noexcept { return rows_; }
    const Moments& sums(int64_t f) const noexcept { return sums_[f / kLanes]; }  // lane f % kLanes
    const int64_t* counts() const noexcept { return counts_.data(); }

    // Brings what blocks have counted to the features: before anything is read.
    void settle(const Plan& plan) noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        fold_in(plan);
    }

    void reset() noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        clear();
    }

    // Counts rows of a C-contiguous [rows, features] array; false, and nothing counted, past 2^63 - 1 rows.
    template <typename S>
    bool update(const Plan& plan, const S* values, int64_t rows) {
        using T = std::conditional_t<std::is_same_v<S, float>, float, double>;
        const std::lock_guard<std::mutex> turn(mutex_);
        open_tables<T>(plan);
        if (__builtin_add_overflow(rows_, rows, &rows_)) {
            rows_ -= rows;
            return false;
        }
        const int64_t stacked = rows >= kFewRows ? rows / plan.fold : 0;
        for (int64_t done = 0; done < stacked; done += kMostPending)
            count_blocks<S, T>(plan, values + done * plan.width, std::min(kMostPending, stacked - done));
        const S* rest = values + stacked * plan.width;
        for (int64_t r = stacked * plan.fold; r < rows; ++r, rest += plan.features()) place_row<S, T>(plan, rest);
        for (const int64_t f : plan.wide) search_column(plan, values, rows, f);
        return true;
    }

    Problem merge(const Plan& plan, const char* state, size_t size) noexcept;
    void write(const Plan& plan, char* out, bool then_clear) noexcept;
    static size_t state_bytes(const Plan& plan) noexcept {
        return kHeader + 8 * (1 + kWords * static_cast<size_t>(plan.features()) + static_cast<size_t>(plan.counts()));
    }

private:
    template <typename T>
    std::vector<T>& tables() noexcept {  // [groups][narrow][lanes]
        if constexpr (std::is_same_v<T, float>)
            return singles_;
        else
            return doubles_;
    }

    template <typename T>
    void open_tables(const Plan& plan) {
        if (tables<T>().empty()) plan.lay_out(tables<T>());
    }

    template <typename S, typename T>
    void count_blocks(const Plan& plan, const S* values, int64_t rows) noexcept {
        const T* edges = tables<T>().data();
        if (pending_ + rows > kMostPending) fold_in(plan);
        pending_ += rows;
        for (int64_t done = 0; done < rows; done += kBlockRows) {
            const int64_t size = std::min(kBlockRows, rows - done);
            for (int64_t g = 0; g < plan.groups; ++g) {
                const int64_t lanes = std::min<int64_t>(kLanes, plan.width - g * kLanes);
                const S* corner = values + done * plan.width + g * kLanes;
                T scratch[kBlockRows * kLanes];
                Group<T> group{scratch, kLanes, size, plan.lane_shifts.data() + g * kLanes,
                               edges + g * plan.narrow * kLanes, plan.narrow,
                               &moments_[g], above_.data() + g * plan.narrow * kLanes};
                if constexpr (std::is_same_v<S, T>) {
                    if (lanes == kLanes) {
                        group.x = corner;
                        group.stride = plan.width;
                    }
                }
                if (group.x == scratch) gather(corner, plan.width, size, lanes, scratch);
                count(group);
            }
        }
    }

    // Columns of a block as vectors, with zeros where there is no feature.
    template <typename S, typename T>
    static void gather(const S* corner, int64_t stride, int64_t rows, int64_t lanes, T* out) noexcept {
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t i = 0; i < kLanes; ++i) out[r * kLanes + i] = i < lanes ? convert<T>(corner[r * stride + i]) : T(0);
    }

    template <typename T, typename S>
    static T convert(S value) noexcept {
        if constexpr (std::is_floating_point_v<S>)
            return value;
        else
            return ceil_to_double(value);
    }

    void fold_in(const Plan& plan) noexcept {
        if (!pending_) return;
        for (int64_t lane = 0; lane < plan.width; ++lane) {
            const int64_t f = lane % plan.features(), g = lane / kLanes, i = lane % kLanes, at = f % kLanes;
            const Moments& seen = moments_[g];
            Moments& mine = sums_[f / kLanes];
            mine.missing[at] += seen.missing[i];
            mine.negative[at] += seen.negative[i];
            mine.positive[at] += seen.positive[i];
            mine.sum[at] += seen.sum[i];
            mine.squares[at] += seen.squares[i];
            mine.minimum[at] = std::min(mine.minimum[at], seen.minimum[i]);
            mine.maximum[at] = std::max(mine.maximum[at], seen.maximum[i]);
            if (plan.number(f) > kWide) continue;
            const int32_t* above = above_.data() + g * plan.narrow * kLanes + i;
            int64_t* counts = counts_.data() + plan.offsets[f];
            int64_t before = pending_ - seen.missing[i];
            for (int64_t j = 0; j < plan.number(f); ++j) {
                counts[j] += before - above[j * kLanes];
                before = above[j * kLanes];
            }
            counts[plan.number(f)] += before;
        }
        clear_blocks();
    }

    void clear_blocks() noexcept {
        for (Moments& each : moments_) each.clear();
        std::fill(above_.begin(), above_.end(), 0);
        pending_ = 0;
    }

    template <typename S, typename T>
    void place_row(const Plan& plan, const S* row) noexcept {
        const T* edges = tables<T>().data();
        for (int64_t g = 0, f = 0; f < plan.features(); ++g, f += kLanes) {
            const int64_t lanes = std::min<int64_t>(kLanes, plan.features() - f);
            T scratch[kLanes];
            int32_t places[kLanes];
            Group<T> group{scratch, kLanes, 1, plan.lane_shifts.data() + f, edges + g * plan.narrow * kLanes,
                           plan.narrow, &sums_[g], nullptr};
            if constexpr (std::is_same_v<S, T>) {
                if (lanes == kLanes) group.x = row + f;
            }
            if (group.x == scratch) gather(row + f, 0, 1, lanes, scratch);
            const bool finite = place(group, places);
            const int64_t* at = plan.offsets.data() + f;
            int64_t* counts = counts_.data();
            if (finite && plan.wide.empty()) {
                for (int64_t i = 0; i < lanes; ++i) ++counts[at[i] + places[i]];
                continue;
            }
            for (int64_t i = 0; i < lanes; ++i)
                if (group.x[i] == group.x[i] && plan.number(f + i) <= kWide) ++counts[at[i] + places[i]];
        }
    }

    // A feature with many edges; its moments are those of its lane.
    template <typename S>
    void search_column(const Plan& plan, const S* values, int64_t rows, int64_t f) noexcept {
        const double *first = plan.edges_of(f), *last = first + plan.number(f);
        int64_t* counts = counts_.data() + plan.offsets[f];
        for (int64_t r = 0; r < rows; ++r) {
            const double value = convert<double>(values[r * plan.features() + f]);
            if (!std::isnan(value)) ++counts[std::lower_bound(first, last, value) - first];
        }
    }

    void clear() noexcept {
        rows_ = 0;
        for (Moments& each : sums_) each.clear();
        std::fill(counts_.begin(), counts_.end(), 0);
        clear_blocks();
    }

    std::mutex mutex_;
    int64_t rows_ = 0;
    std::vector<Moments> sums_;  // of features, a vector of lanes after the other
    std::vector<int64_t> counts_;
    std::vector<int32_t> above_;  // with moments_: what blocks have counted and nobody has asked for yet
    std::vector<Moments> moments_;
    int64_t pending_ = 0;  // their rows a lane
    std::vector<float> singles_;
    std::vector<double> doubles_;
};

}  // namespace fastserve::number
