// One pass over a block of rows: moments and how many values lie above each edge, features across vector lanes.
//
// Every lane is one feature (or one of several rows, where a row is narrower than the vector). NaN compares false
// with everything, so it is above no edge; the histogram comes from differences of the cumulative counts.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"

#define FASTSERVE_INLINE inline __attribute__((always_inline))

namespace fastserve::number {

constexpr int kLanes = 8;  // of a group: one vector of float, two of double

template <typename T>
struct Vector;
template <>
struct Vector<float> {
    static constexpr int lanes = 8;
    typedef float type __attribute__((vector_size(32)));
    typedef int32_t mask __attribute__((vector_size(32)));
    typedef int32_t tally __attribute__((vector_size(32)));
};
template <>
struct Vector<double> {
    static constexpr int lanes = 4;
    typedef double type __attribute__((vector_size(32)));
    typedef int64_t mask __attribute__((vector_size(32)));
    typedef int32_t tally __attribute__((vector_size(16)));
};
typedef float Floats __attribute__((vector_size(16)));  // as many as doubles fit a vector

// What a group of lanes has seen of finite values, and how many of the others.
struct Moments {
    double sum[kLanes], squares[kLanes], minimum[kLanes], maximum[kLanes];
    int64_t missing[kLanes], negative[kLanes], positive[kLanes];

    void clear() noexcept {
        std::memset(this, 0, sizeof *this);
        std::fill_n(minimum, kLanes, std::numeric_limits<double>::infinity());
        std::fill_n(maximum, kLanes, -std::numeric_limits<double>::infinity());
    }
};

template <typename V, typename T>
FASTSERVE_INLINE V read(const T* at) noexcept {
    V value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

template <typename V, typename T>
FASTSERVE_INLINE void write(T* at, V value) noexcept {
    std::memcpy(at, &value, sizeof value);
}

template <typename T>
FASTSERVE_INLINE Vector<double>::type read_doubles(const T* at) noexcept {
    if constexpr (std::is_same_v<T, float>)
        return __builtin_convertvector(read<Floats>(at), Vector<double>::type);
    else
        return read<Vector<double>::type>(at);
}

template <typename T>
FASTSERVE_INLINE bool all_finite(const T* x, int64_t stride, int64_t rows) noexcept {
    using V = typename Vector<T>::type;
    constexpr int kPart = Vector<T>::lanes;
    V odd = {};
    for (int64_t r = 0; r < rows; ++r)
        for (int i = 0; i < kLanes; i += kPart) odd += read<V>(x + r * stride + i) * T(0);  // 0, or NaN
    bool finite = true;
    for (int i = 0; i < kPart; ++i) finite &= odd[i] == T(0);
    return finite;
}

// Moments of the lanes from `lane` on, as many as doubles fit a vector.
template <typename T, bool kFinite>
FASTSERVE_INLINE void add_moments(const T* x, int64_t stride, int64_t rows, const double* shift, int lane,
                                  Moments& out) noexcept {
    using D = Vector<double>::type;
    using L = Vector<double>::mask;
    const D shifts = read<D>(shift + lane);
    D sum = read<D>(out.sum + lane), squares = read<D>(out.squares + lane);
    D low = read<D>(out.minimum + lane), high = read<D>(out.maximum + lane);
    L missing = {}, negative = {}, positive = {};
    constexpr double kInfinity = std::numeric_limits<double>::infinity(), kMax = std::numeric_limits<double>::max();
    for (int64_t r = 0; r < rows; ++r) {
        const D value = read_doubles(x + r * stride + lane);
        D from = value - shifts;
        if constexpr (kFinite) {
            low = value < low ? value : low;
            high = value > high ? value : high;
        } else {
            const L finite = value - value == D{};
            missing -= value != value;
            negative -= value < -kMax;
            positive -= value > kMax;
            const D lowest = finite ? value : D{} + kInfinity, highest = finite ? value : D{} - kInfinity;
            low = lowest < low ? lowest : low;
            high = highest > high ? highest : high;
            from = finite ? from : D{};
        }
        sum += from;
        squares += from * from;
    }
    write(out.sum + lane, sum);
    write(out.squares + lane, squares);
    write(out.minimum + lane, low);
    write(out.maximum + lane, high);
    if constexpr (!kFinite) {
        write(out.missing + lane, read<L>(out.missing + lane) + missing);
        write(out.negative + lane, read<L>(out.negative + lane) + negative);
        write(out.positive + lane, read<L>(out.positive + lane) + positive);
    }
}

// Adds to above[j] how many values of each lane of a vector lie above edges[j], for kEdges edges at once.
template <typename T, int kEdges>
FASTSERVE_INLINE void add_above(const T* x, int64_t stride, int64_t rows, const T* edges, int32_t* above) noexcept {
    using V = typename Vector<T>::type;
    using M = typename Vector<T>::mask;
    using Tally = typename Vector<T>::tally;
    M count[kEdges] = {};
    for (int64_t r = 0; r < rows; ++r) {
        const V value = read<V>(x + r * stride);
#pragma GCC unroll 16
        for (int j = 0; j < kEdges; ++j) count[j] -= value > read<V>(edges + j * kLanes);
    }
    for (int j = 0; j < kEdges; ++j) {
        const Tally sum = read<Tally>(above + j * kLanes) + __builtin_convertvector(count[j], Tally);
        write(above + j * kLanes, sum);
    }
}

// As many edges at once as leave room in the registers, split evenly.
template <typename T>
FASTSERVE_INLINE void count_above(const T* x, int64_t stride, int64_t rows, const T* edges, int64_t number,
                                  int32_t* above) noexcept {
    constexpr int kMost = 9;
    for (int64_t left = number, size; left > 0; left -= size, edges += size * kLanes, above += size * kLanes) {
        const int64_t parts = (left + kMost - 1) / kMost;
        size = (left + parts - 1) / parts;
        switch (size) {
            case 1: add_above<T, 1>(x, stride, rows, edges, above); break;
            case 2: add_above<T, 2>(x, stride, rows, edges, above); break;
            case 3: add_above<T, 3>(x, stride, rows, edges, above); break;
            case 4: add_above<T, 4>(x, stride, rows, edges, above); break;
            case 5: add_above<T, 5>(x, stride, rows, edges, above); break;
            case 6: add_above<T, 6>(x, stride, rows, edges, above); break;
            case 7: add_above<T, 7>(x, stride, rows, edges, above); break;
            case 8: add_above<T, 8>(x, stride, rows, edges, above); break;
            default: add_above<T, 9>(x, stride, rows, edges, above); break;
        }
    }
}

// Everything about one group of lanes in one block of rows.
template <typename T>
struct Group {
    const T* x;
    int64_t stride, rows;
    const double* shift;
    const T* edges;
    int64_t number;
    Moments* moments;
    int32_t* above;
};

template <typename T>
FASTSERVE_INLINE void count_group(const Group<T>& g) noexcept {
    const bool finite = all_finite(g.x, g.stride, g.rows);
    for (int lane = 0; lane < kLanes; lane += Vector<double>::lanes) {
        if (finite)
            add_moments<T, true>(g.x, g.stride, g.rows, g.shift, lane, *g.moments);
        else
            add_moments<T, false>(g.x, g.stride, g.rows, g.shift, lane, *g.moments);
    }
    for (int lane = 0; lane < kLanes; lane += Vector<T>::lanes)
        count_above(g.x + lane, g.stride, g.rows, g.edges + lane, g.number, g.above + lane);
}

// One row's values of a group: moments, and how many of its edges each value lies above.
template <typename T>
FASTSERVE_INLINE bool place_group(const Group<T>& g, int32_t* places) noexcept {
    using V = typename Vector<T>::type;
    const bool finite = all_finite(g.x, g.stride, 1);
    for (int lane = 0; lane < kLanes; lane += Vector<double>::lanes) {
        if (finite)
            add_moments<T, true>(g.x, g.stride, 1, g.shift, lane, *g.moments);
        else
            add_moments<T, false>(g.x, g.stride, 1, g.shift, lane, *g.moments);
    }
    for (int lane = 0; lane < kLanes; lane += Vector<T>::lanes) {
        typename Vector<T>::mask count = {};
        const V value = read<V>(g.x + lane);
        for (int64_t j = 0; j < g.number; ++j) count -= value > read<V>(g.edges + j * kLanes + lane);
        write(places + lane, __builtin_convertvector(count, typename Vector<T>::tally));
    }
    return finite;
}

enum Level { kBaseline, kAvx2 };

template <typename T>
__attribute__((noinline)) void count_baseline(const Group<T>& group) noexcept {
    count_group(group);
}
template <typename T>
__attribute__((noinline)) bool place_baseline(const Group<T>& group, int32_t* places) noexcept {
    return place_group(group, places);
}

#if defined(__x86_64__)
template <typename T>
__attribute__((noinline, target("avx2,fma"))) void count_avx2(const Group<T>& group) noexcept {
    count_group(group);
}
template <typename T>
__attribute__((noinline, target("avx2,fma"))) bool place_avx2(const Group<T>& group, int32_t* places) noexcept {
    return place_group(group, places);
}
inline Level best_level() noexcept {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? kAvx2 : kBaseline;
}
#else
inline Level best_level() noexcept { return kBaseline; }
#endif

inline Level chosen_level = best_level();

// Adds a block of rows to a group's moments and counts above edges.
template <typename T>
inline void count(const Group<T>& group) noexcept {
#if defined(__x86_64__)
    if (chosen_level == kAvx2) return count_avx2(group);
#endif
    count_baseline(group);
}

// Adds one row to a group's moments; the value of lane i lies above places[i] edges. True when all are finite.
template <typename T>
inline bool place(const Group<T>& group, int32_t* places) noexcept {
#if defined(__x86_64__)
    if (chosen_level == kAvx2) return place_avx2(group, places);
#endif
    return place_baseline(group, places);
}

}  // namespace fastserve::number

#pragma GCC diagnostic pop
