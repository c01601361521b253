// JSON number text to the nearest double, exactly, in three steps of growing cost: short decimals (Clinger), up to nineteen
// digits (Eisel and Lemire), everything else (std::from_chars).
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <system_error>

#include "digits.hpp"

namespace fastserve {

constexpr uint64_t kMaxExactInteger = uint64_t{1} << 53;
constexpr int64_t kMaxExactPower10 = 22;
constexpr int64_t kMinPower10 = -342;
constexpr int64_t kMaxPower10 = 308;

// Every power of ten that a double holds exactly, and its negative: dividing by [sign][n] scales and signs in one step.
struct ExactPowers {
    double value[2][kMaxExactPower10 + 1];
    constexpr ExactPowers() : value() {
        double power = 1.0;
        for (int64_t n = 0; n <= kMaxExactPower10; ++n, power *= 10.0) {
            value[0][n] = power;
            value[1][n] = -power;
        }
    }
};
constexpr ExactPowers kExactPowers10;

// 5^q as 128 bits with the highest one set, for every q that a double can need: rounded down, from -27 to -1 up.
struct WidePowers {
    uint64_t high[kMaxPower10 - kMinPower10 + 1];
    uint64_t low[kMaxPower10 - kMinPower10 + 1];

    constexpr WidePowers() : high(), low() {
        uint64_t power[kLimbs] = {1};
        uint64_t inverse[kLimbs] = {};  // 2^1023 / 5^n, rounded down: so is the last when every one before it is
        inverse[kLimbs - 1] = uint64_t{1} << 63;
        for (int64_t n = 0; n <= -kMinPower10; ++n) {
            if (n <= kMaxPower10) set(n, power, 0);
            if (n > 0) set(-n, inverse, n <= 27);
            unsigned __int128 carry = 0;
            unsigned __int128 rest = 0;
            for (int i = 0; i < kLimbs; ++i) {
                carry += static_cast<unsigned __int128>(power[i]) * 5;
                power[i] = static_cast<uint64_t>(carry);
                carry >>= 64;
                uint64_t& limb = inverse[kLimbs - 1 - i];
                rest = rest << 64 | limb;
                limb = static_cast<uint64_t>(rest / 5);
                rest %= 5;
            }
        }
    }

   private:
    static constexpr int kLimbs = 16;

    constexpr void set(int64_t q, const uint64_t* limbs, bool up) {
        int top = kLimbs - 1;
        while (limbs[top] == 0) --top;
        unsigned __int128 bits = 0;
        for (int i = top; i > top - 2; --i) bits = bits << 64 | (i < 0 ? 0 : limbs[i]);
        const int zeros = __builtin_clzll(limbs[top]);
        bits <<= zeros;
        if (zeros > 0 && top >= 2) bits |= limbs[top - 2] >> (64 - zeros);
        bits += up;
        high[q - kMinPower10] = static_cast<uint64_t>(bits >> 64);
        low[q - kMinPower10] = static_cast<uint64_t>(bits);
    }
};
constexpr WidePowers kWidePowers5;

inline bool scales(int64_t exponent) noexcept { return exponent >= kMinPower10 && exponent <= kMaxPower10; }

// digits * 10^exponent for digits != 0: D. Lemire, "Number parsing at a gigabyte per second" (2021); the product decides
// every case (N. Mushtak and D. Lemire, "Fast number parsing without fallback", 2023), ties can only arise for -4 to 23.
// The exponent is one that `scales`. False for what is subnormal or all but infinite.
inline bool scale_wide(uint64_t digits, int64_t exponent, bool negative, double& value) noexcept {
    const int zeros = __builtin_clzll(digits);
    const int64_t index = exponent - kMinPower10;
    digits <<= zeros;
    unsigned __int128 product = static_cast<unsigned __int128>(digits) * kWidePowers5.high[index];
    if ((static_cast<uint64_t>(product >> 64) & 0x1FF) == 0x1FF) {
        product += (static_cast<unsigned __int128>(digits) * kWidePowers5.low[index]) >> 64;
    }
    const uint64_t high = static_cast<uint64_t>(product >> 64);
    const uint64_t low = static_cast<uint64_t>(product);
    const int top = static_cast<int>(high >> 63);
    uint64_t mantissa = high >> (top + 9);
    const bool tie = low <= 1 && exponent >= -4 && exponent <= 23 && (mantissa & 3) == 1;
    if (tie && (mantissa << (top + 9)) == high) mantissa &= ~uint64_t{1};
    mantissa = (mantissa + (mantissa & 1)) >> 1;
    const int64_t power2 = ((217706 * exponent) >> 16) + 63 + top - zeros + 1023;
    if (power2 < 1 || power2 > 2045) return false;
    // A mantissa that rounded up to 2^53 carries into the exponent by itself.
    const uint64_t bits = (static_cast<uint64_t>(power2 - 1) << 52) + mantissa + (static_cast<uint64_t>(negative) << 63);
    std::memcpy(&value, &bits, 8);
    return true;
}

struct NumberSpan {
    const char* next;   // null when the grammar is wrong
    int64_t magnitude;  // decimal exponent of the leading non-zero digit, saturated
    bool zero;
};

inline NumberSpan scan_number(const char* p, const char* end) noexcept {
    constexpr NumberSpan bad{nullptr, 0, false};
    p += p < end && *p == '-';
    const char* const first = p;
    while (p < end && is_digit(*p)) ++p;
    const int64_t integer_digits = p - first;
    if (integer_digits == 0 || (integer_digits > 1 && *first == '0')) return bad;
    bool zero = *first == '0';
    int64_t magnitude = integer_digits - 1;
    if (p < end && *p == '.') {
        const char* const fraction = ++p;
        for (; p < end && is_digit(*p); ++p) {
            if (!zero || *p == '0') continue;
            zero = false;
            magnitude = fraction - p - 1;
        }
        if (p == fraction) return bad;
    }
    if (p < end && (*p | 0x20) == 'e') {
        ++p;
        const bool down = p < end && *p == '-';
        p += p < end && (*p == '-' || *p == '+');
        const char* const digits = p;
        int64_t exponent = 0;
        for (; p < end && is_digit(*p); ++p) {
            if (exponent < int64_t{1} << 50) exponent = exponent * 10 + (*p - '0');
        }
        if (p == digits) return bad;
        magnitude += down ? -exponent : exponent;
    }
    return {p, magnitude, zero};
}

// Any JSON number, at the library's pace. Null for wrong grammar, for a number that runs up to `end` (more may belong
// to it) and for one beyond the double range.
inline const char* read_real_any(const char* p, const char* end, double& value) noexcept {
    const NumberSpan span = scan_number(p, end);
    if (span.next == nullptr || span.next == end) return nullptr;
    const auto result = std::from_chars(p, span.next, value);
    if (result.ec == std::errc::result_out_of_range) {
        if (span.magnitude >= 0 && !span.zero) return nullptr;
        value = *p == '-' ? -0.0 : 0.0;  // below every subnormal
    }
    return std::isfinite(value) ? span.next : nullptr;
}

// Digits from p on, appended to `sum`, which wraps when they are too many: the caller counts them. Null when they reach
// too far from `text` for kLookahead.
inline const char* read_digits(const char* p, const char* text, uint64_t& sum) noexcept {
    Digits digits(p);
    for (; digits.all(); digits = Digits(p)) {
        if (p - text > 24) return nullptr;
        sum = sum * 100'000'000 + digits.eight();
        p += 8;
    }
    sum = digits.after(sum);
    return p + digits.count();
}

// Up to nineteen significant digits with any exponent; hands the rest on.
[[gnu::noinline]] inline const char* read_real_wide(const char* text, const char* end, double& value) noexcept {
    const bool negative = *text == '-';
    const char* const first = text + negative;
    uint64_t digits = 0;
    int64_t exponent = 0;
    const char* p = read_digits(first, text, digits);
    if (p == nullptr) return read_real_any(text, end, value);
    if (p == first || (*first == '0' && p - first > 1)) return nullptr;
    int64_t count = p - first;
    if (*p == '.') {
        const char* const fraction = p + 1;
        p = read_digits(fraction, text, digits);
        if (p == nullptr) return read_real_any(text, end, value);
        if (p == fraction) return nullptr;
        exponent = fraction - p;
        count -= exponent;
    }
    if ((*p | 0x20) == 'e') {
        const bool down = p[1] == '-';
        p += down || p[1] == '+' ? 2 : 1;
        const Digits power(p);
        if (power.all()) return read_real_any(text, end, value);
        if (power.count() == 0) return nullptr;
        const int64_t shift = static_cast<int64_t>(power.after(0));
        exponent += down ? -shift : shift;
        p += power.count();
    }
    for (const char* q = first; count > 19 && (*q == '0' || *q == '.'); ++q) count -= *q == '0';
    if (count > 19) return read_real_any(text, end, value);
    if (digits == 0) {
        value = negative ? -0.0 : 0.0;
        return p;
    }
    return scales(exponent) && scale_wide(digits, exponent, negative, value) ? p : read_real_any(text, end, value);
}

// The hot case: at most sixteen digits, no exponent, the point after the first digit or at most seven digits on either
// side of it. Returns the byte after the number, which the caller checks to be a separator; null when it is not that case.
template <class Real>
[[gnu::always_inline]] inline const char* read_real_short(const char* p, Real& out) noexcept {
    const uint64_t negative = *p == '-';
    p += negative;
    uint64_t digits;
    uint64_t scale;
    if (p[1] == '.') {
        digits = static_cast<uint8_t>(*p - '0');
        if (digits > 9) return nullptr;
        const char* const fraction = p += 2;
        Digits next(p);
        if (next.all()) {
            digits = digits * 100'000'000 + next.eight();
            p += 8;
            next = Digits(p);
            if (next.all()) return nullptr;
        } else if (next.count() == 0) {
            return nullptr;
        }
        digits = next.after(digits);
        p += next.count();
        scale = static_cast<uint64_t>(p - fraction);
    } else {
        Digits next(p);
        if (next.all() || next.count() == 0 || (*p == '0' && next.count() > 1)) return nullptr;
        digits = next.after(0);
        p += next.count();
        scale = 0;
        if (*p == '.') {
            next = Digits(++p);
            if (next.all() || next.count() == 0) return nullptr;
            digits = next.after(digits);
            p += next.count();
            scale = next.count();
        }
    }
    if ((*p | 0x20) == 'e' || digits > kMaxExactInteger) return nullptr;
    // An exact integer divided by an exact power of ten rounds once.
    out = static_cast<Real>(static_cast<double>(static_cast<int64_t>(digits)) / kExactPowers10.value[negative][scale]);
    return p;
}

}  // namespace fastserve
