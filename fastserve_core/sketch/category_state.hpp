// The counts of a category sketch as bytes, and back: what processes send each other and what files keep.
//
//   magic "FSKC", version u16, features u64, categories u64, fingerprint u64        header
//   rows i64, missing i64[features], unseen i64[features], counts i64[categories]   all little-endian
#pragma once

#include "category.hpp"

namespace fastserve::category {

inline Header header_of(const Plan& plan) noexcept {
    return {"FSKC", 1, plan.features(), plan.categories(), plan.fingerprint(), Counts::state_bytes(plan)};
}

inline void Counts::write(const Plan& plan, char* out, bool then_clear) noexcept {
    const std::lock_guard<std::mutex> turn(mutex_);
    header_of(plan).write(out);
    put(out, static_cast<uint64_t>(rows_));
    for (const auto* each : {&missing_, &unseen_, &counts_})
        for (const int64_t count : *each) put(out, static_cast<uint64_t>(count));
    if (then_clear) clear();
}

// Whether the feature's counts are not negative and sum to the rows; every partial sum stays below 2^64.
inline Problem check_feature(const Plan& plan, const char* body, int64_t f) noexcept {
    const int64_t features = plan.features();
    const uint64_t rows = load(body);
    uint64_t sum = 0;
    const auto add = [&](int64_t at) {
        const uint64_t count = load(body + 8 * at);
        if (count >> 63) return kNegative;
        sum += count;
        return sum > rows ? kDisagree : kFine;
    };
    if (rows >> 63) return kNegative;
    if (const Problem problem = add(1 + f)) return problem;
    if (const Problem problem = add(1 + features + f)) return problem;
    for (int64_t i = plan.offsets[f]; i < plan.offsets[f + 1]; ++i)
        if (const Problem problem = add(1 + 2 * features + i)) return problem;
    return sum == rows ? kFine : kDisagree;
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
        const auto count = static_cast<int64_t>(load(at));
        at += 8;
        return count;
    };
    const std::lock_guard<std::mutex> turn(mutex_);
    if (!add_rows(next())) return kTooManyRows;
    for (auto* each : {&missing_, &unseen_, &counts_})
        for (int64_t& count : *each) count += next();
    return kFine;
}

}  // namespace fastserve::category
