// Finds where a chunked body ends, so that the request pipelined behind it passes the head scan too. It decodes
// nothing: the parser behind does that, and this one is stricter, so both agree about the last byte.
#pragma once

#include <cstddef>
#include <cstdint>

#include "text.hpp"

namespace fastserve::http {

constexpr int64_t CHUNK_MORE = -1, CHUNK_MALFORMED = -2;
constexpr uint32_t CHUNK_LIMIT = 65536;
constexpr uint32_t CHUNK_LINE_LIMIT_BYTES = 256;  // with its CRLF
constexpr uint32_t TRAILER_LIMIT_BYTES = 8192;  // with the empty line behind them

class ChunkBody {
  public:
    uint64_t body_bytes = 0;       // decoded bytes seen so far
    const char* wrong = nullptr;   // one sentence once CHUNK_MALFORMED was returned

    // With what is still to come of the chunk that has begun.
    uint64_t announced_bytes() const noexcept { return body_bytes + (state_ == DATA ? left_ : 0); }

    void reset() noexcept { *this = ChunkBody(); }

    // The offset just behind the body's last byte, CHUNK_MORE or CHUNK_MALFORMED; an ended scan stays ended.
    int64_t feed(const char* data, size_t from, size_t length) noexcept {
        size_t at = from;
        while (at < length && !wrong && state_ != DONE) {
            if (state_ == DATA) {
                const uint64_t take = left_ < length - at ? left_ : length - at;
                left_ -= take;
                body_bytes += take;
                at += static_cast<size_t>(take);
                if (left_ == 0) state_ = DATA_CR;
            } else {
                step(static_cast<unsigned char>(data[at++]));
            }
        }
        if (wrong) return CHUNK_MALFORMED;
        return state_ == DONE ? static_cast<int64_t>(at) : CHUNK_MORE;
    }

  private:
    enum State : uint8_t {
        SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER, TRAILER_NAME, TRAILER_VALUE, TRAILER_LF, END_LF, DONE
    };
    State state_ = SIZE;
    uint64_t left_ = 0;
    uint32_t chunks_ = 0, digits_ = 0, line_bytes_ = 0, trailer_bytes_ = 0;

    static int hex(unsigned char c) noexcept {
        if (is_digit(static_cast<char>(c))) return c - '0';
        const unsigned char lower = c | 0x20;
        return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    }

    void step(unsigned char c) noexcept {
        switch (state_) {
            case SIZE:
            case EXTENSION:
            case SIZE_LF: size_line(c); break;
            case DATA_CR: expect(c == '\r', DATA_LF, "a chunk is longer than its size says"); break;
            case DATA_LF: expect(c == '\n', SIZE, "a chunk is longer than its size says"); break;
            default: trailer(c); break;
        }
    }

    void expect(bool good, State next, const char* sentence) noexcept {
        if (good) state_ = next;
        else wrong = sentence;
    }

    void size_line(unsigned char c) noexcept {
        if (++line_bytes_ > CHUNK_LINE_LIMIT_BYTES) {
            wrong = "a chunk size line is over 256 bytes";
        } else if (state_ == SIZE) {
            const int digit = hex(c);
            if (digit >= 0) size_digit(static_cast<uint64_t>(digit));
            else if (digits_ == 0 || (c != '\r' && c != ';')) wrong = "a chunk size is not a hexadecimal number";
            else state_ = c == ';' ? EXTENSION : SIZE_LF;
        } else if (state_ == EXTENSION) {
            if (c == '\r') state_ = SIZE_LF;
            else if (stops<false>(c)) wrong = "a chunk extension holds a control character";
        } else if (c != '\n') {
            wrong = "a chunk size line does not end with CRLF";
        } else {
            chunk_begins();
        }
    }

    void size_digit(uint64_t digit) noexcept {
        if (left_ > (static_cast<uint64_t>(INT64_MAX) - digit) / 16) wrong = "a chunk size is out of range";
        left_ = left_ * 16 + digit;
        ++digits_;
    }

    void chunk_begins() noexcept {
        digits_ = line_bytes_ = 0;
        if (left_ == 0) state_ = TRAILER;
        else if (++chunks_ > CHUNK_LIMIT) wrong = "the body has more than 65536 chunks";
        else state_ = DATA;
    }

    void trailer(unsigned char c) noexcept {
        if (++trailer_bytes_ > TRAILER_LIMIT_BYTES) {
            wrong = "the trailers are over 8192 bytes";
            return;
        }
        static constexpr char form[] = "a trailer line is malformed";
        switch (state_) {
            case TRAILER:
                if (c == '\r') state_ = END_LF;
                else expect(is_token(static_cast<char>(c)), TRAILER_NAME, form);
                break;
            case TRAILER_NAME:
                if (c == ':') state_ = TRAILER_VALUE;
                else expect(is_token(static_cast<char>(c)), TRAILER_NAME, form);
                break;
            case TRAILER_VALUE:
                if (c == '\r') state_ = TRAILER_LF;
                else expect(!stops<false>(c), TRAILER_VALUE, form);
                break;
            case TRAILER_LF: expect(c == '\n', TRAILER, form); break;
            default: expect(c == '\n', DONE, form); break;
        }
    }
};

}  // namespace fastserve::http
