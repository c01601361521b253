// Tiles of 128 rows of float32 values, counted by the bytes of their cells: 32 values an instruction instead of eight.
//
// The bytes are turned over so that half a vector holds 16 rows of one feature. A binary search among the edges' high
// bytes is three shuffles, the low byte settles nearly all of the rest, and what is still in doubt is compared with its
// edge. Every value has a bit of its bin, and carry-save adders count those (Mula, Kurz, Lemire: Faster Population
// Counts Using AVX2 Instructions, 2018). What is not finite lies in the lowest cell, which is above no edge. A tile
// with values far from the cells, or with many in doubt, is left to sweep.hpp.
#pragma once

#include "grid.hpp"
#include "sweep.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#define FASTSERVE_TILE inline __attribute__((always_inline, target("avx2,fma")))
#define FASTSERVE_TILE_CALL inline __attribute__((noinline, target("avx2,fma")))

namespace fastserve::number::tiles {

constexpr int64_t kRows = 128, kSlice = 16;
constexpr int kSlices = kRows / kSlice;
constexpr int64_t kMost = 15;      // tiles that a histogram has room for
constexpr int64_t kTogether = 8;   // panels whose histograms are held at once
constexpr int64_t kLine = 64;      // bytes of a cache line
constexpr int64_t kFetched = kRows * kLanes * sizeof(float) / (kPairs * kSlices);  // a panel's share of the next tile
constexpr int kDoubts = 16;        // values compared with their edges; a tile with more of them is not worth it

struct Seen {
    __m256d sum[2], squares[2];
    __m256 low, high;
    __m256 parts;   // bits are set in lanes whose values are not all whole numbers, where that was asked for
    __m256i holes;  // values a lane that are not finite, where there may be any
};

// The bytes of cells, [pair][slice]. `find` writes over them: 16 + the edges below, and 0 where that is in doubt.
struct Bytes {
    union {
        __m256i high[kPairs][kSlices], above[kPairs][kSlices];
    };
    union {
        __m256i low[kPairs][kSlices], doubt[kPairs][kSlices];
    };
};

// Of a pair's bins, eight bits a plane: ones, twos and fours of the tiles so far, and eights in fields of four bits.
struct Histogram {
    __m256i one[2], two[2], four[2], eights[2][4];
};

template <typename T>
FASTSERVE_TILE __m256i load(const T* at) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

template <typename T>
FASTSERVE_TILE void store(T* at, __m256i value) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), value);
}

FASTSERVE_TILE __m256d read_four(const float* at) noexcept {
    __m256d out;  // the form with a register is two instructions, and GCC prefers that one
    asm("vcvtps2pd %1, %0" : "=x"(out) : "m"(*reinterpret_cast<const __m128_u*>(at)));
    return out;
}

FASTSERVE_TILE __m128 half_of(__m256 value, int half) noexcept {
    return half ? _mm256_extractf128_ps(value, 1) : _mm256_castps256_ps128(value);
}

// False where a value is so far from the cells that it has no number among them; and where one is not finite, unless
// there may be holes.
template <bool kShifted, bool kHoles>
FASTSERVE_TILE bool add_up(const float* x, int64_t stride, const Grid& grid, const Tally<int32_t>& tally,
                           Seen& out) noexcept {
    __m256d sum[4] = {}, squares[4] = {};
    __m256i holes = {};
    const __m256 endless = _mm256_set1_ps(INFINITY);
    const __m256d shift[2] = {_mm256_load_pd(tally.shift), _mm256_load_pd(tally.shift + 4)};
    for (int64_t r = 0; r < kRows; r += 2) {
#pragma GCC unroll 2
        for (int i = 0; i < 4; i += 2, x += stride) {
            __m256 values = {}, hole = {};
            if constexpr (kHoles) {
                values = _mm256_loadu_ps(x);
                hole = _mm256_cmp_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0F), values), endless, _CMP_NLT_UQ);
                values = _mm256_andnot_ps(hole, values);
                holes = _mm256_sub_epi32(holes, _mm256_castps_si256(hole));
            }
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                __m256d value = kHoles ? _mm256_cvtps_pd(half_of(values, half)) : read_four(x + 4 * half);
                if constexpr (kShifted) value = _mm256_sub_pd(value, shift[half]);
                if constexpr (kShifted && kHoles) {
                    const __m256i not_there = _mm256_cvtepi32_epi64(_mm_castps_si128(half_of(hole, half)));
                    value = _mm256_andnot_pd(_mm256_castsi256_pd(not_there), value);
                }
                sum[i + half] = _mm256_add_pd(sum[i + half], value);
                squares[i + half] = _mm256_fmadd_pd(value, value, squares[i + half]);
            }
        }
    }
    if constexpr (kHoles) out.holes = holes;
    __m256d good = _mm256_castsi256_pd(_mm256_set1_epi8(-1));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
        out.sum[half] = _mm256_add_pd(sum[half], sum[half + 2]);
        out.squares[half] = _mm256_add_pd(squares[half], squares[half + 2]);
        const __m256d scale = _mm256_cvtps_pd(_mm_load_ps(grid.scale + 4 * half));
        const __m256d farthest = _mm256_mul_pd(out.squares[half], _mm256_mul_pd(scale, scale));
        good = _mm256_and_pd(good, _mm256_cmp_pd(farthest, _mm256_set1_pd(0x1p58), _CMP_LT_OQ));
        if constexpr (!kShifted) {
            __m256d rows = _mm256_set1_pd(kRows);
            if constexpr (kHoles) {
                const __m128 lanes = half_of(_mm256_castsi256_ps(holes), half);
                rows = _mm256_sub_pd(rows, _mm256_cvtepi32_pd(_mm_castps_si128(lanes)));
            }
            const __m256d off = _mm256_mul_pd(rows, shift[half]);
            const __m256d twice = _mm256_sub_pd(_mm256_add_pd(out.sum[half], out.sum[half]), off);
            out.squares[half] = _mm256_fnmadd_pd(shift[half], twice, out.squares[half]);
            out.sum[half] = _mm256_sub_pd(out.sum[half], off);
        }
    }
    return _mm256_movemask_pd(good) == 15;
}

FASTSERVE_TILE_CALL bool add_up_with_holes(const float* x, int64_t stride, const Grid& grid,
                                           const Tally<int32_t>& tally, Seen& out) noexcept {
    return grid.shifted ? add_up<true, true>(x, stride, grid, tally, out)
                        : add_up<false, true>(x, stride, grid, tally, out);
}

// Four vectors, a dword of which holds four rows of a feature; turned over into 16 rows of each.
FASTSERVE_TILE void turn(const __m256i* in, __m256i* out) noexcept {
    const __m256i a = _mm256_unpacklo_epi32(in[0], in[1]), b = _mm256_unpackhi_epi32(in[0], in[1]);
    const __m256i c = _mm256_unpacklo_epi32(in[2], in[3]), d = _mm256_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm256_unpacklo_epi64(a, c);
    out[kSlices] = _mm256_unpackhi_epi64(a, c);
    out[2 * kSlices] = _mm256_unpacklo_epi64(b, d);
    out[3 * kSlices] = _mm256_unpackhi_epi64(b, d);
}

FASTSERVE_TILE __m256i both(char a, char b, char c, char d, char e, char f, char g, char h, char i, char j, char k,
                             char l, char m, char n, char o, char p) noexcept {
    return _mm256_setr_epi8(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, a, b, c, d, e, f, g, h, i, j, k, l, m, n,
                            o, p);
}

FASTSERVE_TILE __m256 part_of(__m256 value) noexcept {
    return _mm256_xor_ps(value, _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

template <bool kWhole>
FASTSERVE_TILE void split(const float* x, int64_t stride, const Grid& grid, Seen& seen, Bytes& out) noexcept {
    const __m256 scale = _mm256_load_ps(grid.scale), bias = _mm256_load_ps(grid.bias);
    const __m256i apart = both(0, 8, 2, 10, 4, 12, 6, 14, 1, 9, 3, 11, 5, 13, 7, 15), flip = _mm256_set1_epi8(-128);
    __m256 least = _mm256_set1_ps(INFINITY), most = _mm256_set1_ps(-INFINITY), parts = _mm256_setzero_ps();
    for (int slice = 0; slice < kSlices; ++slice) {
        __m256i low[4], high[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
            __m256i words[2];
#pragma GCC unroll 2
            for (int i = 0; i < 2; ++i, x += 2 * stride) {
                const __m256 a = _mm256_loadu_ps(x), b = _mm256_loadu_ps(x + stride);
                least = _mm256_min_ps(b, _mm256_min_ps(a, least));  // the second one, where the first is NaN
                most = _mm256_max_ps(b, _mm256_max_ps(a, most));
                if constexpr (kWhole) parts = _mm256_or_ps(parts, _mm256_or_ps(part_of(a), part_of(b)));
                const __m256i cells_a = _mm256_cvtps_epi32(_mm256_fmadd_ps(a, scale, bias));
                const __m256i cells_b = _mm256_cvtps_epi32(_mm256_fmadd_ps(b, scale, bias));
                words[i] = _mm256_shuffle_epi8(_mm256_packs_epi32(cells_a, cells_b), apart);
            }
            low[k] = _mm256_xor_si256(_mm256_unpacklo_epi16(words[0], words[1]), flip);
            high[k] = _mm256_unpackhi_epi16(words[0], words[1]);
        }
        turn(high, &out.high[0][slice]);
        turn(low, &out.low[0][slice]);
    }
    seen.low = least;
    seen.high = most;
    if constexpr (kWhole) seen.parts = parts;
}

FASTSERVE_TILE_CALL void split_whole(const float* x, int64_t stride, const Grid& grid, Seen& seen,
                                     Bytes& out) noexcept {
    split<true>(x, stride, grid, seen, out);
}

// How many inner edges lie below each value of a pair; the smallest of `doubt` is 0 where one is in doubt. What comes
// `next` is fetched meanwhile.
FASTSERVE_TILE __m256i find(const Grid& grid, int pair, Bytes& bytes, const char* next) noexcept {
    const __m256i edges = load(grid.high[pair]);
    const __m256i lows = load(grid.low[pair]);
    const __m256i heap = _mm256_shuffle_epi8(edges, both(0, 7, 3, 11, 1, 5, 9, 13, 0, 2, 4, 6, 8, 10, 12, 14));
    const __m256i root = _mm256_shuffle_epi8(edges, _mm256_set1_epi8(7)), never = _mm256_set1_epi8(-1);
    const __m256i none = _mm256_cmpeq_epi8(edges, _mm256_set1_epi8(Grid::kNoEdge));
    const __m256i highs = _mm256_blendv_epi8(edges, _mm256_set1_epi8(-128), none);  // no value above all has that one
    __m256i least = never;
#pragma GCC unroll 2
    for (int slice = 0; slice < kSlices; ++slice, next += kFetched) {
        for (int64_t line = 0; line < kFetched; line += kLine) __builtin_prefetch(next + line, 0, 2);
        const __m256i high = bytes.high[pair][slice];
        __m256i at = _mm256_sub_epi8(_mm256_set1_epi8(2), _mm256_cmpgt_epi8(high, root));
#pragma GCC unroll 3
        for (int level = 0; level < 3; ++level) {
            const __m256i more = _mm256_cmpgt_epi8(high, _mm256_shuffle_epi8(heap, at));
            at = _mm256_sub_epi8(_mm256_add_epi8(at, at), more);
        }
        const __m256i tie = _mm256_cmpeq_epi8(high, _mm256_shuffle_epi8(highs, at));
        const __m256i from = _mm256_subs_epi8(bytes.low[pair][slice], _mm256_shuffle_epi8(lows, at));
        const __m256i doubt = _mm256_blendv_epi8(never, from, tie);
        least = _mm256_min_epu8(least, doubt);
        bytes.doubt[pair][slice] = doubt;
        bytes.above[pair][slice] = _mm256_sub_epi8(at, _mm256_cmpgt_epi8(doubt, _mm256_setzero_si256()));
    }
    return least;
}

// low + a + b, the bits of it.
FASTSERVE_TILE void carry(__m256i& high, __m256i& low, __m256i a, __m256i b) noexcept {
    const __m256i one = _mm256_xor_si256(low, a);
    high = _mm256_or_si256(_mm256_and_si256(low, a), _mm256_and_si256(one, b));
    low = _mm256_xor_si256(one, b);
}

FASTSERVE_TILE void tick(const __m256i* above, Histogram& out) noexcept {
    const __m256i field = _mm256_set1_epi8(0x11);
#pragma GCC unroll 2
    for (int plane = 0; plane < 2; ++plane) {
        const __m256i bits = plane ? both(0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, -128)
                                   : both(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0);
        __m256i two[2], four[2], eight;
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 2
            for (int j = 0; j < 2; ++j)
                carry(two[j], out.one[plane], _mm256_shuffle_epi8(bits, above[4 * i + 2 * j]),
                      _mm256_shuffle_epi8(bits, above[4 * i + 2 * j + 1]));
            carry(four[i], out.two[plane], two[0], two[1]);
        }
        carry(eight, out.four[plane], four[0], four[1]);
#pragma GCC unroll 4
        for (int b = 0; b < 4; ++b) {
            const __m256i two_bins = _mm256_and_si256(_mm256_srli_epi16(eight, b), field);
            out.eights[plane][b] = _mm256_add_epi8(out.eights[plane][b], two_bins);
        }
    }
}

// Values a bin of a pair, 16 bits of each quarter of a vector.
FASTSERVE_TILE void count_bins(const Histogram& in, __m256i* bins) noexcept {
    const __m256i field = _mm256_set1_epi8(0x11), nibble = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (int plane = 0; plane < 2; ++plane) {
#pragma GCC unroll 4
        for (int b = 0; b < 4; ++b) {
            __m256i rest = _mm256_and_si256(_mm256_srli_epi16(in.four[plane], b), field);
            rest = _mm256_add_epi8(rest, rest);
            rest = _mm256_or_si256(rest, _mm256_and_si256(_mm256_srli_epi16(in.two[plane], b), field));
            rest = _mm256_add_epi8(rest, rest);
            rest = _mm256_or_si256(rest, _mm256_and_si256(_mm256_srli_epi16(in.one[plane], b), field));
            const __m256i eights = in.eights[plane][b];
            const __m256i low = _mm256_slli_epi16(_mm256_and_si256(eights, nibble), 3);
            const __m256i high = _mm256_and_si256(_mm256_srli_epi16(eights, 1), _mm256_set1_epi8(0x78));
            const __m256i rest_high = _mm256_and_si256(_mm256_srli_epi16(rest, 4), nibble);
            bins[8 * plane + b] = _mm256_sad_epu8(_mm256_add_epi8(low, _mm256_and_si256(rest, nibble)), zero);
            bins[8 * plane + b + 4] = _mm256_sad_epu8(_mm256_add_epi8(high, rest_high), zero);
        }
    }
}

FASTSERVE_TILE __m256i to_keys(__m256 values) noexcept {
    const __m256i bits = _mm256_castps_si256(values);
    return _mm256_xor_si256(bits, _mm256_srli_epi32(_mm256_srai_epi32(bits, 31), 1));
}

FASTSERVE_TILE __m256 to_values(const int32_t* keys) noexcept {  // those of no value become NaN
    return _mm256_castsi256_ps(to_keys(_mm256_castsi256_ps(load(keys))));
}

FASTSERVE_TILE __m256i outer_lanes(const Grid& grid) noexcept {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(grid.outer), bit), bit);
}

}  // namespace fastserve::number::tiles
#endif
