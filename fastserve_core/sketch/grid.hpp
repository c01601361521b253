// Which 16-bit cell a float32 lies in: cells of equal width a feature, so chosen that no two edges share a high byte.
//
// A value's cell is its scaled value rounded to a whole number, which never falls as values rise. So a value in a cell
// below an edge's is not above that edge, and one in a cell above it is; only in the edge's cell values are compared.
// Of 16 or 17 edges the first and the seventeenth are outer ones: hardly a value lies beyond them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels.hpp"

namespace fastserve::number {

constexpr int kPairs = kLanes / 2;
constexpr int kInner = 15, kMostEdges = kInner + 2;
constexpr int kFewEdges = 6;  // with fewer, comparing with all of them is faster

// Where the cells of a panel's eight features lie, and those of their edges. A pair is a feature and the fourth after.
struct alignas(32) Grid {
    float scale[kLanes], bias[kLanes];
    int8_t high[kPairs][2][16];  // high bytes of the inner edges' cells; kNoEdge after the last
    int8_t low[kPairs][2][16];   // low bytes, 128 less than they are
    uint8_t outer;               // lanes whose first edge is an outer one
    bool usable;
    bool shifted;    // values are so far from 0 that they are summed around the shift
    uint8_t strain;  // rises when a tile had to be counted by comparing, falls when not
    uint8_t rest;    // tiles that are counted by comparing before the next is tried
    uint8_t holes;   // tiles in which values that are not finite are to be expected
    uint8_t whole;   // lanes whose edges lie right for whole numbers only

    static constexpr int8_t kNoEdge = 127;
    static constexpr int kFailed = 4, kTired = 32, kRest = 64, kHoles = 16;

    void clear() noexcept {
        std::fill_n(scale, kLanes, 0.0F);
        std::fill_n(bias, kLanes, 0.0F);
        std::fill_n(high[0][0], sizeof high, kNoEdge);
        std::fill_n(low[0][0], sizeof low, int8_t{127});
        outer = strain = rest = holes = whole = 0;
        usable = shifted = false;
    }

    // False where there are no such cells. At most kMostEdges edges as values have them, each the largest float32 that
    // is not above it.
    bool fit(int lane, const float* edges, int64_t number, double shift) noexcept {
        if (number == 0) return true;
        const int64_t skip = number > kInner, inner = std::min<int64_t>(number - skip, kInner);
        if (skip) outer |= static_cast<uint8_t>(1 << lane);
        const double first = edges[0], last = edges[number - 1], all = last - first;
        const double around = std::max(all, number == 1 ? std::abs(first - shift) : 0.0);
        const double room = around > 0 ? around : 1.0;
        if (!skip && lay(lane, edges, inner, {first - room / 2, last + room / 2}, room, shift)) return true;
        // The narrower the cells, the fewer values share one with an edge; but far tails need wide ones.
        const double low_edge = edges[skip], high_edge = edges[skip + inner - 1], between = high_edge - low_edge;
        const Range close{low_edge - between / 64, high_edge + between / 64};
        const bool tails = all >= kTails * between;
        if (!tails && lay(lane, edges + skip, inner, close, room, shift)) return true;
        if (lay(lane, edges + skip, inner, {first - room / 16, last + room / 16}, room, shift)) return true;
        return tails && between > 0 && lay(lane, edges + skip, inner, close, between, shift);
    }

    // Of a lane that belongs to the panel before, only the extremes are looked at.
    void forget_edges(int lane) noexcept {
        std::fill_n(high[lane % kPairs][lane / kPairs], 16, kNoEdge);
        std::fill_n(low[lane % kPairs][lane / kPairs], 16, int8_t{127});
        outer &= static_cast<uint8_t>(~(1 << lane));
    }

    // For a lane that holds whole numbers only, or one that no longer does: edges as given to `fit`.
    void lay_again(int lane, const float* edges, int64_t number, bool whole_only) noexcept {
        const int64_t skip = outer >> lane & 1, inner = std::min<int64_t>(number - skip, kInner);
        const auto bit = static_cast<uint8_t>(1 << lane);
        whole &= static_cast<uint8_t>(~bit);
        if (whole_only && place(lane, edges + skip, inner, true))
            whole |= bit;
        else
            place(lane, edges + skip, inner, false);
    }

    void failed() noexcept {
        strain = static_cast<uint8_t>(strain + kFailed);
        if (strain < kTired) return;
        rest = kRest;
        strain = kTired - kFailed;
    }

    bool resting() noexcept {
        if (rest == 0) return false;
        --rest;
        return true;
    }

    static int cell(float value, float scale, float bias) noexcept {
        const float at = std::fma(value, scale, bias);
        return at > 32767.0F ? 32767 : at < -32768.0F ? -32768 : static_cast<int>(std::nearbyint(at));
    }

private:
    static constexpr double kFarthest = 0x1p30;  // cells from the middle
    static constexpr double kTails = 16;         // times as wide as the inner edges lie apart

    struct Range {
        double from, to;
    };

    // Values spread over about `spread`.
    bool lay(int lane, const float* edges, int64_t inner, Range range, double spread, double shift) noexcept {
        const double width = (range.to - range.from) / 65'500;
        const float step = static_cast<float>(1 / width), start = static_cast<float>(-32'750 - range.from / width);
        const double middle = shift * step + start;
        if (!(step < 1e30F && step > 1e-30F && std::abs(middle) < kFarthest)) return false;
        scale[lane] = step;
        bias[lane] = start;
        if (!place(lane, edges, inner, false)) return false;
        shifted |= std::abs(shift) > 8 * spread || std::abs(start) > kFarthest;
        return true;
    }

    // Where a cell is free between an edge's own and the next value's, the edge is put there: nothing is in doubt.
    bool place(int lane, const float* edges, int64_t inner, bool whole_only) noexcept {
        int8_t* highs = high[lane % kPairs][lane / kPairs];
        int8_t* lows = low[lane % kPairs][lane / kPairs];
        for (int64_t j = 0; j < inner; ++j) {
            float next = std::nextafter(edges[j], INFINITY);
            if (whole_only) next = std::max(next, std::floor(edges[j]) + 1);
            const int own = cell(edges[j], scale[lane], bias[lane]);
            const int at = own + (cell(next, scale[lane], bias[lane]) > own + 1);
            highs[j] = static_cast<int8_t>(at >> 8);
            lows[j] = static_cast<int8_t>((at & 255) - 128);
            if (highs[j] == kNoEdge || (j && highs[j] <= highs[j - 1])) return false;
        }
        return true;
    }
};

}  // namespace fastserve::number
