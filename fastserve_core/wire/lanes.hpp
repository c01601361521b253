// Numbers of at most fifteen characters, sixteen bytes at a time (SSE2, which every x86-64 has). The end of a number is
// found first and everything else hangs off it, so the next number starts while this one is still being computed, and
// sign, length and the place of the point cost no branch.
#pragma once

#ifdef FASTSERVE_LANES

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "real.hpp"

namespace fastserve {

// Lanes read up to this many bytes before a number as well as kLookahead after it.
constexpr int64_t kLookbehind = 32;

inline __m128i load16(const void* p) noexcept { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

// kLastBytes + n: a mask of the last n of sixteen bytes.
alignas(32) constexpr uint8_t kLastBytes[32] = {0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,
                                                0,   0,   0,   0,   0,   255, 255, 255, 255, 255, 255,
                                                255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

// A number's characters [p, end): sign, digits, at most one point that is not the first or the last of them.
struct Lane {
    const char* end;
    size_t negative;  // 0 or 1, as are the next
    size_t point;
    size_t scale;    // digits after the point
    __m128i digits;  // as values 0 to 9, right-aligned, zeros before them

    // False when the text is anything else; then the other members mean nothing.
    [[gnu::always_inline]] bool read(const char* p) noexcept {
        const __m128i text = load16(p);
        // Space, control characters and the comma sort below the minus sign; bytes from 128 on do too, and are refused
        // later like any other character that cannot follow a number.
        const __m128i stop = _mm_or_si128(_mm_cmplt_epi8(text, _mm_set1_epi8('-')), _mm_cmpeq_epi8(text, _mm_set1_epi8(']')));
        const unsigned stops = static_cast<unsigned>(_mm_movemask_epi8(stop));
        if (stops == 0) return false;
        const unsigned points = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8('.'))));
        const size_t length = static_cast<size_t>(__builtin_ctz(stops));
        const size_t whole = static_cast<size_t>(__builtin_ctz(points | stops));  // characters before the point
        end = p + length;
        negative = *p == '-';
        point = whole != length;
        scale = length - whole - point;
        // The digits after the point where they end, those before it one place nearer: that closes the gap.
        const __m128i after = load16(end - 16);
        const __m128i before = load16(end - 16 - point);
        __m128i x = _mm_xor_si128(_mm_and_si128(_mm_xor_si128(after, before), load16(kLastBytes + scale)), before);
        digits = _mm_and_si128(_mm_sub_epi8(x, _mm_set1_epi8('0')), load16(kLastBytes + (length - negative - point)));
        const __m128i valid = _mm_cmpeq_epi8(_mm_subs_epu8(digits, _mm_set1_epi8(9)), _mm_setzero_si128());
        const uint8_t first = static_cast<uint8_t>(p[negative] - '0');
        if (first > 9 || whole + 1 == length || _mm_movemask_epi8(valid) != 0xFFFF) return false;
        // A leading zero stands alone before the point; the integer literal -0 is left to others.
        return whole == 1 + (negative & point) || first != 0;
    }

    // The two halves of the digits as integers below 10^8, the leading one in the low lane.
    __m128i halves() const noexcept {
        const __m128i tens = _mm_mullo_epi16(_mm_and_si128(digits, _mm_set1_epi16(0xFF)), _mm_set1_epi16(10));
        const __m128i pairs = _mm_add_epi16(tens, _mm_srli_epi16(digits, 8));
        const __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi32(1 << 16 | 100));
        return _mm_madd_epi16(_mm_packs_epi32(fours, fours), _mm_set1_epi32(1 << 16 | 10000));
    }
};

template <class Real, class = std::enable_if_t<std::is_floating_point_v<Real>>>
[[gnu::always_inline]] inline const char* read_lane(const char* p, Real& out) noexcept {
    Lane lane;
    if (!lane.read(p)) return nullptr;
    // Fifteen digits are exact in a double, and so is the division's power of ten: one rounding.
    const __m128d halves = _mm_mul_pd(_mm_cvtepi32_pd(lane.halves()), _mm_set_pd(1.0, 1e8));
    const double digits = _mm_cvtsd_f64(halves) + _mm_cvtsd_f64(_mm_unpackhi_pd(halves, halves));
    out = static_cast<Real>(digits / kExactPowers10.value[lane.negative][lane.scale]);
    return lane.end;
}

template <class T, class = std::enable_if_t<std::is_integral_v<T>>, class = void>
[[gnu::always_inline]] inline const char* read_lane(const char* p, T& out) noexcept {
    Lane lane;
    if (!lane.read(p) || lane.point) return nullptr;
    const uint64_t halves = static_cast<uint64_t>(_mm_cvtsi128_si64(lane.halves()));
    const int64_t digits = static_cast<int64_t>((halves & 0xFFFFFFFF) * 100'000'000 + (halves >> 32));
    const int64_t sign = -static_cast<int64_t>(lane.negative);
    const int64_t value = (digits ^ sign) - sign;
    out = static_cast<T>(value);
    // Fifteen digits fit in 63 bits; -0 never comes here, so that an unsigned type sees no sign.
    const bool fits = sizeof(T) == 8 ? std::is_signed_v<T> || value >= 0 : static_cast<int64_t>(out) == value;
    return fits ? lane.end : nullptr;
}

}  // namespace fastserve

#endif
