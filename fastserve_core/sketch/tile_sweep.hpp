// The way through rows of float32 values in tiles: what the bytes leave open is settled here, and every tile counted.
#pragma once

#include "tiles.hpp"

#if defined(__x86_64__)

namespace fastserve::number::tiles {

// A panel of a tile, and where its counts go.
struct Place {
    const float* values;
    int64_t stride;
    const int32_t* edges;  // [number][kLanes], and so is `above`
    int64_t number;
    int32_t* above;
    Tally<int32_t>& tally;
    Grid& grid;
};

// Values beyond the outer edge at one end: not above the first, or above the last.
template <bool kLast>
FASTSERVE_TILE_CALL void count_beyond(const Place& at, __m256i lanes) noexcept {
    constexpr int kFar = kLast ? _CMP_GT_OQ : _CMP_LE_OQ;
    const int64_t slot = kLast ? (kMostEdges - 1) * kLanes : 0;
    const __m256 edge = to_values(at.edges + slot);
    __m256i count[2] = {};
    for (int64_t r = 0; r < kRows; r += 2)
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            const __m256 value = _mm256_loadu_ps(at.values + (r + i) * at.stride);
            count[i] = _mm256_sub_epi32(count[i], _mm256_castps_si256(_mm256_cmp_ps(value, edge, kFar)));
        }
    const __m256i far = _mm256_and_si256(_mm256_add_epi32(count[0], count[1]), lanes);
    const __m256i above = load(at.above + slot);
    store(at.above + slot, kLast ? _mm256_add_epi32(above, far) : _mm256_sub_epi32(above, far));
}

FASTSERVE_TILE void look_beyond(const Place& at, __m256 low, __m256 high) noexcept {
    if (at.grid.outer) {
        const __m256i lanes = outer_lanes(at.grid);
        const __m256 far = _mm256_cmp_ps(low, to_values(at.edges), _CMP_LE_OQ);
        if (!_mm256_testz_si256(_mm256_castps_si256(far), lanes)) count_beyond<false>(at, lanes);
    }
    if (at.number == kMostEdges) {
        const __m256 far = _mm256_cmp_ps(high, to_values(at.edges + (kMostEdges - 1) * kLanes), _CMP_GT_OQ);
        if (_mm256_movemask_ps(far)) count_beyond<true>(at, _mm256_set1_epi32(-1));
    }
}

// Compares the values in doubt with their edges; false where there are too many.
FASTSERVE_TILE_CALL bool settle_doubts(const Place& at, Bytes& found, const __m256i* least) noexcept {
    const __m256i zero = _mm256_setzero_si256();
    int left = kDoubts;
    for (int pair = 0; pair < kPairs; ++pair) {
        if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(least[pair], zero)) == 0) continue;
        for (int slice = 0; slice < kSlices; ++slice) {
            auto* above = reinterpret_cast<uint8_t*>(&found.above[pair][slice]);
            auto doubts = static_cast<uint32_t>(
                _mm256_movemask_epi8(_mm256_cmpeq_epi8(found.doubt[pair][slice], zero)));
            for (; doubts; doubts &= doubts - 1) {
                if (left-- == 0) return false;
                const int byte = __builtin_ctz(doubts), lane = pair + byte / kSlice * kPairs;
                const int edge = (above[byte] & 15) + (at.grid.outer >> lane & 1);
                const float* value = at.values + (slice * kSlice + byte % kSlice) * at.stride + lane;
                above[byte] += key_of(*value) > at.edges[edge * kLanes + lane];
            }
        }
    }
    return true;
}

FASTSERVE_TILE bool add_up_tile(const Place& at, Seen& seen) noexcept {
    Grid& grid = at.grid;
    if (grid.holes == 0) {
        if (grid.shifted ? add_up<true, false>(at.values, at.stride, grid, at.tally, seen)
                         : add_up<false, false>(at.values, at.stride, grid, at.tally, seen))
            return true;
    }
    if (!add_up_with_holes(at.values, at.stride, grid, at.tally, seen)) return false;
    grid.holes = _mm256_testz_si256(seen.holes, seen.holes) ? grid.holes - (grid.holes > 0) : Grid::kHoles;
    return true;
}

// Infinities are taken out of the holes and the extremes; +inf lies above every edge, though its cell does not.
FASTSERVE_TILE_CALL void count_infinite(const Place& at, Seen& seen) noexcept {
    const __m256 endless = _mm256_set1_ps(INFINITY), below_all = _mm256_set1_ps(-INFINITY);
    __m256i negative = {}, positive = {};
    __m256 low = endless, high = below_all;
    const float* x = at.values;
    for (int64_t r = 0; r < kRows; ++r, x += at.stride) {
        const __m256 value = _mm256_loadu_ps(x);
        const __m256 least = _mm256_cmp_ps(value, below_all, _CMP_EQ_OQ);
        const __m256 most = _mm256_cmp_ps(value, endless, _CMP_EQ_OQ);
        negative = _mm256_sub_epi32(negative, _mm256_castps_si256(least));
        positive = _mm256_sub_epi32(positive, _mm256_castps_si256(most));
        const __m256 finite = _mm256_or_ps(value, _mm256_or_ps(least, most));  // or NaN
        low = _mm256_min_ps(finite, low);
        high = _mm256_max_ps(finite, high);
    }
    seen.low = low;
    seen.high = high;
    seen.holes = _mm256_sub_epi32(seen.holes, _mm256_add_epi32(negative, positive));
    store(at.tally.negative, _mm256_add_epi32(load(at.tally.negative), negative));
    store(at.tally.positive, _mm256_add_epi32(load(at.tally.positive), positive));
    const __m256i outer = outer_lanes(at.grid);  // whose first edge all values are above
    for (int64_t j = 0; j < std::min<int64_t>(at.number, kInner + 1); ++j) {
        int32_t* above = at.above + j * kLanes;
        store(above, _mm256_add_epi32(load(above), j ? positive : _mm256_andnot_si256(outer, positive)));
    }
}

// What is missing is not above an outer first edge either.
FASTSERVE_TILE_CALL void count_holes(const Place& at, Seen& seen) noexcept {
    const __m256 least = _mm256_cmp_ps(seen.low, _mm256_set1_ps(-INFINITY), _CMP_EQ_OQ);
    const __m256 most = _mm256_cmp_ps(seen.high, _mm256_set1_ps(INFINITY), _CMP_EQ_OQ);
    if (_mm256_movemask_ps(_mm256_or_ps(least, most))) count_infinite(at, seen);
    store(at.tally.missing, _mm256_add_epi32(load(at.tally.missing), seen.holes));
    store(at.above, _mm256_sub_epi32(load(at.above), _mm256_and_si256(seen.holes, outer_lanes(at.grid))));
}

// Lays the edges of some lanes anew.
inline void lay_again(const Place& at, uint8_t lanes, bool whole_only) noexcept {
    for (int lane = 0; lane < kLanes; ++lane) {
        if (!(lanes >> lane & 1)) continue;
        float edges[kMostEdges];
        int64_t number = 0;
        for (; number < at.number && at.edges[number * kLanes + lane] != kNever<int32_t>; ++number)
            edges[number] = static_cast<float>(double_of_key<float>(at.edges[number * kLanes + lane]));
        if (number) at.grid.lay_again(lane, edges, number, whole_only);
    }
}

// Whole numbers often lie on edges. Where a lane holds no others, its edges can lie so that this leaves no doubt.
FASTSERVE_TILE_CALL void look_for_whole(const Place& at) noexcept {
    __m256 parts = _mm256_setzero_ps();
    const float* x = at.values;
    for (int64_t r = 0; r < kRows; ++r, x += at.stride) parts = _mm256_or_ps(parts, part_of(_mm256_loadu_ps(x)));
    const __m256i whole = _mm256_cmpeq_epi32(_mm256_castps_si256(parts), _mm256_setzero_si256());
    lay_again(at, static_cast<uint8_t>(_mm256_movemask_ps(_mm256_castsi256_ps(whole)) & ~at.grid.whole), true);
}

// A lane that is laid for whole numbers and has another value is not laid so any more.
FASTSERVE_TILE_CALL void give_up_whole(const Place& at, const Seen& seen) noexcept {
    const __m256i whole = _mm256_cmpeq_epi32(_mm256_castps_si256(seen.parts), _mm256_setzero_si256());
    const auto others = static_cast<uint8_t>(at.grid.whole & ~_mm256_movemask_ps(_mm256_castsi256_ps(whole)));
    if (others) lay_again(at, others, false);
}

// False, and nothing counted, where the tile has to be counted by comparing.
FASTSERVE_TILE bool count_tile(const Place& at, Histogram* histograms, const char* next) noexcept {
    Seen seen;
    if (!add_up_tile(at, seen)) return false;
    Bytes bytes;
    if (at.grid.whole) {
        split_whole(at.values, at.stride, at.grid, seen, bytes);
        give_up_whole(at, seen);
    } else {
        split<false>(at.values, at.stride, at.grid, seen, bytes);
    }
    __m256i least[kPairs];
#pragma GCC unroll 1
    for (int pair = 0; pair < kPairs; ++pair, next += kSlices * kFetched)
        least[pair] = find(at.grid, pair, bytes, next);
    const __m256i any = _mm256_min_epu8(_mm256_min_epu8(least[0], least[1]), _mm256_min_epu8(least[2], least[3]));
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi8(any, _mm256_setzero_si256())) && !settle_doubts(at, bytes, least)) {
        look_for_whole(at);
        return false;
    }
    look_beyond(at, seen.low, seen.high);
    if (at.grid.holes) count_holes(at, seen);
#pragma GCC unroll 1
    for (int pair = 0; pair < kPairs; ++pair) tick(bytes.above[pair], histograms[pair]);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
        double *sum = at.tally.sum + 4 * half, *squares = at.tally.squares + 4 * half;
        _mm256_store_pd(sum, _mm256_add_pd(_mm256_load_pd(sum), seen.sum[half]));
        _mm256_store_pd(squares, _mm256_add_pd(_mm256_load_pd(squares), seen.squares[half]));
    }
    store(at.tally.low, _mm256_min_epi32(load(at.tally.low), to_keys(seen.low)));
    store(at.tally.high, _mm256_max_epi32(load(at.tally.high), to_keys(seen.high)));
    return true;
}

// Adds to above[j] what the tiles had above edge j; all values count as above an outer first edge.
FASTSERVE_TILE void add_bins(const Place& at, const Histogram* histograms) noexcept {
    __m256i bins[kPairs][kInner + 1], above[kInner + 2];
#pragma GCC unroll 1
    for (int pair = 0; pair < kPairs; ++pair) count_bins(histograms[pair], bins[pair]);
    above[kInner + 1] = _mm256_setzero_si256();
    for (int u = kInner; u >= 0; --u) {
        const __m256i a = _mm256_or_si256(bins[0][u], _mm256_slli_epi64(bins[1][u], 32));
        const __m256i b = _mm256_or_si256(bins[2][u], _mm256_slli_epi64(bins[3][u], 32));
        const __m256i both_halves = _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        above[u] = _mm256_add_epi32(above[u + 1], both_halves);
    }
    const __m256i outer = outer_lanes(at.grid);
    const int64_t slots = std::min<int64_t>(at.number, kInner + 1);
    for (int64_t j = 0; j < slots; ++j) {
        int32_t* total = at.above + j * kLanes;
        store(total, _mm256_add_epi32(load(total), _mm256_blendv_epi8(above[j + 1], above[j], outer)));
    }
}

FASTSERVE_TILE_CALL void count_by_comparing(Rows<float> task, int64_t panel) noexcept {
    Ahead nothing{nullptr, nullptr};
    task.rows = kBlockRows;
    for (int64_t r = 0; r < kRows; r += kBlockRows, task.values += kBlockRows * task.stride)
        sweep_panel(task, task.panels[panel], task.tallies[panel], nothing, 0);
}

// Some tiles of at most kTogether panels.
FASTSERVE_TILE_CALL void sweep_together(Rows<float> task, Grid* grids, int64_t first, int64_t last) noexcept {
    Histogram histograms[kTogether][kPairs];
    bool counted[kTogether] = {};
    std::memset(static_cast<void*>(histograms), 0, (last - first) * sizeof histograms[0]);
    const auto place = [&](int64_t p) {
        const Panel& panel = task.panels[p];
        return Place{task.values + panel.column, task.stride, task.edges + panel.table, panel.number,
                     task.above + panel.table, task.tallies[p], grids[p]};
    };
    const int64_t tile = kRows * task.stride;
    for (int64_t left = task.rows; left > 0; left -= kRows, task.values += tile) {
        // Rows of more panels lie too far apart. What is there already may be fetched again.
        const bool ahead = task.panel_count <= kTogether && left > kRows;
        const char* next = reinterpret_cast<const char*>(task.values + (ahead ? tile : 0));
        for (int64_t p = first; p < last; ++p, next += kPairs * kSlices * kFetched) {
            Grid& grid = grids[p];
            if (!grid.usable || grid.resting()) {
                count_by_comparing(task, p);
            } else if (count_tile(place(p), histograms[p - first], next)) {
                grid.strain -= grid.strain > 0;
                counted[p - first] = true;
            } else {
                grid.failed();
                count_by_comparing(task, p);
            }
        }
    }
    for (int64_t p = first; p < last; ++p)
        if (counted[p - first]) add_bins(place(p), histograms[p - first]);
}

// A number of rows that kRows divides.
inline void sweep_tiles(Rows<float> task, Grid* grids) noexcept {
    const int64_t rows = task.rows;
    for (int64_t done = 0; done < rows; done += task.rows, task.values += task.rows * task.stride) {
        task.rows = std::min(rows - done, kMost * kRows);
        for (int64_t first = 0; first < task.panel_count; first += kTogether)
            sweep_together(task, grids, first, std::min(first + kTogether, task.panel_count));
    }
}

}  // namespace fastserve::number::tiles
#endif
