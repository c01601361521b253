// libFuzzer target for the request decoder (tests/fuzz/run builds it). An input is four bytes (signature, rows of room,
// json_length as a little-endian 16-bit number, 0xFFFF for none) and a body. Body and buffers have exactly their size, so
// that one byte read or written too far is an error. Signature 7 takes the body as one array of numbers instead and
// compares every reader with strtod.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "predict.hpp"

namespace {

using namespace fastserve;

void require(bool holds) {
    if (!holds) std::abort();
}

struct Input {
    const char* name;
    Kind kind;
    std::vector<int64_t> row_dims;
};

// The same as in test_corpus_decode.py.
const std::vector<std::vector<Input>> kSignatures = {
    {{"x", Kind::kFp32, {4}}},
    {{"x", Kind::kFp64, {}}},
    {{"x", Kind::kInt8, {2, 3}}, {"y", Kind::kUint64, {}}},
    {{"a", Kind::kBool, {2}}, {"b", Kind::kInt64, {2}}, {"c", Kind::kFp16, {1}}},
    {{"s", Kind::kBytes, {2}}, {"x", Kind::kFp32, {1}}},
    {{"x", Kind::kInt32, {1, 1, 2}}, {"y", Kind::kUint16, {1}}},
    {{"e", Kind::kFp32, {0}}, {"x", Kind::kUint8, {}}},
};

// Strings are copied into their slot, a pointer wide, so that wrong slots and wrong lengths show.
bool put(void* buffer, int64_t index, const char* text, size_t length) {
    uint64_t sum = length;
    for (size_t i = 0; i < length; ++i) sum = sum * 31 + static_cast<uint8_t>(text[i]);
    std::memcpy(static_cast<char*>(buffer) + index * static_cast<int64_t>(sizeof(void*)), &sum, sizeof(void*));
    return true;
}

void decode(const std::vector<Input>& signature, int64_t room, int64_t json_length, const char* body, size_t size) {
    InferReader reader;
    std::vector<std::unique_ptr<char[]>> buffers;
    std::vector<void*> places;
    for (const Input& input : signature) {
        reader.add_input(input.name, static_cast<int>(input.kind), input.row_dims);
        const int64_t bytes = room * reader.row_bytes(reader.input_count() - 1);
        buffers.push_back(std::make_unique<char[]>(static_cast<size_t>(bytes)));
        places.push_back(buffers.back().get());
    }
    reader.add_output("p");
    reader.add_output("q");
    const Destination to{places.data(), room, put};
    const int64_t rows = reader.read(body, json_length, static_cast<int64_t>(size), to);
    require(rows == kHandOver || rows == kNoRoom || (rows >= 1 && rows <= room && rows == reader.options.rows));
    require(rows != kNoRoom || reader.options.rows > room);
    require(reader.options.selected.size() <= reader.output_count());
    const std::string_view id = reader.options.id;
    require(id.empty() || (id.size() > 2 && id.front() == '"' && id.back() == '"'));
    PredictReader predict(reader, to);
    const auto behind = std::make_unique<char[]>(kLookbehind + size);  // behind a head
    std::memset(behind.get(), '7', kLookbehind);
    if (size) std::memcpy(behind.get() + kLookbehind, body, size);
    const int64_t predicted = predict.read(behind.get() + kLookbehind, static_cast<int64_t>(size));
    require(predicted == kHandOver || (predicted >= 1 && predicted <= room && predicted == predict.rows) ||
            (predicted == kNoRoom && predict.rows > room));
}

bool same_bits(double a, double b) { return std::memcmp(&a, &b, 8) == 0; }

// One number's text, without white space: the readers must agree with the C library wherever they accept.
void check_number(const std::string& text, double got) {
    if (text == "null") return require(std::isnan(got));
    const double expected = std::strtod(text.c_str(), nullptr);
    require(same_bits(got, expected));
    const std::string padded = std::string(64, '7') + text + "]" + std::string(64, '7');
    const char* const p = padded.data() + 64;
    const char* const end = padded.data() + padded.size();
    double value = 0.0;
    if (read_real_any(p, end, value)) require(same_bits(value, expected));
    const char* next = read_real_wide(p, end, value);
    require(next == p + text.size() && same_bits(value, expected));
    next = read_real_short(p, value);
    if (next && *next == ']') require(next == p + text.size() && same_bits(value, expected));
#ifdef FASTSERVE_LANES
    for (const auto read : {read_long<false>, read_long<true>}) {
        next = read(p, value);
        if (next && *next == ']') require(next == p + text.size() && same_bits(value, expected));
    }
#endif
}

template <class T>
void check_integers(const char* body, size_t size, Kind kind, const std::vector<double>& reals) {
    std::vector<T> values(reals.size());
    if (!read_numbers(body, static_cast<int64_t>(size), static_cast<int>(kind), values.data(), values.size())) return;
    for (size_t i = 0; i < values.size(); ++i) require(static_cast<double>(values[i]) == reals[i]);
}

void numbers(const char* body, size_t size) {
    const size_t count = 1 + static_cast<size_t>(std::count(body, body + size, ','));
    std::vector<double> doubles(count);
    std::vector<float> floats(count);
    const int64_t length = static_cast<int64_t>(size);
    const bool wide = read_numbers(body, length, static_cast<int>(Kind::kFp64), doubles.data(), count);
    const bool narrow = read_numbers(body, length, static_cast<int>(Kind::kFp32), floats.data(), count);
    require(wide || !narrow);
    if (!wide) return;
    std::string text;
    for (size_t i = 0; i < size; ++i) {
        if (!is_space(body[i])) text += body[i];
    }
    size_t at = 1;
    for (size_t i = 0; i < count; ++i) {
        const size_t stop = text.find_first_of(",]", at);
        check_number(text.substr(at, stop - at), doubles[i]);
        at = stop + 1;
        const float cast = static_cast<float>(doubles[i]);
        if (narrow) require(std::memcmp(&cast, &floats[i], 4) == 0);
    }
    check_integers<int8_t>(body, size, Kind::kInt8, doubles);
    check_integers<uint8_t>(body, size, Kind::kUint8, doubles);
    check_integers<int32_t>(body, size, Kind::kInt32, doubles);
    check_integers<int64_t>(body, size, Kind::kInt64, doubles);
    check_integers<uint64_t>(body, size, Kind::kUint64, doubles);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 4) return 0;
    const size_t signature = data[0] & 7;
    const int64_t room = data[1] & 15;
    const int64_t json_length = data[2] | data[3] << 8;
    const size_t length = size - 4;
    const auto body = std::make_unique<char[]>(length);
    if (length) std::memcpy(body.get(), data + 4, length);
    if (signature == 7) {
        numbers(body.get(), length);
    } else {
        decode(kSignatures[signature], room, json_length == 0xFFFF ? -1 : json_length, body.get(), length);
    }
    return 0;
}
