// Counts of one tensor's values against fixed categories: which category a value is, and how often each came.
//
// All features share one open-addressing table from (feature, value) to the category's place in the flat counts: at
// most half full, so that a value that is no category costs a few probes whatever a client sends. Whole numbers that
// lie close together have a plain table of their own instead.
#pragma once

#include <Python.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <type_traits>
#include <vector>

#include "bytes.hpp"
#include "dtypes.hpp"

namespace fastserve::category {

using namespace fastserve::sketch;

constexpr int64_t kMaxCategories = 1'000'000;
constexpr int64_t kAbsent = -1;

// The same on every machine: it goes into the fingerprint.
inline uint64_t hash_text(const char* text, size_t size, uint64_t seed) noexcept {
    uint64_t hash = hash_number(size, seed);
    for (; size >= 8; text += 8, size -= 8) hash = mix(hash ^ load(text), 0xa0761d6478bd642f);
    return size ? mix(hash ^ load(text, size), 0xe7037ed1a0b428db) : hash;
}

// The categories of every feature. Fixed once `close` has been called; then any number of threads may look up.
class Plan {
public:
    std::vector<int64_t> offsets{0};

    int64_t features() const noexcept { return static_cast<int64_t>(offsets.size()) - 1; }
    int64_t categories() const noexcept { return static_cast<int64_t>(keys_.size()); }
    uint64_t fingerprint() const noexcept { return fingerprint_; }

    // Both add a category to the feature being described: false when it has it already.
    bool add_text(const char* text, size_t size) {
        const uint64_t key = hash_text(text, size, static_cast<uint64_t>(features()));
        if (find_text(features(), key, text, size) != kAbsent) return false;
        text_.insert(text_.end(), text, text + size);
        ends_.push_back(text_.size());
        longest_ = std::max(longest_, size);
        return add(key, tag(features(), false));
    }

    // `large`: the bits are those of a number above 2^63 - 1, else of an int64.
    bool add_number(uint64_t bits, bool large) {
        if (find_hashed(features(), bits, large) != kAbsent) return false;
        return add(bits, tag(features(), large));
    }

    // The feature being described is complete.
    void end_feature() { offsets.push_back(categories()); }

    // All features are.
    void close(bool text) {
        fingerprint_ = hash_number(static_cast<uint64_t>(features()), text ? 1 : 2);
        for (int64_t f = 0; f < features(); ++f) {
            fingerprint_ = hash_number(fingerprint_, static_cast<uint64_t>(offsets[f + 1] - offsets[f]));
            for (int64_t i = offsets[f]; i < offsets[f + 1]; ++i)
                fingerprint_ = hash_number(fingerprint_ ^ keys_[i], tags_[i] & 1);
            runs_.push_back(text ? Run{} : run_of(f));
        }
        scratch.resize(longest_);
    }

    int64_t find_text(int64_t f, const char* text, size_t size) const noexcept {
        if (size > longest_) return kAbsent;
        return find_text(f, hash_text(text, size, static_cast<uint64_t>(f)), text, size);
    }

    template <typename T>
    int64_t find_number(int64_t f, T value) const noexcept {
        if constexpr (std::is_same_v<T, Truth>) {
            return find_signed(f, value.byte != 0);
        } else if constexpr (std::is_floating_point_v<T>) {
            if (!(value >= T{-0x1p63} && value < T{0x1p64}) || std::trunc(value) != value) return kAbsent;
            if (value < T{0x1p63}) return find_signed(f, static_cast<int64_t>(value));
            return find_hashed(f, static_cast<uint64_t>(value), true);
        } else if constexpr (std::is_same_v<T, uint64_t>) {
            return value >> 63 ? find_hashed(f, value, true) : find_signed(f, static_cast<int64_t>(value));
        } else {
            return find_signed(f, static_cast<int64_t>(value));
        }
    }

    // Room for the UTF-8 of the longest category; only who holds the interpreter may write to it.
    std::vector<char> scratch;

private:
    // Whole numbers from `low` on whose places stand in a row in `places_`; `span` 0: they are in the hash table.
    struct Run {
        int64_t low = 0;
        uint64_t span = 0;
        size_t start = 0;
    };

    static uint32_t tag(int64_t f, bool large) noexcept { return static_cast<uint32_t>(f) * 2 + large; }

    static uint64_t spread(uint64_t key, uint32_t tag) noexcept { return hash_number(key, tag); }

    bool add(uint64_t key, uint32_t tag) {
        keys_.push_back(key);
        tags_.push_back(tag);
        if (keys_.size() * 2 > slots_.size()) {
            slots_.assign(slots_.size() * 2, 0);
            for (size_t i = 0; i < keys_.size(); ++i) place(i);
        } else {
            place(keys_.size() - 1);
        }
        return true;
    }

    void place(size_t i) noexcept {
        size_t at = spread(keys_[i], tags_[i]) & (slots_.size() - 1);
        while (slots_[at]) at = (at + 1) & (slots_.size() - 1);
        slots_[at] = static_cast<uint32_t>(i) + 1;
    }

    // Place of the first category with this key and tag that `same` agrees to.
    template <typename Same>
    int64_t probe(uint64_t key, uint32_t tag, Same same) const noexcept {
        for (size_t at = spread(key, tag);; ++at) {
            const uint32_t slot = slots_[at & (slots_.size() - 1)];
            if (!slot) return kAbsent;
            if (keys_[slot - 1] == key && tags_[slot - 1] == tag && same(slot - 1)) return slot - 1;
        }
    }

    int64_t find_text(int64_t f, uint64_t key, const char* text, size_t size) const noexcept {
        return probe(key, tag(f, false), [&](uint32_t i) {
            const size_t start = i ? ends_[i - 1] : 0;
            return ends_[i] - start == size && (!size || !std::memcmp(text_.data() + start, text, size));
        });
    }

    int64_t find_hashed(int64_t f, uint64_t bits, bool large) const noexcept {
        return probe(bits, tag(f, large), [](uint32_t) { return true; });
    }

    int64_t find_signed(int64_t f, int64_t value) const noexcept {
        const Run& run = runs_[f];
        if (!run.span) return find_hashed(f, static_cast<uint64_t>(value), false);
        const uint64_t at = static_cast<uint64_t>(value) - static_cast<uint64_t>(run.low);
        return at < run.span ? places_[run.start + at] : kAbsent;
    }

    // A table for the feature's int64 categories where it takes at most a few entries a category.
    Run run_of(int64_t f) {
        int64_t low = INT64_MAX, high = INT64_MIN;
        for (int64_t i = offsets[f]; i < offsets[f + 1]; ++i) {
            if (tags_[i] & 1) continue;
            low = std::min(low, static_cast<int64_t>(keys_[i]));
            high = std::max(high, static_cast<int64_t>(keys_[i]));
        }
        const uint64_t last = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
        if (low > high || last > static_cast<uint64_t>(4 * (offsets[f + 1] - offsets[f]) + 8)) return Run{};
        const Run run{low, last + 1, places_.size()};
        places_.resize(places_.size() + run.span, kAbsent);
        for (int64_t i = offsets[f]; i < offsets[f + 1]; ++i)
            if (!(tags_[i] & 1))
                places_[run.start + (keys_[i] - static_cast<uint64_t>(low))] = static_cast<int32_t>(i);
        return run;
    }

    std::vector<uint64_t> keys_;               // a category's bits, or the hash of its text
    std::vector<uint32_t> tags_;               // its feature, and whether it lies above int64
    std::vector<uint32_t> slots_{0, 0, 0, 0};  // place + 1, or 0
    std::vector<char> text_;                   // one category after the other, each up to its end
    std::vector<size_t> ends_;
    std::vector<Run> runs_;
    std::vector<int32_t> places_;
    size_t longest_ = 0;
    uint64_t fingerprint_ = 0;
};

// What came so far. Calls of several threads take turns; none runs Python code meanwhile.
class Counts {
public:
    enum Part { kMissing, kUnseen, kCategories };

    void open(const Plan& plan) {
        missing_.assign(plan.features(), 0);
        unseen_.assign(plan.features(), 0);
        counts_.assign(plan.categories(), 0);
    }

    int64_t rows() noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        return rows_;
    }

    void reset() noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        clear();
    }

    void copy(Part part, int64_t* out) noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        const auto& from = part == kMissing ? missing_ : part == kUnseen ? unseen_ : counts_;
        std::copy(from.begin(), from.end(), out);
    }

    // Adds rows of numbers of a dtype; false when the number of rows would pass 2^63 - 1.
    bool count_numbers(const Plan& plan, char kind, int itemsize, const void* values, int64_t rows) noexcept {
        return with_dtype(kind, itemsize, values, [&](const auto* typed) { return count_typed(plan, typed, rows); });
    }

    // The same for objects: str and bytes by their UTF-8, None and what is empty is missing, anything else unseen. Exact
    // types only, so that no object's own code is called. Needs the interpreter.
    bool count_objects(Plan& plan, PyObject* const* items, int64_t rows) noexcept;

    // Adds what `write` wrote, or changes nothing and says why not.
    Problem merge(const Plan& plan, const char* state, size_t size) noexcept;

    static size_t state_bytes(const Plan& plan) noexcept {
        return Header::kBytes + 8 * static_cast<size_t>(1 + 2 * plan.features() + plan.categories());
    }

    // Writes `state_bytes`: header, rows, missing, unseen, counts; all little-endian.
    void write(const Plan& plan, char* out, bool then_clear) noexcept;

private:
    void clear() noexcept {
        rows_ = 0;
        for (auto* each : {&missing_, &unseen_, &counts_}) std::fill(each->begin(), each->end(), 0);
    }

    bool add_rows(int64_t rows) noexcept {
        if (rows > INT64_MAX - rows_) return false;
        rows_ += rows;
        return true;
    }

    template <typename T>
    bool count_typed(const Plan& plan, const T* values, int64_t rows) noexcept {
        const std::lock_guard<std::mutex> turn(mutex_);
        if (!add_rows(rows)) return false;
        const int64_t features = plan.features();
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t f = 0; f < features; ++f, ++values) {
                if constexpr (std::is_floating_point_v<T>)
                    if (std::isnan(*values)) {
                        ++missing_[f];
                        continue;
                    }
                tally(f, plan.find_number(f, *values));
            }
        return true;
    }

    void tally(int64_t f, int64_t place) noexcept { ++(place == kAbsent ? unseen_[f] : counts_[place]); }

    std::mutex mutex_;
    int64_t rows_ = 0;
    std::vector<int64_t> missing_, unseen_, counts_;
};

// UTF-8 of a text that is not ASCII, into `out`: its bytes, or -1 where they are more than `room` or where it holds
// half of a surrogate pair, which has no UTF-8.
inline int64_t encode(PyObject* text, char* out, size_t room) noexcept {
    const Py_ssize_t length = PyUnicode_GET_LENGTH(text);
    const int kind = PyUnicode_KIND(text);
    const void* data = PyUnicode_DATA(text);
    if (static_cast<size_t>(length) > room) return -1;
    size_t size = 0;
    for (Py_ssize_t i = 0; i < length; ++i) {
        const uint32_t code = PyUnicode_READ(kind, data, i);
        const size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        if ((code >= 0xd800 && code < 0xe000) || size + more >= room) return -1;
        constexpr uint8_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
        out[size++] = static_cast<char>(kLead[more] | code >> 6 * more);
        for (size_t k = more; k-- > 0;) out[size++] = static_cast<char>(0x80 | (code >> 6 * k & 0x3f));
    }
    return static_cast<int64_t>(size);
}

inline int64_t find_object(Plan& plan, int64_t f, PyObject* item) noexcept {
    if (PyBytes_CheckExact(item))
        return plan.find_text(f, PyBytes_AS_STRING(item), static_cast<size_t>(PyBytes_GET_SIZE(item)));
    if (!PyUnicode_CheckExact(item)) return kAbsent;
#if PY_VERSION_HEX < 0x030c0000
    if (PyUnicode_READY(item) < 0) {
        PyErr_Clear();
        return kAbsent;
    }
#endif
    if (PyUnicode_IS_ASCII(item))
        return plan.find_text(f, static_cast<const char*>(PyUnicode_DATA(item)),
                              static_cast<size_t>(PyUnicode_GET_LENGTH(item)));
    const int64_t size = encode(item, plan.scratch.data(), plan.scratch.size());
    return size < 0 ? kAbsent : plan.find_text(f, plan.scratch.data(), static_cast<size_t>(size));
}

// No tensor of text can hold less than an empty one: where that is no category it is what a missing value became.
inline bool is_missing(PyObject* item) noexcept {
    return !item || item == Py_None || (PyUnicode_CheckExact(item) && PyUnicode_GET_LENGTH(item) == 0) ||
           (PyBytes_CheckExact(item) && PyBytes_GET_SIZE(item) == 0);
}

inline bool Counts::count_objects(Plan& plan, PyObject* const* items, int64_t rows) noexcept {
    const std::lock_guard<std::mutex> turn(mutex_);
    if (!add_rows(rows)) return false;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t f = 0; f < plan.features(); ++f, ++items) {
            const int64_t place = *items ? find_object(plan, f, *items) : kAbsent;
            if (place == kAbsent && is_missing(*items))
                ++missing_[f];
            else
                tally(f, place);
        }
    return true;
}

}  // namespace fastserve::category
