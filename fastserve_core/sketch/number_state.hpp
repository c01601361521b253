// The sums of a number sketch as bytes, and back: what processes send each other and what files keep.
//
//   magic "FSKN", version u16, features u64, counts u64, fingerprint u64               header
//   rows i64; missing, -inf, +inf i64 and sum, squares, minimum, maximum f64, each [features]; counts i64[counts]
//   all little-endian; sums are of finite values around the shift; minimum is +inf where there was none
#pragma once

#include "number.hpp"

namespace fastserve::number {

inline Header header_of(const Plan& plan) noexcept {
    return {"FSKN", 1, plan.features(), plan.counts(), plan.fingerprint(), Counts::state_bytes(plan)};
}

inline double from_bits(uint64_t word) noexcept { return read<double>(&word); }

inline void Counts::write(const Plan& plan, char* out, bool then_clear) noexcept {
    const std::lock_guard<std::mutex> turn(mutex_);
    settle(plan);
    header_of(plan).write(out);
    put(out, static_cast<uint64_t>(rows_));
    for (const auto& each : counted_)
        for (const int64_t count : each) put(out, static_cast<uint64_t>(count));
    for (const auto& each : summed_)
        for (const double sum : each) put(out, read<uint64_t>(&sum));
    for (const int64_t count : counts_) put(out, static_cast<uint64_t>(count));
    if (then_clear) clear();
}

// Whether a feature's counts are not negative, sum to the rows and leave room for its infinities, and its extremes are
// those of as many values.
inline Problem check_feature(const Plan& plan, const char* body, int64_t f) noexcept {
    const int64_t features = plan.features();
    const uint64_t rows = load(body);
    const auto word = [&](int64_t part) { return load(body + 8 * (1 + part * features + f)); };
    const uint64_t missing = word(0), negative = word(1), positive = word(2);
    if ((rows | missing | negative | positive) >> 63) return kNegative;
    const char* counts = body + 8 * (1 + Counts::kWords * features + plan.offsets[f]);
    uint64_t sum = missing;
    for (int64_t i = 0; i <= plan.number(f); ++i) {
        const uint64_t count = load(counts + 8 * i);
        if (count >> 63) return kNegative;
        sum += count;
        if (sum > rows) return kDisagree;
    }
    if (sum != rows || negative > load(counts) || positive > load(counts + 8 * plan.number(f))) return kDisagree;
    if (negative + positive > rows - missing) return kDisagree;
    const double least = from_bits(word(5)), most = from_bits(word(6));
    if (negative + positive == rows - missing) return least == kInfinity && most == -kInfinity ? kFine : kDisagree;
    return std::isfinite(least) && std::isfinite(most) && least <= most ? kFine : kDisagree;
}

inline Problem check_state(const Plan& plan, const char* state, size_t size) noexcept {
    if (const Problem problem = header_of(plan).check(state, size)) return problem;
    for (int64_t f = 0; f < plan.features(); ++f)
        if (const Problem problem = check_feature(plan, state + Header::kBytes, f)) return problem;
    return kFine;
}

inline Problem Counts::merge(const Plan& plan, const char* state, size_t size) noexcept {
    if (const Problem problem = check_state(plan, state, size)) return problem;
    const char* at = state + Header::kBytes;
    const auto next = [&at] {
        const uint64_t word = load(at);
        at += 8;
        return word;
    };
    const std::lock_guard<std::mutex> turn(mutex_);
    int64_t rows;
    if (__builtin_add_overflow(rows_, static_cast<int64_t>(next()), &rows)) return kTooManyRows;
    rows_ = rows;
    for (auto& each : counted_)
        for (int64_t& count : each) count += static_cast<int64_t>(next());
    for (int k = 0; k < kSumKinds; ++k)
        for (double& mine : summed_[k]) {
            const double sum = from_bits(next());
            mine = k == kMinimum ? std::min(mine, sum) : k == kMaximum ? std::max(mine, sum) : mine + sum;
        }
    for (int64_t& count : counts_) count += static_cast<int64_t>(next());
    return kFine;
}

}  // namespace fastserve::number
