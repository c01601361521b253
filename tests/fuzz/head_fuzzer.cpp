// libFuzzer target for the head scan and the chunk scan (tests/fuzz/run builds it). An input is a connection's bytes:
// requests one after the other, bodies included; they are scanned at once and in pieces.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "chunk.hpp"
#include "head.hpp"

namespace {

using namespace fastserve::http;

void require(bool holds) {
    if (!holds) std::abort();
}

// A copy of exactly the bytes that have arrived, so that reading one more is an error.
std::unique_ptr<char[]> arrived(const uint8_t* data, size_t size) {
    auto copy = std::make_unique<char[]>(size);
    if (size) std::memcpy(copy.get(), data, size);
    return copy;
}

struct Outcome {
    int verdict = HEAD_INCOMPLETE;
    KeptHead kept;
};

void scan_whole(const uint8_t* data, size_t size, Outcome& outcome) {
    outcome.verdict = outcome.kept.scan(arrived(data, size).get(), size);
}

void scan_in_steps(const uint8_t* data, size_t size, size_t step, Outcome& outcome) {
    for (size_t end = step; outcome.verdict == HEAD_INCOMPLETE; end += step) {
        const size_t got = end < size ? end : size;
        outcome.verdict = outcome.kept.scan(arrived(data, got).get(), got);
        if (got == size) return;
    }
}

void check_same(const Outcome& a, const Outcome& b) {
    require(a.verdict == b.verdict && a.kept.head.fault == b.kept.head.fault);
    if (a.verdict <= 0) return;
    const HeadScanner &x = a.kept.head, &y = b.kept.head;
    require(a.kept.text == b.kept.text && x.head_length == y.head_length && x.content_length == y.content_length);
    require(x.json_length == y.json_length && x.timeout_us == y.timeout_us && x.chunked == y.chunked);
    require(x.keep_alive == y.keep_alive && x.minor == y.minor);
}

void check_promises(const Outcome& outcome, size_t size) {
    const HeadScanner& head = outcome.kept.head;
    require((outcome.verdict == HEAD_BAD) == (head.fault != nullptr));
    if (outcome.verdict <= 0) return;
    require(head.head_length <= size && head.head_length <= HEAD_LIMIT_BYTES);
    require(!(head.chunked && head.content_length >= 0));
    if (outcome.verdict != HEAD_FAST) return;
    require(head.content_length >= 0 && head.json_length <= head.content_length);
    const std::string& text = outcome.kept.text;
    require(text.compare(0, 15, "POST/v2/models/") == 0 || text.compare(0, 15, "POST/v1/models/") == 0);
}

int64_t scan_body(const uint8_t* data, size_t size, size_t step) {
    ChunkBody body;
    for (size_t at = 0; at < size; at += step) {
        const size_t got = step < size - at ? step : size - at;
        const int64_t end = body.feed(arrived(data + at, got).get(), 0, got);
        if (end == CHUNK_MALFORMED) return end;
        if (end >= 0) return static_cast<int64_t>(at) + end;
    }
    return CHUNK_MORE;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const size_t step = 1 + size % 7 + size / 256;
    for (int requests = 0; size > 0 && requests < 8; ++requests) {
        Outcome whole, stepped;
        scan_whole(data, size, whole);
        scan_in_steps(data, size, step, stepped);
        check_promises(whole, size);
        // A line that has not ended may be refused later when it came in pieces.
        if (stepped.verdict != HEAD_INCOMPLETE || whole.verdict != HEAD_BAD) check_same(whole, stepped);
        if (whole.verdict <= 0) return 0;
        data += whole.kept.head.head_length;
        size -= whole.kept.head.head_length;
        int64_t body = whole.kept.head.content_length < 0 ? 0 : whole.kept.head.content_length;
        if (whole.kept.head.chunked) {
            body = scan_body(data, size, size ? size : 1);
            require(body == scan_body(data, size, step));
        }
        if (body < 0 || static_cast<uint64_t>(body) > size) return 0;
        data += body;
        size -= static_cast<size_t>(body);
    }
    return 0;
}
