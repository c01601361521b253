"""The gate as other compiled modules call it: without a Python object per question."""

from libc.stdint cimport int64_t, uint32_t
from libcpp cimport bool as cpp_bool
from libcpp.string cimport string

cdef extern from "head.hpp" namespace "fastserve::http" nogil:
    cdef enum HeadVerdict:
        HEAD_BAD
        HEAD_INCOMPLETE
        HEAD_FAST
        HEAD_ORDINARY

    cdef cppclass Span:
        uint32_t length

    cdef cppclass Fault:
        int status
        const char* sentence

    cdef cppclass HeadScanner:
        int64_t content_length, json_length, timeout_us
        uint32_t head_length
        Span accept_encoding, culprit
        cpp_bool chunked, keep_alive, has_accept_encoding
        int minor
        const Fault* fault

    cdef cppclass KeptHead:
        HeadScanner head
        string text
        uint32_t method_length, target_length
        int scan(const char* data, size_t available) except +
        void reset() noexcept


cdef class RequestHead:
    cdef KeptHead kept
    cdef int judge(self, const char* data, Py_ssize_t start, Py_ssize_t length) except -2
    cdef bytes part(self, size_t start, size_t length)
