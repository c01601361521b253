// One JSON value of a tensor's type, by overload: `read_common` takes the usual forms inline, `read_rare` the others.
// Both return the byte after the value, which the caller checks to be a separator, or null. They read up to
// kCommonLookahead and kLookahead bytes from p on and kLookbehind bytes before it, whatever those bytes are.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "digits.hpp"
#include "real.hpp"
#include "series.hpp"

namespace fastserve {

// A wire BOOL: a type of its own, so that reading one is chosen by overload.
enum class Bool : uint8_t { kFalse = 0, kTrue = 1 };

// An integer literal in the range of its type, at most twenty digits.
template <class T>
inline const char* read_integer(const char* p, T& out) noexcept {
    const bool negative = *p == '-';
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

#ifdef FASTSERVE_LANES
// `read_common` is called only where this much text is left, which is one byte more than it can consume.
constexpr int64_t kCommonLookahead = 17;

template <class T>
[[gnu::always_inline]] inline const char* read_common(const char* p, T& out) noexcept {
    return read_lane(p, out);
}
#else
constexpr int64_t kLookbehind = 1;
constexpr int64_t kCommonLookahead = kLookahead;

template <class T>
[[gnu::always_inline]] inline const char* read_common(const char* p, T& out) noexcept {
    if constexpr (std::is_floating_point_v<T>) {
        return read_real_short(p, out);
    } else {
        return read_integer(p, out);
    }
}
#endif

// Numbers one after the other, as `read_series` takes them; null when that is not possible here.
template <class T>
inline const char* read_several(const char* p, const char* end, T*& to, const T* stop) noexcept {
#ifdef FASTSERVE_LANES
    if constexpr (std::is_floating_point_v<T>) {
        if (end - p >= kLookahead) return read_series(p, end - kLookahead, to, stop);
    }
#endif
    return nullptr;
}

// Whether several are read faster than one by one, whatever their lengths.
template <class T>
inline bool prefers_several() noexcept {
    return std::is_same_v<T, float> && wide::enabled;
}

inline const char* read_common(const char* p, Bool& out) noexcept {
    const bool yes = std::memcmp(p, "true", 4) == 0;
    out = yes ? Bool::kTrue : Bool::kFalse;
    if (yes) return p + 4;
    return std::memcmp(p, "false", 5) == 0 ? p + 5 : nullptr;
}

inline const char* read_rare(const char*, const char*, Bool&) noexcept { return nullptr; }

// JSON null is NaN in a tensor of floats: the one way to write a missing value.
template <class T>
inline const char* read_rare(const char* p, const char* end, T& out) noexcept {
    if constexpr (std::is_integral_v<T>) {
        return read_integer(p, out);
    } else {
        if (std::memcmp(p, "null", 4) == 0) {
            out = std::numeric_limits<T>::quiet_NaN();
            return p + 4;
        }
        double value = 0.0;
        const char* next = nullptr;
#ifdef FASTSERVE_LANES
        next = read_power(p, value);
#endif
        if (next == nullptr) next = read_real_wide(p, end, value);
        out = static_cast<T>(value);
        if (__builtin_expect(!std::isfinite(out), 0)) {
            asm volatile("");  // keeps this a branch: a conditional move would make the next number wait for this one
            return nullptr;
        }
        return next;
    }
}

}  // namespace fastserve
