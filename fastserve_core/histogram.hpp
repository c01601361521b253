// Log-linear histograms: eight buckets an octave, so that a quantile is right to an eighth, and every power of two
// of the unit is the upper bound of a bucket.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastserve {

constexpr int kOctaves = 26;                             // 67 s in microseconds
constexpr int kBuckets = 8 + (kOctaves - 3) * 8 + 1;     // the last one has no upper bound

class Histogram {
  public:
    explicit Histogram(int64_t unit = 1) noexcept : unit_(unit) { clear(); }

    // Bucket i holds bound(i - 1) < value <= bound(i), in whole units rounded up.
    int index(int64_t value) const noexcept {
        if (value <= unit_) return 0;
        const uint64_t w = static_cast<uint64_t>(value - 1) / static_cast<uint64_t>(unit_);
        if (w < 8) return static_cast<int>(w);
        if (w >> kOctaves) return kBuckets - 1;
        const int m = 63 - __builtin_clzll(w);
        return (m - 2) * 8 + static_cast<int>((w >> (m - 3)) & 7);
    }

    void add(int64_t value, int64_t count) noexcept {
        counts_[index(value)] += count;
        int64_t sum;
        const bool too_large = __builtin_mul_overflow(value, count, &sum) || __builtin_add_overflow(total_, sum, &sum);
        total_ = too_large ? INT64_MAX : sum;
    }

    int64_t count(int bucket) const noexcept { return counts_[bucket]; }
    int64_t total() const noexcept { return total_; }

    void clear() noexcept {
        std::memset(counts_, 0, sizeof counts_);
        total_ = 0;
    }

  private:
    int64_t unit_, total_;
    int64_t counts_[kBuckets];
};

}  // namespace fastserve
