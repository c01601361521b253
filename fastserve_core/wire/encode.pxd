"""The encoder as other compiled modules call it."""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t
from libcpp cimport bool as cpp_bool
from libcpp.vector cimport vector

cdef extern from "encode.hpp" namespace "fastserve::answer" nogil:
    cdef cppclass Scratch:
        const char* data() noexcept
        size_t size() noexcept
        cpp_bool append(const char* text, size_t length) noexcept
        void set_length(size_t at, uint32_t length) noexcept
        void clear() noexcept

    cpp_bool write_numbers(Scratch& out, int kind, const char* data, size_t count) noexcept
    cpp_bool write_integer(Scratch& out, int64_t value) noexcept
    cpp_bool write_string(
        Scratch& out, int unit_bytes, const void* text, size_t length, cpp_bool escape
    ) noexcept


cdef struct Output:
    int kind
    char letter
    Py_ssize_t item_bytes

cdef struct Tail:
    const char* data  # NULL: in the blob, at `at`
    size_t at, length


cdef class ResponseEncoder:
    cdef bytes prefix
    cdef list heads, names, labels
    cdef vector[Output] outputs
    cdef Scratch text, blob, head
    cdef vector[Tail] tails
    cdef size_t tail_bytes
    cdef bint any_binary
    cpdef bytes http(
        self, list arrays, Py_ssize_t start, Py_ssize_t rows, bytes id_json, tuple selection,
        bytes default_headers
    )
    cpdef bytes predict_http(
        self, list arrays, Py_ssize_t start, Py_ssize_t rows, bint columnar, bytes default_headers
    )
    cdef bytes framed(self, bytes default_headers)
    cdef Py_ssize_t begin(self, list arrays) except -1
    cdef int render_predictions(
        self, list arrays, Py_ssize_t start, Py_ssize_t rows, bint columnar
    ) except -1
    cdef int named(self, list arrays, int axis, Py_ssize_t size, vector[const char*]& at) except -1
    cdef int nested(
        self, Py_ssize_t index, array, int axis, Py_ssize_t size, const char*& at
    ) except -1
    cdef int values(self, Py_ssize_t index, const char*& at, Py_ssize_t count) except -1
    cdef int copy_body(self, char* at) noexcept
    cdef int render(
        self, list arrays, Py_ssize_t start, Py_ssize_t rows, bytes id_json, tuple selection
    ) except -1
    cdef int output(
        self, Py_ssize_t index, bint binary, array, Py_ssize_t start, Py_ssize_t rows, bint first
    ) except -1
    cdef Py_ssize_t check(self, Py_ssize_t index, array, Py_ssize_t start, Py_ssize_t rows) except -1
    cdef int shape(self, array, Py_ssize_t rows) except -1
    cdef int binary(self, Output output, Py_ssize_t index, const char* data, Py_ssize_t count) except -1
    cdef int strings(self, Py_ssize_t index, PyObject** items, Py_ssize_t count) except -1
    cdef int prefixed(self, Py_ssize_t index, PyObject** items, Py_ssize_t count) except -1
    cdef object item(self, Py_ssize_t index, PyObject* pointer)
