// The way through rows, eight lanes at a time: compiled once for every set of instructions, chosen when it runs.
#pragma once

#include "kernels.hpp"

namespace fastserve::number {

// Eight neighbouring values of a row, or of several rows that a vector shares. Lanes before `first` belong to the
// panel before.
struct Panel {
    int64_t column;
    int first;
    bool searched;          // a lane of it is
    int64_t table, number;  // where its edges are, and how many a lane has room for
    int64_t features[kLanes];
};

// At most kBlockRows rows of a C-contiguous array, `stride` values each, and where their sums go.
template <typename S>
struct Rows {
    using Key = KeyOf<S>;
    const S* values;
    int64_t rows, stride;
    const Panel* panels;
    int64_t panel_count;
    const Key* edges;         // [number][kLanes] of every panel, then those that are searched
    Key* above;               // as the panels' edges
    Tally<Key>* tallies;      // of panels
    const int64_t* searched;  // where the edges of a feature that is searched are
    const int32_t* skips;     // edges that every value of this dtype is above, a feature: not in the table
    const int64_t* offsets;
    int64_t* counts;
};

template <typename S>
FASTSERVE_INLINE void widen(const S* x, int64_t stride, int64_t rows, int32_t* out) noexcept {
    for (int64_t r = 0; r < rows; ++r, x += stride, out += kLanes) {
        if constexpr (std::is_same_v<S, Truth>)
            write(out, (read_widened<Ints, int32_t>(&x->byte) != 0) & 1);
        else
            write(out, read_widened<Ints, int32_t>(x));
    }
}

template <typename S>
FASTSERVE_INLINE void search_lanes(const Rows<S>& task, const Panel& panel, const KeyOf<S>* keys,
                                   int64_t rows) noexcept {
    for (int lane = panel.first; lane < kLanes; ++lane) {
        const int64_t f = panel.features[lane];
        if (task.offsets[f + 1] - task.offsets[f] <= kWide + 1) continue;
        const int64_t start = task.offsets[f] + task.skips[f], number = task.offsets[f + 1] - start - 1;
        const KeyOf<S>* edges = task.edges + task.searched[f];
        const auto count = [&](KeyOf<S> key, int64_t below) {
            task.counts[start + below] += !std::is_floating_point_v<S> || key != kMissing<KeyOf<S>>;
        };
        int64_t r = 0;
        for (; r + kAbreast <= rows; r += kAbreast) {
            KeyOf<S> abreast[kAbreast];
            int64_t below[kAbreast] = {};
            for (int i = 0; i < kAbreast; ++i) abreast[i] = keys[(r + i) * kLanes + lane];
            search_abreast(edges, number, abreast, below);
            for (int i = 0; i < kAbreast; ++i) count(abreast[i], below[i]);
        }
        for (; r < rows; ++r) {
            const KeyOf<S> key = keys[r * kLanes + lane];
            count(key, search(edges, number, 1, key));
        }
    }
}

template <typename S>
FASTSERVE_INLINE void sweep_panel(const Rows<S>& task, const Panel& panel, Tally<KeyOf<S>>& tally, Ahead& ahead,
                                  int lines) noexcept {
    alignas(64) KeyOf<S> keys[kBlockRows * kLanes];
    const S* x = task.values + panel.column;
    if constexpr (!std::is_same_v<S, Counted<S>>) {
        widen(x, task.stride, task.rows, keys);
        digest(keys, kLanes, task.rows, keys, tally);
    } else if constexpr (std::is_floating_point_v<S>) {
        if (!digest(x, task.stride, task.rows, keys, tally)) digest_odd(x, task.stride, task.rows, keys, tally);
    } else {
        digest(x, task.stride, task.rows, keys, tally);
    }
    ahead.fetch(lines);
    for (int lane = 0; lane < kLanes; lane += Seen<KeyOf<S>>::kPart)
        count_above(keys + lane, task.rows, task.edges + panel.table + lane, panel.number,
                    task.above + panel.table + lane, ahead, lines);
    if (panel.searched) search_lanes(task, panel, keys, task.rows);
}

// All panels over a block of rows; what is `ahead` is fetched meanwhile.
template <typename S>
FASTSERVE_INLINE void sweep_rows(const Rows<S>& task, Ahead ahead) noexcept {
    const int lines = static_cast<int>((ahead.end - ahead.at) / 64 / (3 * task.panel_count)) + 1;
    for (int64_t p = 0; p < task.panel_count; ++p) sweep_panel(task, task.panels[p], task.tallies[p], ahead, lines);
}

enum Level { kBaseline, kAvx2 };

template <typename S>
__attribute__((noinline)) void sweep_baseline(const Rows<S>& task, Ahead ahead) noexcept {
    sweep_rows(task, ahead);
}

#if defined(__x86_64__)
template <typename S>
__attribute__((noinline, target("avx2,fma"))) void sweep_avx2(const Rows<S>& task, Ahead ahead) noexcept {
    sweep_rows(task, ahead);
}
inline Level best_level() noexcept {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? kAvx2 : kBaseline;
}
#else
inline Level best_level() noexcept { return kBaseline; }
#endif

inline Level chosen_level = best_level();

template <typename S>
inline void sweep(const Rows<S>& task, Ahead ahead) noexcept {
#if defined(__x86_64__)
    if (chosen_level == kAvx2) return sweep_avx2(task, ahead);
#endif
    sweep_baseline(task, ahead);
}

}  // namespace fastserve::number
