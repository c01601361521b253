// Decimal digits, eight at a time in an ordinary 64-bit register: one source for every little-endian CPU.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastserve {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the digit arithmetic needs a little-endian CPU");

// Number readers may look this many bytes ahead of the number's first byte, whatever those bytes are.
constexpr int64_t kLookahead = 64;

constexpr uint64_t kPowers10[] = {1,       10,        100,        1'000,      10'000,
                                  100'000, 1'000'000, 10'000'000, 100'000'000};

inline uint64_t load8(const char* p) noexcept {
    uint64_t value;
    std::memcpy(&value, p, 8);
    return value;
}

inline bool is_digit(char c) noexcept { return static_cast<uint8_t>(c - '0') <= 9; }

// The number that eight bytes of 0 to 9 write, the first one leading: pairs, then fours, then all.
inline uint64_t join_digits(uint64_t values) noexcept {
    constexpr uint64_t mask = 0x000000FF000000FF;
    values = values * 10 + (values >> 8);
    return ((values & mask) * 0x000F424000000064 + ((values >> 16) & mask) * 0x0000271000000001) >> 32;
}

// The digits at the head of eight characters.
class Digits {
   public:
    explicit Digits(const char* p) noexcept : values_(load8(p) ^ 0x3030303030303030) {
        // A carry out of a byte that is no digit can only blur the bytes after it.
        others_ = ((values_ + 0x7676767676767676) | values_) & 0x8080808080808080;
    }

    bool all() const noexcept { return others_ == 0; }
    uint64_t eight() const noexcept { return join_digits(values_); }

    // The rest is for fewer than eight digits.
    uint64_t count() const noexcept { return static_cast<uint64_t>(__builtin_ctzll(others_)) >> 3; }

    // `head` followed by these digits. They move to the end and zeros come before them, so that any count costs the same;
    // the shift is 56 - 8 * count, as the first other byte is marked by bit 8 * count + 7.
    uint64_t after(uint64_t head) const noexcept {
        const uint64_t padded = (values_ << 8) << (~__builtin_ctzll(others_) & 63);
        return head * kPowers10[count()] + join_digits(padded);
    }

   private:
    uint64_t values_;
    uint64_t others_;
};

}  // namespace fastserve
