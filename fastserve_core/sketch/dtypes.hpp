// The dtypes that the sketches count.
#pragma once

#include <cstdint>

namespace fastserve::sketch {

// A bool as an array holds it: any byte but 0 is true.
struct Truth {
    uint8_t byte;
};

// Calls `count` with a pointer to the values as what they are. `kind` is NumPy's: b, i, u, or f of 4 or 8 bytes.
// Inlined, since passing on what `count` holds would be a twentieth of the time that one row takes.
template <typename Count>
inline __attribute__((always_inline)) bool with_dtype(char kind, int itemsize, const void* values, Count count) {
    const auto as = [&](auto one) { return count(static_cast<const decltype(one)*>(values)); };
    if (kind == 'b') return as(Truth{});
    if (kind == 'f') return itemsize == 4 ? as(float{}) : as(double{});
    switch (itemsize) {
        case 1: return kind == 'i' ? as(int8_t{}) : as(uint8_t{});
        case 2: return kind == 'i' ? as(int16_t{}) : as(uint16_t{});
        case 4: return kind == 'i' ? as(int32_t{}) : as(uint32_t{});
        default: return kind == 'i' ? as(int64_t{}) : as(uint64_t{});
    }
}

}  // namespace fastserve::sketch
