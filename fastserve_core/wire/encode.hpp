// Numbers and strings as JSON text, written into one buffer that is kept from response to response.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "shortest.hpp"
#include "utf8.hpp"

namespace fastserve::answer {

// Bytes that grow; every writer below reserves before it writes.
class Scratch {
  public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { std::free(data_); }

    const char* data() const noexcept { return data_; }
    size_t size() const noexcept { return size_; }
    char* tail() noexcept { return data_ + size_; }
    void set_tail(const char* tail) noexcept { size_ = static_cast<size_t>(tail - data_); }

    bool reserve(size_t more) noexcept {
        if (more <= capacity_ - size_) return true;
        if (more > PTRDIFF_MAX - size_) return false;
        size_t wanted = capacity_ < PTRDIFF_MAX / 2 ? capacity_ * 2 : 0;
        if (wanted < size_ + more) wanted = size_ + more;
        if (wanted < FIRST_BYTES) wanted = FIRST_BYTES;
        void* moved = std::realloc(data_, wanted);
        if (!moved) return false;
        data_ = static_cast<char*>(moved);
        capacity_ = wanted;
        return true;
    }

    bool append(const char* text, size_t length) noexcept {
        if (!reserve(length)) return false;
        if (length) std::memcpy(tail(), text, length);
        size_ += length;
        return true;
    }

    // Overwrites four bytes with the little-endian number.
    void set_length(size_t at, uint32_t length) noexcept {
        for (int i = 0; i < 4; ++i) data_[at + static_cast<size_t>(i)] = static_cast<char>(length >> (8 * i));
    }

    // Empty again; one huge response must not hold its memory for ever.
    void clear() noexcept {
        size_ = 0;
        if (capacity_ <= KEPT_BYTES) return;
        std::free(data_);
        data_ = nullptr;
        capacity_ = 0;
    }

  private:
    static constexpr size_t FIRST_BYTES = 4096, KEPT_BYTES = size_t{4} << 20;
    char* data_ = nullptr;
    size_t size_ = 0, capacity_ = 0;
};

enum Kind : int { BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FP16, FP32, FP64, BYTES };

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "binary tensors are little-endian and copied as they are");

constexpr size_t NUMBER_BYTES = 40;  // a number, its comma, and what write_real may overwrite behind it

struct Half {
    uint16_t bits;
};

inline float widen(Half half) noexcept {
    const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000u) << 16;
    const uint32_t exponent = (half.bits >> 10) & 31u, fraction = half.bits & 0x3ffu;
    if (exponent == 0) {
        const float size = static_cast<float>(fraction) * 0x1p-24f;
        return sign ? -size : size;
    }
    const uint32_t bits = sign | ((exponent == 31 ? 255u : exponent + 112u) << 23) | (fraction << 13);
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// Labels and counts are small: up to four digits at once, the way of eight_digits.
template <typename Whole>
inline char* write_whole(char* at, Whole value) noexcept {
    if (value < 0 || static_cast<uint64_t>(value) >= 10000) return std::to_chars(at, at + NUMBER_BYTES, value).ptr;
    const uint32_t size = static_cast<uint32_t>(value);
    const uint32_t hundreds = size * 5243 >> 19;
    const uint32_t pairs = hundreds | (size - hundreds * 100) << 16;
    const uint32_t tens = (pairs * 103 >> 10) & 0x000f000f;
    const uint32_t digits = tens | (pairs - tens * 10) << 8;
    const int count = 1 + (size >= 10) + (size >= 100) + (size >= 1000);
    const uint32_t text = (digits + static_cast<uint32_t>(ASCII_ZEROS)) >> (8 * (4 - count));
    std::memcpy(at, &text, 4);
    return at + count;
}

template <typename T>
inline char* write_value(char* at, T value) noexcept {
    if constexpr (std::is_same_v<T, bool>) {
        const size_t length = value ? 4 : 5;
        std::memcpy(at, value ? "true" : "false", length);
        return at + length;
    } else if constexpr (std::is_same_v<T, Half>) {
        return write_real(at, widen(value));
    } else if constexpr (std::is_floating_point_v<T>) {
        return write_real(at, value);
    } else {
        return write_whole(at, value);
    }
}

template <typename T>
inline bool write_all(Scratch& out, const char* data, size_t count) noexcept {
    constexpr size_t BLOCK = 256;
    for (size_t first = 0; first < count; first += BLOCK) {
        const size_t stop = count - first < BLOCK ? count : first + BLOCK;
        if (!out.reserve(BLOCK * NUMBER_BYTES)) return false;
        char* at = out.tail();
        for (size_t i = first; i < stop; ++i) {
            T value;
            if constexpr (std::is_same_v<T, bool>) value = data[i] != 0;
            else std::memcpy(&value, data + i * sizeof(T), sizeof(T));
            if (i) *at++ = ',';
            at = write_value(at, value);
        }
        out.set_tail(at);
    }
    return true;
}

// `count` elements separated by commas; false when memory is short. Not for BYTES.
inline bool write_numbers(Scratch& out, int kind, const char* data, size_t count) noexcept {
    switch (kind) {
        case BOOL: return write_all<bool>(out, data, count);
        case INT8: return write_all<int8_t>(out, data, count);
        case INT16: return write_all<int16_t>(out, data, count);
        case INT32: return write_all<int32_t>(out, data, count);
        case INT64: return write_all<int64_t>(out, data, count);
        case UINT8: return write_all<uint8_t>(out, data, count);
        case UINT16: return write_all<uint16_t>(out, data, count);
        case UINT32: return write_all<uint32_t>(out, data, count);
        case UINT64: return write_all<uint64_t>(out, data, count);
        case FP16: return write_all<Half>(out, data, count);
        case FP32: return write_all<float>(out, data, count);
        case FP64: return write_all<double>(out, data, count);
        default: return false;
    }
}

inline bool write_integer(Scratch& out, int64_t value) noexcept {
    if (!out.reserve(NUMBER_BYTES)) return false;
    out.set_tail(write_whole(out.tail(), value));
    return true;
}

inline char* write_escaped(char* at, uint32_t point) noexcept {
    static constexpr char hex[] = "0123456789abcdef", shorts[] = "btn?fr";  // 8 … 13; 11 has no short form
    if (point >= 0x20) {
        if (point == '"' || point == '\\') *at++ = '\\';
        return write_point(at, point);
    }
    *at++ = '\\';
    if (point >= 8 && point <= 13 && point != 11) {
        *at++ = shorts[point - 8];
        return at;
    }
    std::memcpy(at, "u00", 3);
    at[3] = hex[point >> 4];
    at[4] = hex[point & 15];
    return at + 5;
}

template <typename Unit>
inline bool write_units(Scratch& out, const void* text, size_t length, bool escape) noexcept {
    constexpr size_t BLOCK = 1024, LONGEST = 6;
    const Unit* units = static_cast<const Unit*>(text);
    for (size_t first = 0; first < length; first += BLOCK) {
        const size_t stop = length - first < BLOCK ? length : first + BLOCK;
        if (!out.reserve((stop - first) * LONGEST)) return false;
        char* at = out.tail();
        for (size_t i = first; i < stop; ++i) at = escape ? write_escaped(at, units[i]) : write_point(at, units[i]);
        out.set_tail(at);
    }
    return true;
}

// A string of 1, 2 or 4 bytes a code point (CPython's kinds) as UTF-8, with JSON escapes on demand; false when memory
// is short.
inline bool write_string(Scratch& out, int unit_bytes, const void* text, size_t length, bool escape) noexcept {
    if (unit_bytes == 1) return write_units<uint8_t>(out, text, length, escape);
    if (unit_bytes == 2) return write_units<uint16_t>(out, text, length, escape);
    return write_units<uint32_t>(out, text, length, escape);
}

}  // namespace fastserve::answer
