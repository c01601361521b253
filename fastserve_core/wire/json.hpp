// The JSON grammar around the numbers: a bounded cursor that takes what it is asked for or says no. It never recurses
// and never builds a tree.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "digits.hpp"

namespace fastserve {

inline bool is_space(char c) noexcept { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

inline const char* skip_space(const char* p, const char* end) noexcept {
    while (p < end && is_space(*p)) ++p;
    return p;
}

// Printable ASCII.
inline bool is_plain(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

// For members that may come once: whether this is the first time.
inline bool once(bool& seen) noexcept { return !seen && (seen = true); }

class Cursor {
   public:
    const char* p;
    const char* end;

    bool at_end() noexcept { return (p = skip_space(p, end)) == end; }

    // The next character that is not white space, or NUL at the end.
    char peek() noexcept { return at_end() ? '\0' : *p; }

    bool take(char c) noexcept {
        if (p < end && *p == c) {
            ++p;
            return true;
        }
        if (peek() != c) return false;
        ++p;
        return true;
    }

    // A string without escapes and control characters; `text` is what stands between the quotes.
    bool string(std::string_view& text) noexcept {
        bool escaped;
        return string(text, escaped) && !escaped;
    }

    // The same, or one with escapes, which are still to be read.
    bool string(std::string_view& text, bool& escaped) noexcept {
        if (!take('"')) return false;
        const char* q = p;
        for (escaped = false;; escaped = true, q += 2) {
            while (end - q >= 8 && !has_special(load8(q))) q += 8;
            while (q < end && *q != '"' && *q != '\\' && static_cast<uint8_t>(*q) >= 0x20) ++q;
            if (q == end || *q == '"') break;
            if (*q != '\\' || end - q < 2) return false;
        }
        if (q == end) return false;
        text = std::string_view(p, static_cast<size_t>(q - p));
        p = q + 1;
        return true;
    }

    bool key(std::string_view& text) noexcept { return string(text) && take(':'); }

    // A plain integer from 0 to 10^18 - 1; what follows it is for the caller to take.
    bool count(int64_t& value) noexcept {
        peek();
        const char* const first = p;
        int64_t sum = 0;
        while (p < end && is_digit(*p)) {
            if (p - first == 18) return false;
            sum = sum * 10 + (*p++ - '0');
        }
        if (p == first || (*first == '0' && p - first > 1)) return false;
        value = sum;
        return true;
    }

    bool boolean(bool& value) noexcept {
        peek();
        value = end - p >= 4 && std::memcmp(p, "true", 4) == 0;
        if (!value && !(end - p >= 5 && std::memcmp(p, "false", 5) == 0)) return false;
        p += value ? 4 : 5;
        return true;
    }

    // Steps over a value that means nothing here: a plain string, a count, true or false.
    bool skip_scalar() noexcept {
        std::string_view text;
        int64_t number;
        bool flag;
        const char first = peek();
        if (first == '"') return string(text) && is_plain(text);
        return is_digit(first) ? count(number) : boolean(flag);
    }

    // Steps over an array of scalars and arrays without looking at what they are; whoever reads it later does.
    bool skip_array(Cursor& skipped) noexcept {
        if (peek() != '[') return false;
        skipped.p = p;
        int64_t depth = 0;
        do {
            while (end - p >= 8 && !has_bracket_or_quote(load8(p))) p += 8;
            if (p >= end) return false;
            if (*p == '"') {
                std::string_view text;
                bool escaped;
                if (!string(text, escaped)) return false;
                continue;
            }
            depth += (*p == '[') - (*p == ']');
            ++p;
        } while (depth > 0);
        skipped.end = p;
        return true;
    }

    // Calls member(key) for every member of an object, which steps over the value.
    template <class Member>
    bool object(Member member) noexcept {
        if (!take('{')) return false;
        if (take('}')) return true;
        do {
            std::string_view name;
            if (!key(name) || !member(name)) return false;
        } while (take(','));
        return take('}');
    }

    // Calls element() for every element of an array, which steps over it.
    template <class Element>
    bool array(Element element) noexcept {
        if (!take('[')) return false;
        if (take(']')) return true;
        do {
            if (!element()) return false;
        } while (take(','));
        return take(']');
    }

   private:
    static constexpr uint64_t kOnes = 0x0101010101010101;
    static constexpr uint64_t kHighs = 0x8080808080808080;

    static uint64_t has_zero(uint64_t v) noexcept { return (v - kOnes) & ~v & kHighs; }

    static bool has_special(uint64_t v) noexcept {
        const uint64_t control = (v - kOnes * 0x20) & ~v & kHighs;
        return (control | has_zero(v ^ kOnes * '"') | has_zero(v ^ kOnes * '\\')) != 0;
    }

    // Brackets and braces have bit 6 set, which digits, signs, commas and spaces have not.
    static bool has_bracket_or_quote(uint64_t v) noexcept {
        return ((v & kOnes * 0x40) | has_zero(v ^ kOnes * '"')) != 0;
    }
};

}  // namespace fastserve
