// Mean, variance and extremes of each feature's finite values, from the sums around its shift.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "number.hpp"

namespace fastserve::number {

enum Moment { kMean, kM2, kVariance, kLeast, kMost };

// An average rounds; one that no double holds stays infinite or NaN.
inline double between(double least, double mean, double most) noexcept {
    return std::isfinite(mean) ? std::clamp(mean, least, most) : mean;
}

// What whole numbers between these are rounded to as doubles; 0 where they are not.
inline double step_at(double least, double most) noexcept {
    const double farthest = std::max(std::abs(least), std::abs(most));
    return farthest > 0x1p53 ? std::nextafter(farthest, kInfinity) - farthest : 0.0;
}

// NaN too where values lie so far from the shift, or from 0, that their squares or they tell no differences.
inline double Counts::variance(int64_t f, int64_t seen, double m2) const noexcept {
    if (seen < 2) return NAN;
    const double least = summed_[kMinimum][f], most = summed_[kMaximum][f], step = step_at(least, most);
    const double found = least == most ? 0.0 : m2 / static_cast<double>(seen - 1);
    return least == most || (m2 > 1e-9 * summed_[kSquares][f] && found > 256 * step * step) ? found : NAN;
}

inline void Counts::copy_moment(const Plan& plan, int moment, double* out) noexcept {
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

}  // namespace fastserve::number
