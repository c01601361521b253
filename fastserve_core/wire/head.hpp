// Strict HTTP/1.1 request-head scan. Every request of a connection passes through it before any other parser sees a
// byte: two parsers that disagree about where a request ends are how requests are smuggled, so what is ambiguous is
// refused here and the looser parser behind never has to decide.
//
// One pass from left to right, resumable at line ends: no verdict depends on how the bytes arrived.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "text.hpp"

namespace fastserve::http {

enum HeadVerdict : int { HEAD_BAD = -1, HEAD_INCOMPLETE = 0, HEAD_FAST = 1, HEAD_ORDINARY = 2 };

constexpr size_t HEAD_LIMIT_BYTES = 65536;
constexpr uint32_t HEADER_LIMIT = 256;
constexpr uint32_t EMPTY_LINE_LIMIT = 2;
constexpr uint64_t TIMEOUT_LIMIT_MS = 1000000000;

struct Fault {
    int status;
    const char* sentence;  // "{}" stands for the header's name
};

namespace fault {
constexpr Fault BARE_LF{400, "a line of the request head ends with a bare line feed"};
constexpr Fault LONE_CR{400, "a carriage return in the request head is not followed by a line feed"};
constexpr Fault EMPTY_LINES{400, "more than two empty lines stand before the request line"};
constexpr Fault METHOD{400, "the method in the request line is not a token"};
constexpr Fault TARGET{400, "the target in the request line is empty or holds a control character"};
constexpr Fault NO_VERSION{400, "the request line has no HTTP version"};
constexpr Fault VERSION_FORM{400, "the request line does not end with an HTTP version"};
constexpr Fault VERSION{505, "the HTTP version of the request line is not supported, use HTTP/1.1"};
constexpr Fault HEAD_SIZE{431, "the request head is over 65536 bytes"};
constexpr Fault HEADER_COUNT{431, "the request has more than 256 headers"};
constexpr Fault FOLDED{400, "a header line starts with white space (folded headers are not accepted)"};
constexpr Fault NAME_EMPTY{400, "a header has no name"};
constexpr Fault NAME_SPACE{400, "white space stands before the colon of header {}"};
constexpr Fault NAME_CHARACTER{400, "a header name holds a character that is not allowed"};
constexpr Fault NO_COLON{400, "header line {} has no colon"};
constexpr Fault VALUE_NUL{400, "header {} holds a NUL byte"};
constexpr Fault VALUE_CONTROL{400, "header {} holds a control character"};
constexpr Fault LENGTH_FORM{400, "header {} is not a decimal number"};
constexpr Fault LENGTH_RANGE{400, "header {} is out of range"};
constexpr Fault LENGTH_TWICE{400, "header {} is given twice"};
constexpr Fault LENGTH_AND_CODING{400, "Content-Length and Transfer-Encoding are both given"};
constexpr Fault CODING{501, "header {} names a coding other than chunked"};
constexpr Fault CODING_TWICE{400, "header {} is given twice"};
constexpr Fault CODING_HTTP10{400, "header {} is not defined in HTTP/1.0"};
constexpr Fault HOST_MISSING{400, "header Host is missing"};
constexpr Fault HOST_TWICE{400, "header {} is given twice"};
}  // namespace fault

class HeadScanner {
  public:
    // Results of the last scan that ended; offsets count from the request's first byte.
    int64_t content_length = -1, json_length = -1, timeout_us = -1;
    uint32_t head_length = 0;
    Span method, target, accept_encoding, culprit;
    bool chunked = false, keep_alive = true, has_accept_encoding = false;
    int minor = 1;
    const Fault* fault = nullptr;

    // `text` is the request from its first byte, `available` what has arrived of it. After HEAD_INCOMPLETE the next
    // call goes on where this one stopped and must see the same bytes with more behind them.
    int scan(const char* text, size_t available) noexcept {
        if (!open_ || available < searched_) {
            *this = HeadScanner();
            open_ = true;
        }
        // A head that comes byte by byte costs one look at each byte: an unfinished line is read again only when a line
        // end or a control character has come.
        const bool full = available >= HEAD_LIMIT_BYTES;
        const size_t length = full ? HEAD_LIMIT_BYTES : available;
        if (searched_ > 0 && !full && find_control(text + searched_, text + length) == text + length) {
            searched_ = length;
            return HEAD_INCOMPLETE;
        }
        begin_ = text;
        int verdict = lines(text + line_, text + length);
        if (verdict == HEAD_INCOMPLETE && full) verdict = bad(fault::HEAD_SIZE);
        searched_ = length;
        if (verdict != HEAD_INCOMPLETE) open_ = false;
        return verdict;
    }

  private:
    const char* begin_ = nullptr;
    size_t searched_ = 0, line_ = 0;
    uint32_t empty_lines_ = 0, headers_ = 0;
    bool open_ = false, in_headers_ = false;
    bool unusual_ = false;  // well-formed, but not what the fast path takes
    bool has_host_ = false, has_json_length_ = false, has_timeout_ = false;
    bool has_connection_ = false, plain_target_ = false, close_ = false;

    Span span(const char* from, const char* to) const noexcept {
        return {static_cast<uint32_t>(from - begin_), static_cast<uint32_t>(to - from)};
    }

    int bad(const Fault& what, Span where = Span()) noexcept {
        fault = &what;
        culprit = where;
        return HEAD_BAD;
    }

    // All line parsers return where the next line starts; nullptr means that the verdict stands in `verdict`.
    int lines(const char* line, const char* end) noexcept {
        int verdict = HEAD_INCOMPLETE;
        while (line < end) {
            line_ = static_cast<size_t>(line - begin_);
            if (*line == '\r') {
                if (end - line < 2) break;
                if (line[1] != '\n') return bad(fault::LONE_CR);
                if (in_headers_) return finish(line + 2);
                if (++empty_lines_ > EMPTY_LINE_LIMIT) return bad(fault::EMPTY_LINES);
                line += 2;
                continue;
            }
            const char* next = in_headers_ ? header(line, end, verdict) : request_line(line, end, verdict);
            if (!next) return verdict;
            line = next;
        }
        line_ = static_cast<size_t>(line - begin_);
        return verdict;
    }

    const char* request_line(const char* line, const char* end, int& verdict) noexcept {
        const char* space = line;
        while (space < end && is_token(*space)) ++space;
        if (space == end) return nullptr;
        if (*space != ' ' || space == line) {
            return verdict = bad(*space == '\n' ? fault::BARE_LF : fault::METHOD), nullptr;
        }
        const char* from = space + 1;
        const char* to = from;
        while (to < end && is_path(*to)) ++to;
        plain_target_ = to < end && *to == ' ';
        to = find_space_or_control(to, end);
        if (to == end) return nullptr;
        if (*to == '\n') return verdict = bad(fault::BARE_LF), nullptr;
        if (*to == '\r') {
            if (end - to < 2) return nullptr;
            return verdict = bad(to[1] == '\n' ? fault::NO_VERSION : fault::LONE_CR), nullptr;
        }
        if (*to != ' ' || to == from) return verdict = bad(fault::TARGET), nullptr;
        method = span(line, space);
        target = span(from, to);
        return version(to + 1, end, verdict);
    }

    const char* version(const char* at, const char* end, int& verdict) noexcept {
        static constexpr char form[] = "HTTP/0.0\r\n";
        for (int i = 0; i < 10; ++i) {
            if (at + i == end) return nullptr;
            const char got = at[i];
            if (form[i] == '0' ? is_digit(got) : got == form[i]) continue;
            const Fault& what = i == 9 ? fault::LONE_CR : got == '\n' ? fault::BARE_LF : fault::VERSION_FORM;
            return verdict = bad(what), nullptr;
        }
        if (at[5] != '1' || at[7] > '1') return verdict = bad(fault::VERSION), nullptr;
        minor = at[7] - '0';
        in_headers_ = true;
        return at + 10;
    }

    const char* header(const char* line, const char* end, int& verdict) noexcept {
        const char* colon = line;
        while (colon < end && is_token(*colon)) ++colon;
        if (colon == end) return nullptr;
        const Span name = span(line, colon);
        if (*colon != ':' || colon == line) return verdict = name_fault(line, colon, end), nullptr;
        const char* value = colon + 1;
        while (value < end && (*value == ' ' || *value == '\t')) ++value;
        const char* stop = find_control(value, end);
        if (stop == end) return nullptr;
        if (*stop != '\r') {
            const Fault& what = *stop == '\n' ? fault::BARE_LF : *stop == 0 ? fault::VALUE_NUL : fault::VALUE_CONTROL;
            return verdict = bad(what, name), nullptr;
        }
        if (end - stop < 2) return nullptr;
        if (stop[1] != '\n') return verdict = bad(fault::LONE_CR), nullptr;
        const char* last = stop;
        while (last > value && (last[-1] == ' ' || last[-1] == '\t')) --last;
        if (++headers_ > HEADER_LIMIT) return verdict = bad(fault::HEADER_COUNT), nullptr;
        const Fault* wrong = known(name, span(value, last));
        if (wrong) return verdict = bad(*wrong, name), nullptr;
        return stop + 2;
    }

    int name_fault(const char* line, const char* at, const char* end) noexcept {
        const Span name = span(line, at);
        switch (*at) {
            case ':': return bad(fault::NAME_EMPTY);
            case '\n': return bad(fault::BARE_LF);
            case '\r':
                if (end - at < 2) return HEAD_INCOMPLETE;
                return at[1] == '\n' ? bad(fault::NO_COLON, name) : bad(fault::LONE_CR);
            case ' ':
            case '\t': return at == line ? bad(fault::FOLDED) : bad(fault::NAME_SPACE, name);
            default: return bad(fault::NAME_CHARACTER);
        }
    }

    // Headers that frame the request or decide which way it goes; their lengths are all different but three.
    const Fault* known(Span name, Span value) noexcept {
        const char* text = begin_ + name.at;
        switch (name.length) {
            case 4: return same(text, "host") ? host() : nullptr;
            case 6: return note(same(text, "expect"));
            case 7: return note(same(text, "upgrade"));
            case 10: return same(text, "connection") ? connection(value) : nullptr;
            case 14: return same(text, "content-length") ? length(value) : nullptr;
            case 15: return same(text, "accept-encoding") ? encoding(value) : nullptr;
            case 16: return note(same(text, "content-encoding"));
            case 17: return same(text, "transfer-encoding") ? coding(value) : nullptr;
            case 20: return same(text, "x-request-timeout-ms") ? timeout(value) : nullptr;
            case 31: return same(text, "inference-header-content-length") ? json(value) : nullptr;
            default: return nullptr;
        }
    }

    const Fault* note(bool unusual) noexcept {
        unusual_ |= unusual;
        return nullptr;
    }

    const Fault* host() noexcept {
        if (has_host_) return &fault::HOST_TWICE;
        has_host_ = true;
        return nullptr;
    }

    const Fault* length(Span value) noexcept {
        if (content_length >= 0) return &fault::LENGTH_TWICE;
        if (chunked) return &fault::LENGTH_AND_CODING;
        uint64_t number = 0;
        const Digits got = parse_digits(begin_ + value.at, value.length, number);
        if (got == Digits::MALFORMED) return &fault::LENGTH_FORM;
        if (got == Digits::TOO_LARGE) return &fault::LENGTH_RANGE;
        content_length = static_cast<int64_t>(number);
        return nullptr;
    }

    const Fault* coding(Span value) noexcept {
        if (content_length >= 0) return &fault::LENGTH_AND_CODING;
        if (chunked) return &fault::CODING_TWICE;
        if (minor == 0) return &fault::CODING_HTTP10;
        if (value.length != 7 || !same(begin_ + value.at, "chunked")) return &fault::CODING;
        chunked = true;  // and so not fast, since without a length
        return nullptr;
    }

    const Fault* encoding(Span value) noexcept {
        if (has_accept_encoding) return note(true);
        has_accept_encoding = true;
        accept_encoding = value;
        return nullptr;
    }

    const Fault* connection(Span value) noexcept {
        const char* at = begin_ + value.at;
        const char* const end = at + value.length;
        const bool plain = (value.length == 10 && same(at, "keep-alive")) || (value.length == 5 && same(at, "close"));
        unusual_ |= !plain || has_connection_;
        has_connection_ = true;
        while (at < end) {
            const char* comma = static_cast<const char*>(std::memchr(at, ',', static_cast<size_t>(end - at)));
            const char* const next = comma ? comma + 1 : end;
            const char* last = comma ? comma : end;
            while (at < last && (*at == ' ' || *at == '\t')) ++at;
            while (last > at && (last[-1] == ' ' || last[-1] == '\t')) --last;
            close_ |= last - at == 5 && same(at, "close");
            at = next;
        }
        return nullptr;
    }

    const Fault* timeout(Span value) noexcept {
        uint64_t number = 0;
        const Digits got = parse_digits(begin_ + value.at, value.length, number);
        const bool fits = got == Digits::FINE && number >= 1 && number <= TIMEOUT_LIMIT_MS;
        unusual_ |= !fits || has_timeout_;
        if (fits && !has_timeout_) timeout_us = static_cast<int64_t>(number * 1000);
        has_timeout_ = true;
        return nullptr;
    }

    const Fault* json(Span value) noexcept {
        uint64_t number = 0;
        const Digits got = parse_digits(begin_ + value.at, value.length, number);
        unusual_ |= got != Digits::FINE || has_json_length_;
        if (got == Digits::FINE && !has_json_length_) json_length = static_cast<int64_t>(number);
        has_json_length_ = true;
        return nullptr;
    }

    int finish(const char* end) noexcept {
        if (minor == 1 && !has_host_) return bad(fault::HOST_MISSING);
        head_length = static_cast<uint32_t>(end - begin_);
        keep_alive = !close_ && minor == 1;
        const bool framed = content_length >= 0 && json_length <= content_length;
        return framed && !unusual_ && lane_target() ? HEAD_FAST : HEAD_ORDINARY;
    }

    // POST /v2/models/{at least one character}/infer, POST /v1/models/{the same}:predict
    bool lane_target() const noexcept {
        const char* text = begin_ + target.at;
        if (!plain_target_ || method.length != 4 || std::memcmp(begin_ + method.at, "POST", 4) != 0) return false;
        return is_between(text, "/v2/models/", "/infer") || is_between(text, "/v1/models/", ":predict");
    }

    template <size_t kHead, size_t kTail>
    bool is_between(const char* text, const char (&head)[kHead], const char (&tail)[kTail]) const noexcept {
        return target.length >= kHead + kTail - 1 && std::memcmp(text, head, kHead - 1) == 0 &&
               std::memcmp(text + target.length - (kTail - 1), tail, kTail - 1) == 0;
    }
};

// What a connection keeps of a scanned head once the caller's buffer has moved on.
struct KeptHead {
    HeadScanner head;
    std::string text;  // method, target, then Accept-Encoding or the name of the header that is wrong
    uint32_t method_length = 0, target_length = 0;

    void reset() noexcept {
        head = HeadScanner();
        std::string().swap(text);
        method_length = target_length = 0;
    }

    // May throw std::bad_alloc.
    int scan(const char* data, size_t available) {
        const int verdict = head.scan(data, available);
        if (verdict == HEAD_INCOMPLETE) return verdict;
        if (text.capacity() > 4096) std::string().swap(text);
        const Span tail = verdict == HEAD_BAD ? head.culprit : head.accept_encoding;
        method_length = head.method.length;
        target_length = head.target.length;
        text.assign(data + head.method.at, method_length);
        text.append(data + head.target.at, target_length);
        text.append(data + tail.at, tail.length);
        return verdict;
    }
};

}  // namespace fastserve::http
