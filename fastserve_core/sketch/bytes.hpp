// What the sketches' states are written with: little-endian words, and a hash that is the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fastserve::sketch {

inline uint64_t mix(uint64_t a, uint64_t b) noexcept {
    const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t little(uint64_t word) noexcept {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(word);
#else
    return word;
#endif
}

inline uint64_t load(const char* at, size_t size = 8) noexcept {
    uint64_t word = 0;
    std::memcpy(&word, at, size);
    return little(word);
}

inline void put(char*& out, uint64_t word, size_t size = 8) noexcept {
    for (size_t i = 0; i < size; ++i) *out++ = static_cast<char>(word >> 8 * i);
}

inline uint64_t hash_number(uint64_t value, uint64_t seed) noexcept {
    return mix(value ^ 0x9e3779b97f4a7c15, seed * 2 + 0xd6e8feb86659fd93);
}

// Why a state is not taken in.
enum Problem {
    kFine, kTruncated, kNotAState, kOtherVersion, kOtherPlan, kTooLong, kNegative, kDisagree, kTooManyRows
};

}  // namespace fastserve::sketch
