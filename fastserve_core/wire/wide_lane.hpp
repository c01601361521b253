// A float of up to thirty-one characters in one register, where the processor has AVX2: its digits stand at the head of
// thirty-two, whatever its length, so that no length costs a branch.
#pragma once

#include "lanes.hpp"

#if defined(FASTSERVE_LANES) && defined(__x86_64__)
#define FASTSERVE_WIDE_LANE "avx2,bmi,bmi2"

#include <immintrin.h>

#define FASTSERVE_WIDE [[gnu::always_inline, gnu::target(FASTSERVE_WIDE_LANE)]] inline

namespace fastserve::wide {

inline bool available() noexcept {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

FASTSERVE_WIDE __m256i load32(const void* p) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

template <char kByte>
struct Filled {
    alignas(32) char bytes[32];
    constexpr Filled() : bytes() {
        for (char& byte : bytes) byte = kByte;
    }
};
template <char kByte>
constexpr Filled<kByte> kFilled;

// From memory: the compiler would make these bytes anew for every number, in three instructions.
template <char kByte>
FASTSERVE_WIDE __m256i all() noexcept {
    __m256i out;
    asm("vmovdqa %1, %0" : "=x"(out) : "m"(kFilled<kByte>));
    return out;
}

// A mask of the first n of thirty-two bytes.
struct FirstBytes {
    uint8_t window[64];
    constexpr FirstBytes() : window() {
        for (int i = 0; i < 32; ++i) window[i] = 0xFF;
    }
    FASTSERVE_WIDE __m256i operator()(size_t n) const noexcept { return load32(window + 32 - n); }
};
alignas(64) constexpr FirstBytes kFirstBytes;

// 10^(whole - 32) and its negative, for the sign of a number and its whole digits, which an exponent makes more or fewer:
// within bounds where no float is subnormal or infinite.
constexpr int64_t kLeastWhole = -32, kMostWhole = 31;
struct Scales {
    double at[2][kMostWhole - kLeastWhole + 1];
    constexpr Scales() : at() {
        long double power = 1;
        for (int64_t i = kMostWhole - kLeastWhole; i >= 0; --i) {
            power *= 10;
            at[0][i] = static_cast<double>(1 / power);
            at[1][i] = -at[0][i];
        }
    }
    double operator()(size_t negative, int64_t whole) const noexcept { return at[negative][whole - kLeastWhole]; }
};
constexpr Scales kScales;

// Like lane_stops; with kPower letters too, as the digits end where an exponent begins.
template <bool kPower>
FASTSERVE_WIDE unsigned stops(__m256i text) noexcept {
    const __m256i above = kPower ? _mm256_cmpgt_epi8(text, all<'9'>()) : _mm256_cmpeq_epi8(text, all<']'>());
    return static_cast<unsigned>(_mm256_movemask_epi8(_mm256_or_si256(_mm256_sub_epi8(text, all<'-'>()), above)));
}

FASTSERVE_WIDE unsigned points(__m256i text) noexcept {
    return static_cast<unsigned>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(text, all<'.'>())));
}

// The digits from p on as values, zeros after them. Those after the point come from one place farther on.
FASTSERVE_WIDE __m256i digits(const char* p, size_t whole, size_t count) noexcept {
    const __m256i first = load32(p);
    const __m256i rest = load32(p + 1);
    const __m256i text = _mm256_xor_si256(_mm256_and_si256(_mm256_xor_si256(first, rest), kFirstBytes(whole)), rest);
    return _mm256_and_si256(_mm256_sub_epi8(text, all<'0'>()), kFirstBytes(count));
}

FASTSERVE_WIDE bool valid(__m256i digits) noexcept {
    return _mm256_movemask_epi8(_mm256_adds_epu8(digits, all<127 - 9>())) == 0;
}

// Thirty-two digits as a double, off by a few units in the last place.
FASTSERVE_WIDE double near(__m256i digits) noexcept {
    const __m256i pairs = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(1 << 8 | 10));
    const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(1 << 16 | 100));
    const __m256i eights = _mm256_madd_epi16(_mm256_packus_epi32(fours, fours), _mm256_set1_epi32(1 << 16 | 10000));
    const __m128d first = _mm_mul_pd(_mm_cvtepi32_pd(_mm256_castsi256_si128(eights)), _mm_set_pd(1e16, 1e24));
    const __m128d last = _mm_mul_pd(_mm_cvtepi32_pd(_mm256_extracti128_si256(eights, 1)), _mm_set_pd(1.0, 1e8));
    const __m128d sums = _mm_add_pd(first, last);
    return _mm_cvtsd_f64(sums) + _mm_cvtsd_f64(_mm_unpackhi_pd(sums, sums));
}

// A number whose digits end at the first of `ends`. Null also for one at the middle of two floats or all but there: a
// double beside any other becomes the same float as the nearest double does.
template <bool kPower>
FASTSERVE_WIDE const char* read_real(const char* p, unsigned ends, float& out) noexcept {
    constexpr uint32_t kMiddle = 1U << 28, kDropped = (1U << 29) - 1, kOff = 16;
    Lane lane;
    if (ends == 0 || !lane.measure(p, ends, points(load32(p)))) return nullptr;
    int64_t whole = static_cast<int64_t>(lane.count + lane.point() - lane.gap);
    const __m256i values = digits(p + lane.negative, static_cast<size_t>(whole), lane.count);
    if (!valid(values)) return nullptr;
    const char* next = lane.end;
    if (kPower && (*next | 0x20) == 'e') {
        next = lane_exponent(p, next + 1, ends & (ends - 1), whole);
        if (next == nullptr || whole < kLeastWhole || whole > kMostWhole || p[lane.negative] == '0') return nullptr;
    }
    const double value = near(values) * kScales(lane.negative, whole);
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    out = static_cast<float>(value);  // 0 or from 10^-33 to 10^31
    return ((static_cast<uint32_t>(bits) - kMiddle + kOff) & kDropped) > 2 * kOff ? next : nullptr;
}

// Two numbers share one look for ends, or the next would have to wait for each.
template <bool kPower>
FASTSERVE_WIDE const char* read_reals(const char* p, const char* limit, float*& to, const float* stop) noexcept {
    const char* found = nullptr;
    while (p <= limit) {
        uint64_t ends = uint64_t{stops<kPower>(load32(p + 32))} << 32 | stops<kPower>(load32(p));
#pragma GCC unroll 2
        for (int i = 0; i < 2 && p <= limit; ++i) {
            const char* const next = read_real<kPower>(p, static_cast<unsigned>(ends), *to);
            if (next == nullptr) return found;
            found = next;
            if (++to == stop || *next != ',') return found;
            size_t step = static_cast<size_t>(next - p) + 1;
            if (p[step] == ' ') {
                asm volatile("");  // keeps this a branch: as arithmetic it would delay every number by a load
                ++step;
            }
            p += step;
            ends >>= step;
        }
    }
    return found;
}

// Like fastserve::read_plains, and numbers with an exponent: as long as none has come, the others take a tenth less time.
[[gnu::target(FASTSERVE_WIDE_LANE)]] inline const char* read_usual(const char* p, const char* limit, float*& to,
                                                                   const float* stop) noexcept {
    const char* const found = read_reals<false>(p, limit, to, stop);
    return found == nullptr ? read_reals<true>(p, limit, to, stop) : found;
}

}  // namespace fastserve::wide

#else

namespace fastserve::wide {

inline bool available() noexcept { return false; }

}  // namespace fastserve::wide

#endif

namespace fastserve::wide {

// Changed by tests only.
inline bool enabled = available();

}  // namespace fastserve::wide
