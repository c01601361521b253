// Tensor data, JSON or binary, into the caller's buffer. What is written never passes rows * row_elements; what is wrong
// is refused, not described.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "escapes.hpp"
#include "json.hpp"
#include "number.hpp"

namespace fastserve {

enum class Kind : int { kBool, kUint8, kUint16, kUint32, kUint64, kInt8, kInt16, kInt32, kInt64, kFp16, kFp32, kFp64, kBytes };

struct KindFacts {
    const char* datatype;
    int64_t item_bytes;
};

// In the order of Kind. A BYTES element is one object pointer in the buffer.
constexpr KindFacts kKinds[] = {{"BOOL", 1},  {"UINT8", 1}, {"UINT16", 2}, {"UINT32", 4}, {"UINT64", 8},
                                {"INT8", 1},  {"INT16", 2}, {"INT32", 4},  {"INT64", 8},  {"FP16", 2},
                                {"FP32", 4},  {"FP64", 8},  {"BYTES", static_cast<int64_t>(sizeof(void*))}};
constexpr int kKindCount = sizeof(kKinds) / sizeof(kKinds[0]);

// Kind of a protocol datatype; -1 when there is none of that name.
inline int kind_of(std::string_view datatype) noexcept {
    for (int kind = 0; kind < kKindCount; ++kind) {
        if (datatype == kKinds[kind].datatype) return kind;
    }
    return -1;
}

// Puts one string into element `index` of a BYTES buffer; false refuses it (not UTF-8).
using PutString = bool (*)(void* buffer, int64_t index, const char* text, size_t length);

struct TensorSpec {
    std::string name;
    Kind kind;
    std::vector<int64_t> row_dims;
    int64_t row_elements;

    std::string_view datatype() const noexcept { return kKinds[static_cast<int>(kind)].datatype; }
    int64_t row_bytes() const noexcept { return row_elements * kKinds[static_cast<int>(kind)].item_bytes; }
};

// A value that `read_common` refused or could not see far enough for. Near the end of the text it is read from a padded
// copy. Null also when it runs up to the end or only a comma follows: every value of a tensor has a bracket after it.
template <class T>
[[gnu::noinline]] const char* read_uncommon(const char* p, const char* end, T& out) noexcept {
    const int64_t left = end - p;
    const char* next;
    if (left >= kLookahead) {
        next = read_rare(p, end, out);
    } else {
        char padded[kLookbehind + 2 * kLookahead];
        char* const copy = padded + kLookbehind;
        std::memset(padded, 0, kLookbehind);
        std::memcpy(copy, p, static_cast<size_t>(left));
        std::memset(copy + left, 0, kLookahead);
        next = read_common(copy, out);
        if (next == nullptr) next = read_rare(copy, copy + left, out);
        if (next != nullptr) next = p + (next - copy);
    }
    if (next == nullptr || next >= end || (end - next == 1 && *next == ',')) return nullptr;
    return next;
}

// Reads exactly `count` comma-separated values from `cursor` to `out`; kLookbehind bytes before the first are readable.
// Not inlined: the loop wants all registers.
template <class T>
[[gnu::noinline]] bool read_run(Cursor& cursor, T* out, int64_t count) noexcept {
    const char* p = cursor.p;
    const char* const end = cursor.end;
    const char* const limit = end - p < kCommonLookahead ? nullptr : end - kCommonLookahead;
    for (T* const stop = out + count;;) {
        const char* next = p <= limit ? read_common(p, *out) : nullptr;
        if (__builtin_expect(next == nullptr, 0)) {
            const char* const value = skip_space(p, end);
            if (value != p && value <= limit) {
                p = value;
                continue;
            }
            next = read_several(value, end, out, stop);
            if (next == nullptr) next = read_uncommon(value, end, *out++);
            if (next == nullptr) return false;
        } else {
            ++out;
        }
        p = next;
        if (out == stop) break;
        if (*p != ',') {
            p = skip_space(p, end);
            if (end - p < 2 || *p != ',') return false;
        }
        if (*++p == ' ') {
            asm volatile("");  // keeps this a branch: as arithmetic it would delay every number by a load
            ++p;
        }
    }
    cursor.p = p;
    return true;
}

// The shortest text that can stand before a request's numbers.
static_assert(sizeof(R"({"inputs":[{"data":[)") - 1 >= kLookbehind, "readers would look back past the body");

struct StringRun {
    void* buffer;
    int64_t index;
    PutString put;
};

inline bool put_escaped(const StringRun& run, std::string_view text) noexcept {
    char few[256];
    std::unique_ptr<char[]> many;
    if (text.size() > sizeof few) many.reset(new (std::nothrow) char[text.size()]);
    char* const out = text.size() > sizeof few ? many.get() : few;
    const char* const stop = out == nullptr ? nullptr : unescape(text, out);
    return stop != nullptr && run.put(run.buffer, run.index, out, static_cast<size_t>(stop - out));
}

inline bool read_run(Cursor& cursor, StringRun& run, int64_t count) noexcept {
    for (int64_t i = 0; i < count; ++i, ++run.index) {
        std::string_view text;
        bool escaped;
        if (i > 0 && !cursor.take(',')) return false;
        if (!cursor.string(text, escaped)) return false;
        if (escaped ? !put_escaped(run, text) : !run.put(run.buffer, run.index, text.data(), text.size())) return false;
    }
    return true;
}

// Values of one kind, run after run.
template <class T>
struct Writer {
    T* out;
    bool run(Cursor& cursor, int64_t count) noexcept {
        T* const stop = out + count;
        cursor.peek();
        if (count > 1 && prefers_several<T>()) {
            const char* const next = read_several(cursor.p, cursor.end, out, stop);
            if (next != nullptr) cursor.p = next;
            if (out == stop) return true;
            if (next != nullptr && !cursor.take(',')) return false;
        }
        const bool good = read_run(cursor, out, stop - out);
        out = stop;
        return good;
    }
};

template <>
struct Writer<StringRun> {
    StringRun out;
    bool run(Cursor& cursor, int64_t count) noexcept { return read_run(cursor, out, count); }
};

// More lists in one tensor are handed over: the ordinary path bounds the lists of a whole document.
constexpr int64_t kMaxLists = 65'536;

inline bool few_lists(const TensorSpec& spec, int64_t rows) noexcept {
    int64_t lists = rows;
    int64_t all = rows;
    for (size_t level = 0; level + 1 < spec.row_dims.size() && all <= kMaxLists; ++level) {
        if (spec.row_dims[level] > kMaxLists) return false;
        lists *= spec.row_dims[level];
        all += lists;
    }
    return all <= kMaxLists;
}

constexpr int kMaxDepth = 32;

// One row, nested exactly like `dims`, each of which is at least 1: a bare value where there are none.
template <class T>
bool read_row(Cursor& cursor, const std::vector<int64_t>& dims, Writer<T>& writer) noexcept {
    const int last = static_cast<int>(dims.size()) - 1;
    if (last < 0) return writer.run(cursor, 1);
    int64_t left[kMaxDepth];
    for (int level = -1;;) {
        while (level < last) {
            if (!cursor.take('[')) return false;
            ++level;
            left[level] = dims[static_cast<size_t>(level)];
        }
        if (!writer.run(cursor, left[last])) return false;
        do {
            if (!cursor.take(']')) return false;
            if (--level < 0) return true;
        } while (--left[level] == 0);
        if (!cursor.take(',')) return false;
    }
}

// `data` flat in row-major order, or nested exactly like [rows, *row_dims]. Every dimension is at least 1.
template <class T>
bool read_data(Cursor& cursor, const TensorSpec& spec, int64_t rows, Writer<T>& writer) noexcept {
    const size_t rank = spec.row_dims.size();
    if (!cursor.take('[')) return false;
    if (cursor.peek() != '[') return writer.run(cursor, rows * spec.row_elements) && cursor.take(']');
    if (rank == 0 || rank >= kMaxDepth || !few_lists(spec, rows)) return false;
    for (int64_t row = 0; row < rows; ++row) {
        if ((row > 0 && !cursor.take(',')) || !read_row(cursor, spec.row_dims, writer)) return false;
    }
    return cursor.take(']');
}

// Calls read(writer) with the writer to elements of `kind` from `first` on in a buffer.
template <class Read>
bool write_as(Kind kind, void* out, int64_t first, PutString put, Read read) noexcept {
    const auto typed = [&](auto* values) { return read(Writer<std::remove_pointer_t<decltype(values)>>{values + first}); };
    switch (kind) {
        case Kind::kBool: return typed(static_cast<Bool*>(out));
        case Kind::kUint8: return typed(static_cast<uint8_t*>(out));
        case Kind::kUint16: return typed(static_cast<uint16_t*>(out));
        case Kind::kUint32: return typed(static_cast<uint32_t*>(out));
        case Kind::kUint64: return typed(static_cast<uint64_t*>(out));
        case Kind::kInt8: return typed(static_cast<int8_t*>(out));
        case Kind::kInt16: return typed(static_cast<int16_t*>(out));
        case Kind::kInt32: return typed(static_cast<int32_t*>(out));
        case Kind::kInt64: return typed(static_cast<int64_t*>(out));
        case Kind::kFp16: return false;  // halves come as bytes only; the ordinary path reads them as JSON
        case Kind::kFp32: return typed(static_cast<float*>(out));
        case Kind::kFp64: return typed(static_cast<double*>(out));
        case Kind::kBytes: return read(Writer<StringRun>{{out, first, put}});
    }
    return false;
}

inline bool read_json_data(Cursor& cursor, const TensorSpec& spec, int64_t rows, void* out, PutString put) noexcept {
    return write_as(spec.kind, out, 0, put, [&](auto writer) { return read_data(cursor, spec, rows, writer); });
}

// One flat array of exactly `count` numbers and nothing else. The copy gives the readers something to look back at.
inline bool read_numbers(const char* text, int64_t length, int kind, void* out, int64_t count) {
    const std::string copy = std::string(kLookbehind, ' ').append(text, static_cast<size_t>(length));
    const TensorSpec spec{{}, static_cast<Kind>(kind), {}, 1};
    Cursor cursor{copy.data() + kLookbehind, copy.data() + copy.size()};
    return read_json_data(cursor, spec, count, out, nullptr) && cursor.at_end();
}

// The binary tensor extension: little-endian, row-major; BOOL is 0 or 1, a BYTES element carries its length first.
inline bool read_binary_data(const char* p, int64_t size, const TensorSpec& spec, int64_t rows, void* out,
                             PutString put) noexcept {
    const int64_t count = rows * spec.row_elements;
    if (spec.kind == Kind::kBytes) {
        for (int64_t i = 0; i < count; ++i) {
            uint32_t length;
            if (size < 4) return false;
            std::memcpy(&length, p, 4);
            p += 4;
            size -= 4;
            if (size < static_cast<int64_t>(length) || !put(out, i, p, length)) return false;
            p += length;
            size -= length;
        }
        return size == 0;
    }
    if (size != rows * spec.row_bytes()) return false;
    if (spec.kind == Kind::kBool) {
        uint8_t all = 0;
        for (int64_t i = 0; i < size; ++i) all |= static_cast<uint8_t>(p[i]);
        if (all > 1) return false;
    }
    std::memcpy(out, p, static_cast<size_t>(size));
    return true;
}

}  // namespace fastserve
