// One JSON value of a tensor's type, by overload: `read_short` takes the common forms inline, `read_rare` all the others.
// Both look up to kLookahead bytes ahead of p, and return the byte after the value or null.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "digits.hpp"
#include "real.hpp"

namespace fastserve {

// A wire BOOL: a type of its own, so that reading one is chosen by overload.
enum class Bool : uint8_t { kFalse = 0, kTrue = 1 };

inline const char* read_short(const char* p, float& out) noexcept { return read_real_short(p, out); }
inline const char* read_short(const char* p, double& out) noexcept { return read_real_short(p, out); }

// JSON null is NaN: the one way to write a missing value.
template <class Real, class = std::enable_if_t<std::is_floating_point_v<Real>>>
inline const char* read_rare(const char* p, const char* end, Real& out) noexcept {
    if (std::memcmp(p, "null", 4) == 0) {
        out = std::numeric_limits<Real>::quiet_NaN();
        return p + 4;
    }
    double value = 0.0;
    const char* const next = read_real_wide(p, end, value);
    out = static_cast<Real>(value);
    return std::isfinite(out) ? next : nullptr;
}

inline const char* read_short(const char* p, Bool& out) noexcept {
    const bool yes = std::memcmp(p, "true", 4) == 0;
    out = yes ? Bool::kTrue : Bool::kFalse;
    if (yes) return p + 4;
    return std::memcmp(p, "false", 5) == 0 ? p + 5 : nullptr;
}

// An integer literal in the range of its type, at most twenty digits.
template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
inline const char* read_short(const char* p, T& out) noexcept {
    const uint64_t negative = *p == '-';
    p += negative;
    Digits digits(p);
    uint64_t value = 0;
    if (digits.all()) {
        if (*p == '0') return nullptr;
        value = digits.eight();
        p += 8;
        digits = Digits(p);
        if (digits.all()) {
            value = value * 100'000'000 + digits.eight();
            p += 8;
            digits = Digits(p);
            if (digits.all() || digits.count() > 4) return nullptr;
        }
    } else if (digits.count() == 0 || (*p == '0' && digits.count() > 1)) {
        return nullptr;
    }
    if (__builtin_mul_overflow(value, kPowers10[digits.count()], &value)) return nullptr;
    if (__builtin_add_overflow(value, digits.after(0), &value)) return nullptr;
    const uint64_t limit = static_cast<uint64_t>(std::numeric_limits<T>::max());
    const uint64_t negative_limit = std::is_signed_v<T> ? limit + 1 : 0;
    if (value > (negative ? negative_limit : limit)) return nullptr;
    out = static_cast<T>(negative ? ~value + 1 : value);
    return p + digits.count();
}

template <class T, class = std::enable_if_t<!std::is_floating_point_v<T>>, class = void>
inline const char* read_rare(const char*, const char*, T&) noexcept {
    return nullptr;
}

}  // namespace fastserve
