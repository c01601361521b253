// Numbers sixteen characters at a time (SSE2, which every x86-64 has). The end of a number is found first and everything
// else hangs off it, so the next number starts while this one is still being computed, and sign, length and the place of
// the point cost no branch.
#pragma once

#if defined(__SSE2__) && !defined(FASTSERVE_NO_LANES)
#define FASTSERVE_LANES 1

#include <emmintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "real.hpp"

namespace fastserve {

// Lanes read up to this many bytes before a number as well as kLookahead after its start.
constexpr int64_t kLookbehind = 17;

inline __m128i load16(const void* p) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

// A mask of the last n of sixteen bytes, for n from -16 (none) to 32 (all).
struct LastBytes {
    uint8_t window[64];
    constexpr LastBytes() : window() {
        for (int i = 32; i < 64; ++i) window[i] = 0xFF;
    }
    __m128i operator()(size_t n) const noexcept { return load16(window + (16 + static_cast<ptrdiff_t>(n))); }
};
alignas(64) constexpr LastBytes kLastBytes;

// What an integer is divided by for the sign and for what follows its whole digits: nothing for gap 0, the point and
// gap - 1 digits otherwise.
struct LaneDivisors {
    double at[2][16];
    constexpr LaneDivisors() : at() {
        for (int64_t gap = 0; gap < 16; ++gap) {
            for (int sign = 0; sign < 2; ++sign) at[sign][gap] = kExactPowers10.value[sign][gap ? gap - 1 : 0];
        }
    }
};
constexpr LaneDivisors kLaneDivisors;

// Marks the characters that may follow a number: what sorts below the minus sign (space, control characters, the comma)
// and the closing bracket; also bytes that no number holds, which are refused later like any other wrong follower.
inline unsigned lane_stops(__m128i text) noexcept {
    const __m128i below = _mm_sub_epi8(text, _mm_set1_epi8('-'));
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(below, _mm_cmpeq_epi8(text, _mm_set1_epi8(']')))));
}

inline unsigned lane_points(__m128i text) noexcept {
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8('.'))));
}

// Sixteen characters up to `end` as digit values. A point stands before the last `after` of them: the digits before it
// come from one place nearer, which closes the gap. All but the last `count` become 0.
[[gnu::always_inline]] inline __m128i lane_digits(const char* end, size_t point, size_t after, size_t count) noexcept {
    const __m128i behind = load16(end - 16);
    const __m128i before = load16(end - 16 - point);
    const __m128i text = _mm_xor_si128(_mm_and_si128(_mm_xor_si128(behind, before), kLastBytes(after)), before);
    return _mm_and_si128(_mm_sub_epi8(text, _mm_set1_epi8('0')), kLastBytes(count));
}

inline bool lane_valid(__m128i digits) noexcept {
    return _mm_movemask_epi8(_mm_adds_epu8(digits, _mm_set1_epi8(127 - 9))) == 0;
}

// Sixteen digits as four integers below 10^4, the leading one in the lowest lane.
[[gnu::always_inline]] inline __m128i lane_fours(__m128i digits) noexcept {
    // high + 256 * low, times 2561, is 256 * (10 * high + low) + high.
    __m128i tens = _mm_set1_epi16(2561);
    asm("" : "+x"(tens));  // or gcc makes four instructions of the multiplication
    const __m128i pairs = _mm_srli_epi16(_mm_mullo_epi16(digits, tens), 8);
    return _mm_madd_epi16(pairs, _mm_set1_epi32(1 << 16 | 100));
}

// The halves of sixteen digits twice as integers below 10^8, those of `low` in the low half, the leading one lower.
[[gnu::always_inline]] inline __m128i lane_halves(__m128i low, __m128i high) noexcept {
    const __m128i fours = _mm_packs_epi32(lane_fours(low), lane_fours(high));
    return _mm_madd_epi16(fours, _mm_set1_epi32(1 << 16 | 10000));
}

[[gnu::always_inline]] inline __m128i lane_halves(__m128i digits) noexcept {
    const __m128i fours = lane_fours(digits);
    return _mm_madd_epi16(_mm_packs_epi32(fours, fours), _mm_set1_epi32(1 << 16 | 10000));
}

inline uint64_t join_halves(__m128i halves) noexcept {
    const uint64_t both = static_cast<uint64_t>(_mm_cvtsi128_si64(halves));
    return (both & 0xFFFFFFFF) * 100'000'000 + (both >> 32);
}

// A number's characters [p, end): sign, digits, at most one point that is not the first or the last of them.
struct Lane {
    const char* end;
    size_t negative;  // 0 or 1
    size_t gap;       // characters from the point on; 0 without one
    size_t count;     // digits

    // False when sign, point and leading zeros are not where they may be; the digits are still to be checked. The last
    // two are for the character `length` past p, which ends the number, and the first point before it or `length`.
    [[gnu::always_inline]] bool measure(const char* p, unsigned stops, unsigned points) noexcept {
        const size_t length = static_cast<unsigned>(__builtin_ctz(stops));
        const size_t whole = static_cast<unsigned>(__builtin_ctz(points | stops));
        end = p + length;
        negative = *p == '-';
        gap = length - whole;
        count = length - negative - point();
        if (gap == 1) return false;
        return whole - negative == 1 || (whole != negative && p[negative] != '0');
    }

    size_t point() const noexcept { return gap != 0; }
};

// Up to fifteen characters.
template <class Real, class = std::enable_if_t<std::is_floating_point_v<Real>>>
[[gnu::always_inline]] inline const char* read_lane(const char* p, Real& out) noexcept {
    const __m128i text = load16(p);
    const unsigned stops = lane_stops(text);
    Lane lane;
    if (stops == 0 || !lane.measure(p, stops, lane_points(text))) return nullptr;
    const __m128i digits = lane_digits(lane.end, lane.point(), lane.gap - 1, lane.count);
    if (!lane_valid(digits)) return nullptr;
    // Fifteen digits are exact in a double, and so is the power of ten: the division rounds, nothing else does.
    const __m128d halves = _mm_mul_pd(_mm_cvtepi32_pd(lane_halves(digits)), _mm_set_pd(1.0, 1e8));
    const double integer = _mm_cvtsd_f64(halves) + _mm_cvtsd_f64(_mm_unpackhi_pd(halves, halves));
    out = static_cast<Real>(integer / kLaneDivisors.at[lane.negative][lane.gap]);
    return lane.end;
}

template <class T, class = std::enable_if_t<std::is_integral_v<T>>, class = void>
[[gnu::always_inline]] inline const char* read_lane(const char* p, T& out) noexcept {
    const unsigned stops = lane_stops(load16(p));
    Lane lane;
    if (stops == 0 || !lane.measure(p, stops, 0)) return nullptr;
    const __m128i digits = lane_digits(lane.end, 0, 0, lane.count);
    if (!lane_valid(digits)) return nullptr;
    const int64_t sign = -static_cast<int64_t>(lane.negative);
    const int64_t value = (static_cast<int64_t>(join_halves(lane_halves(digits))) ^ sign) - sign;
    out = static_cast<T>(value);
    // Fifteen digits fit in 63 bits.
    const bool fits = sizeof(T) == 8 ? std::is_signed_v<T> || value >= 0 : static_cast<int64_t>(out) == value;
    return fits ? lane.end : nullptr;
}

inline unsigned lane_powers(__m128i text) noexcept {
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_or_si128(text, _mm_set1_epi8(0x20)), _mm_set1_epi8('e'))));
}

inline unsigned lane_zeros(__m128i digits) noexcept {
    return static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(digits, _mm_setzero_si128())));
}

// What follows an e: a sign or none and up to three digits, added to `exponent`. `stops` are those from p on.
inline const char* lane_exponent(const char* p, const char* power, unsigned stops, int64_t& exponent) noexcept {
    const unsigned up = *power == '+';
    const unsigned down = *power == '-';
    stops &= stops - up;  // the plus sign is among them, the first
    if (stops == 0) return nullptr;
    const char* const end = p + __builtin_ctz(stops);
    const size_t count = static_cast<size_t>(end - power) - (up | down);
    if (count - 1 > 2) return nullptr;
    uint32_t digits;
    std::memcpy(&digits, end - 4, 4);
    digits = (digits ^ 0x30303030) & (~uint32_t{0} << (32 - 8 * count));
    if (((digits + 0x76767676) | digits) & 0x80808080) return nullptr;
    const int64_t value = (digits >> 24) + (digits >> 16 & 0xFF) * 10 + (digits >> 8 & 0xFF) * 100;
    const int64_t sign = -static_cast<int64_t>(down);
    exponent += (value ^ sign) - sign;
    return end;
}

// Up to thirty-one characters with at most nineteen digits after leading zeros: what doubles print as. With an exponent
// (kPower) or, in two thirds of the time, without one and sixteen characters at least.
template <bool kPower>
[[gnu::always_inline]] inline const char* read_long(const char* p, double& out) noexcept {
    const __m128i text = load16(p);
    const __m128i more = load16(p + 16);
    const unsigned early = lane_stops(text);
    const unsigned stops = lane_stops(more) << 16 | early;
    const unsigned powers = kPower ? lane_powers(more) << 16 | lane_powers(text) : 0;
    if (kPower ? powers == 0 : early != 0 || stops == 0) return nullptr;
    Lane lane;
    if (!lane.measure(p, stops | powers, lane_points(more) << 16 | lane_points(text))) return nullptr;
    const size_t after = lane.gap - lane.point();
    const char* const middle = kPower && lane.end - p < 16 ? p : lane.end - 16;
    const __m128i low = lane_digits(lane.end, lane.point(), after, lane.count);
    const __m128i high = lane_digits(middle, lane.point(), after - 16, lane.count - 16);
    if (!lane_valid(_mm_max_epu8(low, high))) return nullptr;
    if (lane.count > 19 && (~lane_zeros(high) & 0x1FFF) != 0) return nullptr;
    const __m128i halves = lane_halves(low, high);
    const uint64_t head = static_cast<uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(halves, halves))) >> 32;
    const uint64_t digits = head * 10'000'000'000'000'000 + join_halves(halves);
    int64_t exponent = -static_cast<int64_t>(after);
    const char* next = lane.end;
    if (kPower && (*next | 0x20) == 'e') {
        next = lane_exponent(p, next + 1, stops, exponent);
        if (next == nullptr || !scales(exponent)) return nullptr;
    }
    if (digits == 0) {
        out = lane.negative ? -0.0 : 0.0;
        return next;
    }
    return scale_wide(digits, exponent, lane.negative, out) ? next : nullptr;
}

[[gnu::noinline]] inline const char* read_power(const char* p, double& out) noexcept { return read_long<true>(p, out); }

}  // namespace fastserve

#endif
