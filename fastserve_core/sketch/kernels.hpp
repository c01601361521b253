// Blocks of rows into moments and counts above edges: features across vector lanes, the counters in registers.
//
// Values become keys first: whole numbers that are ordered as the values are, so that one comparison of integers
// serves every dtype and costs half of one of floats. For float and double that is the sign and magnitude of the
// bits; -0 and 0 get different keys, but no edge has the key of -0, so both lie on the same side of all of them.
// NaN becomes the lowest key, which is above nothing. The histogram comes from differences of cumulative counts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "dtypes.hpp"

#define FASTSERVE_INLINE inline __attribute__((always_inline))

namespace fastserve::number {

using sketch::Truth;

constexpr int kLanes = 8;
constexpr int64_t kBlockRows = 64;
constexpr int64_t kWide = 65;  // edges of 64 bins: with more a binary search is about as fast as comparing with all
constexpr double kInfinity = std::numeric_limits<double>::infinity();

typedef int32_t Ints __attribute__((vector_size(32)));
typedef uint32_t Words __attribute__((vector_size(32)));
typedef int64_t Longs __attribute__((vector_size(32)));
typedef uint64_t Quads __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(32)));

// Bool and integers of up to 16 bits are widened to int32; the rest are counted as they are.
template <typename S>
using Counted = std::conditional_t<std::is_same_v<S, Truth> || sizeof(S) < 4, int32_t, S>;
template <typename S>
using KeyOf = std::conditional_t<sizeof(Counted<S>) == 4, int32_t, int64_t>;
template <typename Key>
using VectorOf = std::conditional_t<sizeof(Key) == 4, Ints, Longs>;

template <typename Key>
constexpr Key kNever = std::numeric_limits<Key>::max();  // nothing is above it
template <typename Key>
constexpr Key kMissing = std::numeric_limits<Key>::min();
// Finite floats and doubles have keys from -kTop - 1 to kTop.
template <typename Key>
constexpr Key kTop = sizeof(Key) == 4 ? 0x7f7f'ffff : static_cast<Key>(0x7fef'ffff'ffff'ffff);

template <typename V, typename T>
FASTSERVE_INLINE V read(const T* at) noexcept {
    V value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

// A vector of narrower values. Written so that GCC makes one instruction of it, which it does not of
// __builtin_convertvector.
template <typename V, typename Element, typename T>
FASTSERVE_INLINE V read_widened(const T* at) noexcept {
    Element values[sizeof(V) / sizeof(Element)];
    for (size_t i = 0; i < sizeof(V) / sizeof(Element); ++i) values[i] = static_cast<Element>(at[i]);
    return read<V>(values);
}

template <typename V, typename T>
FASTSERVE_INLINE void write(T* at, V value) noexcept {
    std::memcpy(at, &value, sizeof value);
}

template <typename S>
FASTSERVE_INLINE KeyOf<S> key_of(S value) noexcept {
    using Key = KeyOf<S>;
    if constexpr (std::is_same_v<S, Truth>) {
        return value.byte != 0;
    } else if constexpr (std::is_floating_point_v<S>) {
        const Key bits = read<Key>(&value);
        return bits < 0 ? bits ^ std::numeric_limits<Key>::max() : bits;
    } else if constexpr (std::is_unsigned_v<S> && sizeof(S) >= 4) {
        return static_cast<Key>(value ^ static_cast<S>(kMissing<Key>));
    } else {
        return value;
    }
}

template <typename S>
FASTSERVE_INLINE double double_of(S value) noexcept {
    if constexpr (std::is_same_v<S, Truth>)
        return value.byte != 0;
    else
        return static_cast<double>(value);
}

// The value that has a key.
template <typename S>
FASTSERVE_INLINE double double_of_key(KeyOf<S> key) noexcept {
    using Key = KeyOf<S>;
    if constexpr (std::is_floating_point_v<S>) {
        const Key bits = key < 0 ? key ^ std::numeric_limits<Key>::max() : key;
        return read<S>(&bits);
    } else if constexpr (std::is_unsigned_v<S>) {
        return static_cast<double>(static_cast<S>(key) ^ static_cast<S>(kMissing<Key>));
    } else {
        return static_cast<double>(key);
    }
}

template <typename S>
FASTSERVE_INLINE VectorOf<KeyOf<S>> read_keys(const S* at) noexcept {
    using Key = KeyOf<S>;
    using V = VectorOf<Key>;
    using U = std::conditional_t<sizeof(Key) == 4, Words, Quads>;
    const V bits = read<V>(at);
    if constexpr (std::is_floating_point_v<S>)
        return bits ^ reinterpret_cast<V>(reinterpret_cast<U>(bits < 0) >> 1);
    else if constexpr (std::is_unsigned_v<S>)
        return bits ^ kMissing<Key>;
    else
        return bits;
}

// Four values, rounded once. There is no instruction for 64-bit integers before AVX-512: their halves are put into the
// fractions of 2^52 and 2^84.
template <typename S>
FASTSERVE_INLINE Doubles read_doubles(const S* at) noexcept {
    if constexpr (std::is_same_v<S, double>) {
        return read<Doubles>(at);
    } else if constexpr (std::is_same_v<S, float> || std::is_same_v<S, int32_t>) {
        return read_widened<Doubles, double>(at);
    } else if constexpr (std::is_same_v<S, uint32_t>) {
        const Quads bits = read_widened<Quads, uint64_t>(at) | 0x4330'0000'0000'0000;
        return reinterpret_cast<Doubles>(bits) - 0x1p52;
    } else {
        constexpr bool kSigned = std::is_signed_v<S>;
        const Quads bits = read<Quads>(at);
        const Quads low = (bits & 0xffff'ffff) | 0x4330'0000'0000'0000;
        const Quads high = (bits >> 32) ^ (kSigned ? 0x4530'0000'8000'0000 : 0x4530'0000'0000'0000);
        constexpr double kOffset = kSigned ? 0x1p84 + 0x1p63 + 0x1p52 : 0x1p84 + 0x1p52;
        return (reinterpret_cast<Doubles>(high) - kOffset) + reinterpret_cast<Doubles>(low);
    }
}

// What a panel of lanes has seen since it was last emptied: sums around the shift, extremes as keys.
template <typename Key>
struct alignas(32) Tally {
    double shift[kLanes], sum[kLanes], squares[kLanes];
    Key low[kLanes], high[kLanes], missing[kLanes], negative[kLanes], positive[kLanes];

    void clear() noexcept {
        for (int i = 0; i < kLanes; ++i) {
            sum[i] = squares[i] = 0;
            low[i] = kNever<Key>;
            high[i] = kMissing<Key>;
            missing[i] = negative[i] = positive[i] = 0;
        }
    }
};

template <typename Key>
FASTSERVE_INLINE bool any(VectorOf<Key> mask) noexcept {
    const Longs words = reinterpret_cast<Longs>(mask);
    return (words[0] | words[1] | words[2] | words[3]) != 0;
}

template <typename V>
FASTSERVE_INLINE V smaller(V a, V b) noexcept {
    return a < b ? a : b;
}

template <typename V>
FASTSERVE_INLINE V larger(V a, V b) noexcept {
    return a > b ? a : b;
}

// Sums and extremes of a block, in registers.
template <typename Key>
struct Seen {
    using V = VectorOf<Key>;
    static constexpr int kPart = sizeof(V) / sizeof(Key), kParts = kLanes / kPart, kHalf = 4;
    Doubles sum[2] = {}, squares[2] = {};
    V low[kParts], high[kParts];

    FASTSERVE_INLINE Seen() noexcept {
        for (int i = 0; i < kParts; ++i) {
            low[i] = V{} + kNever<Key>;
            high[i] = V{} + kMissing<Key>;
        }
    }

    FASTSERVE_INLINE void add_to(Tally<Key>& out) const noexcept {
        for (int i = 0; i < 2; ++i) {
            write(out.sum + i * kHalf, read<Doubles>(out.sum + i * kHalf) + sum[i]);
            write(out.squares + i * kHalf, read<Doubles>(out.squares + i * kHalf) + squares[i]);
        }
        for (int i = 0; i < kParts; ++i) {
            write(out.low + i * kPart, smaller(read<V>(out.low + i * kPart), low[i]));
            write(out.high + i * kPart, larger(read<V>(out.high + i * kPart), high[i]));
        }
    }
};

// Keys and moments of a block whose values are finite; false, and only the keys written, where one is not.
template <typename S>
FASTSERVE_INLINE bool digest(const S* x, int64_t stride, int64_t rows, KeyOf<S>* keys, Tally<KeyOf<S>>& out) noexcept {
    using Key = KeyOf<S>;
    using V = VectorOf<Key>;
    constexpr int kPart = Seen<Key>::kPart, kParts = Seen<Key>::kParts, kHalf = Seen<Key>::kHalf;
    Seen<Key> seen;
    const Doubles shift[2] = {read<Doubles>(out.shift), read<Doubles>(out.shift + kHalf)};
    for (int64_t r = 0; r < rows; ++r, x += stride, keys += kLanes) {
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            const Doubles from = read_doubles(x + i * kHalf) - shift[i];
            seen.sum[i] += from;
            seen.squares[i] += from * from;
        }
#pragma GCC unroll 2
        for (int i = 0; i < kParts; ++i) {
            const V key = read_keys(x + i * kPart);
            seen.low[i] = smaller(seen.low[i], key);
            seen.high[i] = larger(seen.high[i], key);
            write(keys + i * kPart, key);
        }
    }
    if constexpr (std::is_floating_point_v<S>) {
        V odd = {};
        for (int i = 0; i < kParts; ++i) odd |= (seen.high[i] > kTop<Key>) | (seen.low[i] < -kTop<Key> - 1);
        if (any<Key>(odd)) return false;
    }
    seen.add_to(out);
    return true;
}

// The same for a block of floats or doubles with infinities or NaN in it.
template <typename S>
FASTSERVE_INLINE void digest_odd(const S* x, int64_t stride, int64_t rows, KeyOf<S>* keys,
                                 Tally<KeyOf<S>>& out) noexcept {
    using Key = KeyOf<S>;
    using V = VectorOf<Key>;
    constexpr int kPart = Seen<Key>::kPart, kParts = Seen<Key>::kParts, kHalf = Seen<Key>::kHalf;
    Seen<Key> seen;
    V missing[kParts] = {}, negative[kParts] = {}, positive[kParts] = {};
    const Doubles shift[2] = {read<Doubles>(out.shift), read<Doubles>(out.shift + kHalf)};
    for (int64_t r = 0; r < rows; ++r, x += stride, keys += kLanes) {
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) {
            const Doubles value = read_doubles(x + i * kHalf);
            const Doubles from = value - value == Doubles{} ? value - shift[i] : Doubles{};
            seen.sum[i] += from;
            seen.squares[i] += from * from;
        }
#pragma GCC unroll 2
        for (int i = 0; i < kParts; ++i) {
            const V key = read_keys(x + i * kPart);
            const V above = key > kTop<Key>, below = key < -kTop<Key> - 1;
            const V no = (key > kTop<Key> + 1) | (key < -kTop<Key> - 2);
            missing[i] -= no;
            positive[i] -= above & ~no;
            negative[i] -= below & ~no;
            seen.low[i] = smaller(seen.low[i], above | below ? V{} + kNever<Key> : key);
            seen.high[i] = larger(seen.high[i], above | below ? V{} + kMissing<Key> : key);
            write(keys + i * kPart, no ? V{} + kMissing<Key> : key);
        }
    }
    seen.add_to(out);
    for (int i = 0; i < kParts; ++i) {
        write(out.missing + i * kPart, read<V>(out.missing + i * kPart) + missing[i]);
        write(out.negative + i * kPart, read<V>(out.negative + i * kPart) + negative[i]);
        write(out.positive + i * kPart, read<V>(out.positive + i * kPart) + positive[i]);
    }
}

// Adds to above[j] how many keys of each lane of a vector lie above edges[j], for kEdges edges at once.
template <typename Key, int kEdges>
FASTSERVE_INLINE void add_above(const Key* keys, int64_t rows, const Key* edges, Key* above) noexcept {
    using V = VectorOf<Key>;
    V count[kEdges];
#pragma GCC unroll 16
    for (int j = 0; j < kEdges; ++j) count[j] = V{};
    for (int64_t r = 0; r < rows; ++r) {
        const V key = read<V>(keys + r * kLanes);
#pragma GCC unroll 16
        for (int j = 0; j < kEdges; ++j) count[j] -= key > read<V>(edges + j * kLanes);
    }
#pragma GCC unroll 16
    for (int j = 0; j < kEdges; ++j) write(above + j * kLanes, read<V>(above + j * kLanes) + count[j]);
}

// Memory that will be read next: asked for a little at a time between two passes over a block.
struct Ahead {
    const char *at, *end;

    FASTSERVE_INLINE void fetch(int lines) noexcept {
        for (int i = 0; i < lines && at < end; ++i, at += 64) __builtin_prefetch(at, 0, 2);
    }
};

// As many edges at once as leave room in the registers, split evenly.
template <typename Key>
FASTSERVE_INLINE void count_above(const Key* keys, int64_t rows, const Key* edges, int64_t number, Key* above,
                                  Ahead& ahead, int lines) noexcept {
    constexpr int kMost = 9;
    for (int64_t left = number, size; left > 0; left -= size, edges += size * kLanes, above += size * kLanes) {
        const int64_t parts = (left + kMost - 1) / kMost;
        size = (left + parts - 1) / parts;
        ahead.fetch(lines);
        switch (size) {
            case 1: add_above<Key, 1>(keys, rows, edges, above); break;
            case 2: add_above<Key, 2>(keys, rows, edges, above); break;
            case 3: add_above<Key, 3>(keys, rows, edges, above); break;
            case 4: add_above<Key, 4>(keys, rows, edges, above); break;
            case 5: add_above<Key, 5>(keys, rows, edges, above); break;
            case 6: add_above<Key, 6>(keys, rows, edges, above); break;
            case 7: add_above<Key, 7>(keys, rows, edges, above); break;
            case 8: add_above<Key, 8>(keys, rows, edges, above); break;
            default: add_above<Key, 9>(keys, rows, edges, above); break;
        }
    }
}

// How many of the edges, each `apart` keys from the last, lie below the key.
template <typename Key>
FASTSERVE_INLINE int64_t search(const Key* edges, int64_t number, int64_t apart, Key key) noexcept {
    int64_t below = 0;
    while (number > 0) {
        const int64_t half = (number + 1) >> 1;
        below += half & -static_cast<int64_t>(key > edges[(below + half - 1) * apart]);
        number -= half;
    }
    return below;
}

// For several keys at once and edges that lie together: a step waits for the one before it, not for those of others.
constexpr int kAbreast = 8;
template <typename Key>
FASTSERVE_INLINE void search_abreast(const Key* edges, int64_t number, const Key* keys, int64_t* below) noexcept {
    for (; number > 0; number >>= 1) {
        const int64_t half = (number + 1) >> 1;
        for (int i = 0; i < kAbreast; ++i)
            below[i] += half & -static_cast<int64_t>(keys[i] > edges[below[i] + half - 1]);
    }
}

}  // namespace fastserve::number
