// Floating-point numbers one after the other, of any form.
#pragma once

#include "lanes.hpp"
#include "wide_lane.hpp"

#ifdef FASTSERVE_LANES

namespace fastserve {

// What most doubles print as is tried first: where one is long, the next one seldom is not.
template <class Real>
inline const char* read_plain(const char* p, Real& out) noexcept {
    double value;
    const char* const next = read_long<false>(p, value);
    if (__builtin_expect(next == nullptr, 0)) return read_lane(p, out);
    out = static_cast<Real>(value);  // below 10^31
    return next;
}

// Numbers without exponent, up to one that begins behind `limit`. Returns what stands behind the last one, null when
// there is none; `to` is moved on.
template <class Real>
inline const char* read_plains(const char* p, const char* limit, Real*& to, const Real* stop) noexcept {
    const char* found = nullptr;
    while (p <= limit) {
        const char* const next = read_plain(p, *to);
        if (next == nullptr) break;
        found = next;
        if (++to == stop || *next != ',') break;
        p = next + 1;
        if (*p == ' ') {
            asm volatile("");  // keeps this a branch: as arithmetic it would delay every number by a load
            ++p;
        }
    }
    return found;
}

// The same for numbers of any form.
template <auto kReadUsual, class Real>
inline const char* read_all(const char* p, const char* limit, Real*& out, const Real* stop) noexcept {
    const char* found = nullptr;
    Real* to = out;  // for a register
    while (p <= limit) {
        const char* next = kReadUsual(p, limit, to, stop);
        if (next == nullptr) {
            double power = 0.0;
            next = read_power(p, power);
            *to = static_cast<Real>(power);
            if (next == nullptr || !std::isfinite(*to)) break;
            ++to;
        }
        found = next;
        if (to == stop || *next != ',') break;
        p = next + 1 + (next[1] == ' ');
    }
    out = to;
    return found;
}

#ifdef FASTSERVE_WIDE_LANE
[[gnu::noinline, gnu::flatten, gnu::target(FASTSERVE_WIDE_LANE)]] inline const char* read_series_wide(
    const char* p, const char* limit, float*& to, const float* stop) noexcept {
    return read_all<wide::read_usual>(p, limit, to, stop);
}
#endif

// The same; `limit` is kLookahead before the text's end.
template <class Real>
[[gnu::noinline]] const char* read_series(const char* p, const char* limit, Real*& to, const Real* stop) noexcept {
#ifdef FASTSERVE_WIDE_LANE
    if constexpr (std::is_same_v<Real, float>) {
        if (wide::enabled) return read_series_wide(p, limit, to, stop);
    }
#endif
    return read_all<read_plains<Real>>(p, limit, to, stop);
}

}  // namespace fastserve

#endif
