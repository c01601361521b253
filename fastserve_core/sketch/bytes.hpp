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

// What every state begins with: magic [4], version u16, features u64, counts u64, fingerprint u64.
struct Header {
    static constexpr size_t kBytes = 4 + 2 + 3 * 8;
    const char* magic;
    uint16_t version;
    int64_t features, counts;
    uint64_t fingerprint;
    size_t state_bytes;  // all of it

    void write(char*& out) const noexcept {
        std::memcpy(out, magic, 4);
        out += 4;
        put(out, version, 2);
        put(out, static_cast<uint64_t>(features));
        put(out, static_cast<uint64_t>(counts));
        put(out, fingerprint);
    }

    // Whether a state has this header and this size.
    Problem check(const char* state, size_t size) const noexcept {
        if (size < 4) return kTruncated;
        if (std::memcmp(state, magic, 4)) return kNotAState;
        if (size < kBytes) return kTruncated;
        if (load(state + 4, 2) != version) return kOtherVersion;
        if (load(state + 6) != static_cast<uint64_t>(features) || load(state + 14) != static_cast<uint64_t>(counts) ||
            load(state + 22) != fingerprint)
            return kOtherPlan;
        return size == state_bytes ? kFine : size < state_bytes ? kTruncated : kTooLong;
    }
};

}  // namespace fastserve::sketch
