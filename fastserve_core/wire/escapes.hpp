// What a JSON string with escapes says. Clients whose libraries write ASCII only, as Python's does, escape every letter
// outside it.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

#include "utf8.hpp"

namespace fastserve {

// The number that the four hexadecimal digits at `p` are; -1 when they are not.
inline int32_t read_unit(const char* p, const char* end) noexcept {
    if (end - p < 4) return -1;
    int32_t unit = 0;
    for (const char* const stop = p + 4; p < stop; ++p) {
        const int digit = *p - '0', letter = (*p | 0x20) - 'a';
        if (!(digit >= 0 && digit <= 9) && !(letter >= 0 && letter <= 5)) return -1;
        unit = unit << 4 | (digit <= 9 ? digit : letter + 10);
    }
    return unit;
}

// Steps over the four digits of an escape, or over two escapes that are a surrogate pair: the code point; -1 when they
// are none.
inline int32_t read_point(const char*& p, const char* end) noexcept {
    const int32_t unit = read_unit(p, end);
    if (unit < 0) return -1;
    p += 4;
    if (unit < 0xd800 || unit > 0xdfff) return unit;
    if (unit > 0xdbff || end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
    const int32_t low = read_unit(p + 2, end);
    if (low < 0xdc00 || low > 0xdfff) return -1;
    p += 6;
    return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

// Writes the text between a string's quotes to `out` as UTF-8, which is never longer: where it ends, or null when an
// escape is wrong.
inline char* unescape(std::string_view text, char* out) noexcept {
    static constexpr char kMarks[] = "\"\\/bfnrt", kMeanings[] = "\"\\/\b\f\n\r\t";
    const char* p = text.data();
    const char* const end = p + text.size();
    while (p < end) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        if (end - p < 2) return nullptr;
        const char mark = p[1];
        p += 2;
        if (mark == 'u') {
            const int32_t point = read_point(p, end);
            if (point < 0) return nullptr;
            out = write_point(out, static_cast<uint32_t>(point));
            continue;
        }
        const void* const found = std::memchr(kMarks, mark, sizeof kMarks - 1);
        if (found == nullptr) return nullptr;
        *out++ = kMeanings[static_cast<const char*>(found) - kMarks];
    }
    return out;
}

}  // namespace fastserve
