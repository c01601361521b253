// Character classes and small comparisons that the head scan and the chunk scan share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace fastserve::http {

struct Span {
    uint32_t at = 0, length = 0;
};

struct CharacterTable {
    bool member[256] = {};
    constexpr explicit CharacterTable(const char* marks) {
        for (int c = '0'; c <= '9'; ++c) member[c] = true;
        for (int c = 'a'; c <= 'z'; ++c) member[c] = member[c - 32] = true;
        for (; *marks; ++marks) member[static_cast<unsigned char>(*marks)] = true;
    }
};

inline constexpr CharacterTable TOKEN("!#$%&'*+-.^_`|~");           // RFC 9110, 5.6.2
inline constexpr CharacterTable PATH("-._~!$&'()*+,;=:@/");         // RFC 3986 path without percent-encoding

inline bool is_token(char c) noexcept { return TOKEN.member[static_cast<unsigned char>(c)]; }
inline bool is_path(char c) noexcept { return PATH.member[static_cast<unsigned char>(c)]; }
inline bool is_digit(char c) noexcept { return static_cast<unsigned char>(c - '0') <= 9; }

// Whether `text` equals the lower-case literal, letters compared without case. The caller has compared lengths;
// setting bit 5 maps no token character but the upper-case letter onto a letter or the hyphen.
template <size_t N>
inline bool same(const char* text, const char (&lower)[N]) noexcept {
    constexpr size_t length = N - 1;
    constexpr uint64_t bit5 = 0x2020202020202020u;
    if constexpr (length >= 8) {
        uint64_t difference = 0, a, b;
        for (size_t i = 0; i < length; i += 8) {
            const size_t at = i + 8 <= length ? i : length - 8;
            std::memcpy(&a, text + at, 8);
            std::memcpy(&b, lower + at, 8);
            difference |= (a | bit5) ^ b;
        }
        return difference == 0;
    } else {
        static_assert(length >= 4);
        uint32_t a, b, c, d;
        std::memcpy(&a, text, 4);
        std::memcpy(&b, lower, 4);
        std::memcpy(&c, text + length - 4, 4);
        std::memcpy(&d, lower + length - 4, 4);
        return (((a | static_cast<uint32_t>(bit5)) ^ b) | ((c | static_cast<uint32_t>(bit5)) ^ d)) == 0;
    }
}

enum class Digits { FINE, MALFORMED, TOO_LARGE };

// Decimal digits only, at least one, at most 2^63 - 1.
inline Digits parse_digits(const char* text, size_t length, uint64_t& number) noexcept {
    if (length == 0) return Digits::MALFORMED;
    uint64_t sum = 0;
    bool large = false;
    for (size_t i = 0; i < length; ++i) {
        if (!is_digit(text[i])) return Digits::MALFORMED;
        const uint64_t digit = static_cast<uint64_t>(text[i] - '0');
        large |= sum > (INT64_MAX - digit) / 10;
        sum = sum * 10 + digit;
    }
    number = sum;
    return large ? Digits::TOO_LARGE : Digits::FINE;
}

template <bool SPACES>
inline bool stops(unsigned char c) noexcept {
    return c == 0x7f || (SPACES ? c <= 0x20 : c < 0x20 && c != '\t');
}

template <bool SPACES>
inline const char* find_stop(const char* at, const char* end) noexcept {
#if defined(__SSE2__)
    const __m128i highest = _mm_set1_epi8(SPACES ? 0x20 : 0x1f), del = _mm_set1_epi8(0x7f), tab = _mm_set1_epi8('\t');
    for (; end - at >= 16; at += 16) {
        const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(block, highest), block);
        if (!SPACES) low = _mm_andnot_si128(_mm_cmpeq_epi8(block, tab), low);
        const int mask = _mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(block, del)));
        if (mask) return at + __builtin_ctz(static_cast<unsigned>(mask));
    }
#endif
    while (at < end && !stops<SPACES>(static_cast<unsigned char>(*at))) ++at;
    return at;
}

// The first control character other than HTAB, or `end`.
inline const char* find_control(const char* at, const char* end) noexcept { return find_stop<false>(at, end); }

// The first space or control character, or `end`.
inline const char* find_space_or_control(const char* at, const char* end) noexcept { return find_stop<true>(at, end); }

}  // namespace fastserve::http
