"""The compiled gate in front of every request: who frames it how, and may the fast path have it.

The scan itself is head.hpp and chunk.hpp; this file hands them bytes and shows what they found.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t

cdef extern from "chunk.hpp" namespace "fastserve::http" nogil:
    cdef cppclass ChunkBody:
        uint64_t body_bytes
        const char* wrong
        int64_t feed(const char* data, size_t start, size_t length) noexcept
        uint64_t announced_bytes() noexcept
        void reset() noexcept

INCOMPLETE = HEAD_INCOMPLETE
FAST = HEAD_FAST
ORDINARY = HEAD_ORDINARY
BAD = HEAD_BAD

cdef Py_ssize_t NAME_SHOWN_BYTES = 64


cdef class RequestHead:
    """The request head of one connection, scanned again and again; one thread at a time.

    After INCOMPLETE the next `scan` goes on where this one stopped: it must see the same bytes with more
    behind them (at any `start`), or `reset` must come first. What a finished scan found stays until the next.
    """

    def scan(self, data, Py_ssize_t start=0):
        """Judge the request that begins at `start`: INCOMPLETE, FAST, ORDINARY or BAD.

        Parameters
        ----------
        data : bytes, bytearray or memoryview
            C-contiguous bytes as they came from the socket; nothing of them is kept.
        start : int
            Offset of the request's first byte, 0 ≤ start ≤ len(data).
        """
        cdef Py_buffer view
        if PyBytes_CheckExact(data):
            return self.judge(PyBytes_AS_STRING(data), start, PyBytes_GET_SIZE(data))
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            return self.judge(<const char*> view.buf, start, view.len)
        finally:
            PyBuffer_Release(&view)

    cdef int judge(self, const char* data, Py_ssize_t start, Py_ssize_t length) except -2:
        if start < 0 or start > length:
            raise ValueError(f"start is {start}, data has {length} bytes")
        return self.kept.scan(data + start, <size_t> (length - start))

    def reset(self):
        """Forget an unfinished head and whatever the last scan found."""
        self.kept.reset()

    cdef bytes part(self, size_t start, size_t length):
        return PyBytes_FromStringAndSize(self.kept.text.data() + start, <Py_ssize_t> length)

    @property
    def method(self):
        """The method, b"" where the scan did not get that far."""
        return self.part(0, self.kept.method_length)

    @property
    def target(self):
        """The request target as sent, b"" where the scan did not get that far."""
        return self.part(self.kept.method_length, self.kept.target_length)

    @property
    def accept_encoding(self):
        """The value of the first Accept-Encoding header, None without one or when BAD."""
        cdef HeadScanner* head = &self.kept.head
        if not head.has_accept_encoding or head.fault != NULL:
            return None
        return self.part(self.kept.method_length + self.kept.target_length, head.accept_encoding.length)

    @property
    def head_length(self):
        """Bytes from the request's start to behind the empty line."""
        return self.kept.head.head_length

    @property
    def content_length(self):
        """Content-Length, -1 without one."""
        return self.kept.head.content_length

    @property
    def json_length(self):
        """Inference-Header-Content-Length, -1 without one; checked against Content-Length only when FAST."""
        return self.kept.head.json_length

    @property
    def timeout_us(self):
        """X-Request-Timeout-Ms in microseconds, -1 without one."""
        return self.kept.head.timeout_us

    @property
    def chunked(self):
        """Whether the body is sent in chunks."""
        return self.kept.head.chunked

    @property
    def keep_alive(self):
        """Whether the connection stays open after the answer."""
        return self.kept.head.keep_alive

    @property
    def http_minor(self):
        """0 for HTTP/1.0, 1 for HTTP/1.1."""
        return self.kept.head.minor

    @property
    def status(self):
        """The answer's status when BAD (400, 431, 501 or 505), otherwise 0."""
        return 0 if self.kept.head.fault == NULL else self.kept.head.fault.status

    @property
    def reason(self):
        """One sentence that says what is wrong when BAD, otherwise ""."""
        if self.kept.head.fault == NULL:
            return ""
        cdef size_t length = self.kept.head.culprit.length
        cdef bytes name = self.part(self.kept.method_length + self.kept.target_length, length)
        return self.kept.head.fault.sentence.decode().replace("{}", name[:NAME_SHOWN_BYTES].decode("latin-1"))


cdef class ChunkScanner:
    """The way through one chunked body; one thread at a time."""

    cdef ChunkBody body

    def feed(self, data, Py_ssize_t start=0):
        """Go on through data[start:]: the offset behind the body's last byte, -1 when more is needed, -2 when
        it is malformed."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if start < 0 or start > view.len:
                raise ValueError(f"start is {start}, data has {view.len} bytes")
            return self.body.feed(<const char*> view.buf, <size_t> start, <size_t> view.len)
        finally:
            PyBuffer_Release(&view)

    def reset(self):
        """Stand before the first chunk again."""
        self.body.reset()

    @property
    def body_bytes(self):
        """Decoded bytes seen so far."""
        return self.body.body_bytes

    @property
    def announced_bytes(self):
        """Decoded bytes seen so far, and those that the chunk in hand still announces."""
        return self.body.announced_bytes()

    @property
    def reason(self):
        """One sentence that says what is wrong after -2, otherwise ""."""
        return "" if self.body.wrong == NULL else self.body.wrong.decode()
