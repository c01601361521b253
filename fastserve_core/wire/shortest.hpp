// Floating-point numbers to the shortest text that reads back identical, in Python's notation: 0.1, 1.0, 1e-05, 1e+16.
//
// Raffaello Giulietti, "The Schubfach way to render doubles", 2022; names and the round-to-odd form follow Alexander
// Bolz's implementation in the Drachennest collection. Takes two thirds of libstdc++'s std::to_chars' time.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace fastserve::answer {

// 10^k for -292 <= k <= 324, scaled to 128 bits with the highest one set and rounded up. Filled when the module is
// imported: with big integers at hand that is one line, as a literal it would be a table of 617 lines. An extension
// that includes this file has its own table: only the encoder fills one, and only it may write numbers.
struct Power {
    uint64_t high, low;
};
constexpr int LOWEST_POWER = -292, HIGHEST_POWER = 324;
inline Power powers[HIGHEST_POWER - LOWEST_POWER + 1];

inline void set_power(int k, uint64_t high, uint64_t low) noexcept { powers[k - LOWEST_POWER] = {high, low}; }

struct Decimal {
    uint64_t digits;
    int exponent;  // value = digits * 10^exponent
};

template <typename Real>
struct Layout;

template <>
struct Layout<double> {
    using Bits = uint64_t;
    static constexpr int FRACTION_BITS = 52, BIAS = 1075, EXPONENT_MASK = 0x7ff;

    // (power * factor) / 2^128, with the last bit set when anything was cut off.
    static uint64_t scale(const Power& power, uint64_t factor) noexcept {
        const unsigned __int128 low = static_cast<unsigned __int128>(power.low) * factor;
        const unsigned __int128 high = static_cast<unsigned __int128>(power.high) * factor;
        const unsigned __int128 sum = high + static_cast<uint64_t>(low >> 64);
        return static_cast<uint64_t>(sum >> 64) | (static_cast<uint64_t>(sum) > 1);
    }
};

template <>
struct Layout<float> {
    using Bits = uint32_t;
    static constexpr int FRACTION_BITS = 23, BIAS = 150, EXPONENT_MASK = 0xff;

    static uint64_t scale(const Power& power, uint64_t factor) noexcept {
        const uint64_t rounded_up = power.high + (power.low != 0);
        const unsigned __int128 product = static_cast<unsigned __int128>(rounded_up) * factor;
        return static_cast<uint64_t>(product >> 64) | (static_cast<uint32_t>(product >> 32) > 1);
    }
};

// The shortest decimal within the rounding interval of a positive finite number, the closest among those.
template <typename Real>
inline Decimal shortest(typename Layout<Real>::Bits bits) noexcept {
    using L = Layout<Real>;
    const uint64_t fraction = bits & ((uint64_t{1} << L::FRACTION_BITS) - 1);
    const int biased = static_cast<int>(bits >> L::FRACTION_BITS);
    const uint64_t c = biased ? fraction | (uint64_t{1} << L::FRACTION_BITS) : fraction;
    const int q = (biased ? biased : 1) - L::BIAS;
    if (q <= 0 && q > -L::FRACTION_BITS - 1 && (c & ((uint64_t{1} << -q) - 1)) == 0) return {c >> -q, 0};

    const bool odd = c & 1, lower_is_closer = fraction == 0 && biased > 1;
    const int k = (q * 1262611 - (lower_is_closer ? 524031 : 0)) >> 22;  // floor(log10(interval width))
    const int h = q + ((-k * 1741647) >> 19) + 1;
    const Power& power = powers[-k - LOWEST_POWER];
    const uint64_t lower = L::scale(power, (4 * c - 2 + lower_is_closer) << h) + odd;
    const uint64_t middle = L::scale(power, (4 * c) << h);
    const uint64_t upper = L::scale(power, (4 * c + 2) << h) - odd;

    const uint64_t s = middle / 4;
    if (s >= 10) {
        const uint64_t tens = s / 10;
        const bool down = lower <= 40 * tens, up = 40 * tens + 40 <= upper;
        if (down != up) return {tens + up, k + 1};
    }
    const bool down = lower <= 4 * s, up = 4 * s + 4 <= upper;
    if (down != up) return {s + up, k};
    const uint64_t half = 4 * s + 2;
    return {s + (middle > half || (middle == half && (s & 1))), k};
}

constexpr uint64_t ASCII_ZEROS = 0x3030303030303030;

// Eight decimal digits as the bytes 0 to 9, the first digit in the lowest byte: halves, quarters and digits at once.
inline uint64_t eight_digits(uint32_t number) noexcept {
    const uint64_t halves = number / 10000 | static_cast<uint64_t>(number % 10000) << 32;
    const uint64_t hundreds = (halves * 10486 >> 20) & 0x0000007f0000007f;
    const uint64_t quarters = hundreds | (halves - hundreds * 100) << 16;
    const uint64_t tens = (quarters * 103 >> 10) & 0x000f000f000f000f;
    return tens | (quarters - tens * 10) << 8;
}

struct Digits17 {
    char text[40];  // readers copy 17 bytes from any digit
    int first, count, zeros;  // leading zeros left out; `zeros` of the `count` digits stand at the end

    explicit Digits17(uint64_t number) noexcept {
        const uint64_t upper = number / 100000000;
        const uint64_t low = eight_digits(static_cast<uint32_t>(number % 100000000));
        const uint64_t low_text = low + ASCII_ZEROS;
        std::memcpy(text + 9, &low_text, 8);
        zeros = low ? __builtin_clzll(low) / 8 : 8;
        if (upper == 0) {
            first = 9 + __builtin_ctzll(low) / 8;
        } else {
            const uint64_t top = upper / 100000000;
            const uint64_t high = eight_digits(static_cast<uint32_t>(upper % 100000000));
            const uint64_t high_text = high + ASCII_ZEROS;
            text[0] = static_cast<char>('0' + top);
            std::memcpy(text + 1, &high_text, 8);
            first = top ? 0 : 1 + __builtin_ctzll(high) / 8;
            if (zeros == 8) zeros += high ? __builtin_clzll(high) / 8 : 8;
        }
        count = 17 - first;
    }
};

inline char* write_exponent(char* at, int exponent) noexcept {
    *at++ = 'e';
    *at++ = exponent < 0 ? '-' : '+';
    const int size = exponent < 0 ? -exponent : exponent;
    if (size >= 100) *at++ = static_cast<char>('0' + size / 100);
    *at++ = static_cast<char>('0' + size / 10 % 10);
    *at++ = static_cast<char>('0' + size % 10);
    return at;
}

// At most 24 characters; up to 34 are overwritten.
inline char* write_decimal(char* at, Decimal decimal) noexcept {
    const Digits17 all(decimal.digits);
    const char* const digits = all.text + all.first;
    const int count = all.count - all.zeros;
    const int point = all.count + decimal.exponent;  // digits before the decimal point
    if (point > 16 || point < -3) {
        *at++ = digits[0];
        if (count > 1) {
            *at = '.';
            std::memcpy(at + 1, digits + 1, 17);
            at += count;
        }
        return write_exponent(at, point - 1);
    }
    if (point <= 0) {
        std::memcpy(at, "0.000", 5);
        std::memcpy(at + 2 - point, digits, 17);
        return at + 2 - point + count;
    }
    std::memcpy(at, digits, 17);
    if (point < count) {
        at[point] = '.';
        std::memcpy(at + point + 1, digits + point, 17);
        return at + count + 1;
    }
    std::memset(at + count, '0', static_cast<size_t>(point - count));
    std::memcpy(at + point, ".0", 2);
    return at + point + 2;
}

// NaN and infinities are null. The caller leaves 35 bytes.
template <typename Real>
inline char* write_real(char* at, Real value) noexcept {
    using L = Layout<Real>;
    typename L::Bits bits;
    std::memcpy(&bits, &value, sizeof bits);
    constexpr int sign = sizeof bits * 8 - 1;
    *at = '-';
    at += bits >> sign;
    bits &= static_cast<typename L::Bits>(~(typename L::Bits{1} << sign));
    if (static_cast<int>(bits >> L::FRACTION_BITS) == L::EXPONENT_MASK) {
        at -= std::signbit(value);
        std::memcpy(at, "null", 4);
        return at + 4;
    }
    if (bits == 0) {
        std::memcpy(at, "0.0", 3);
        return at + 3;
    }
    // The one float (of all, tried) whose shortest text names a double half-way between two floats: JSON numbers are
    // read by way of the double, so it gets the double's text.
    if constexpr (sizeof(Real) == 4) {
        if (bits == 0x15ae43fd) return write_decimal(at, shortest<double>(0x3ab5c87fa0000000));
    }
    return write_decimal(at, shortest<Real>(bits));
}

}  // namespace fastserve::answer
