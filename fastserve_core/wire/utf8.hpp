// Code points as UTF-8: the request's escapes and the answer's strings.
#pragma once

#include <cstdint>

namespace fastserve {

// One code point as UTF-8; what has no UTF-8 form (a surrogate on its own) becomes U+FFFD.
inline char* write_point(char* at, uint32_t point) noexcept {
    if (point < 0x80) {
        *at++ = static_cast<char>(point);
        return at;
    }
    if (point >= 0xd800 && point < 0xe000) point = 0xfffd;
    if (point < 0x800) {
        *at++ = static_cast<char>(0xc0 | (point >> 6));
    } else {
        if (point < 0x10000) {
            *at++ = static_cast<char>(0xe0 | (point >> 12));
        } else {
            *at++ = static_cast<char>(0xf0 | (point >> 18));
            *at++ = static_cast<char>(0x80 | ((point >> 12) & 63));
        }
        *at++ = static_cast<char>(0x80 | ((point >> 6) & 63));
    }
    *at++ = static_cast<char>(0x80 | (point & 63));
    return at;
}

}  // namespace fastserve
