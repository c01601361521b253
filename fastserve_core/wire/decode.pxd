"""The decoder as other compiled modules call it: a pointer in, a number of rows out."""

from libc.stdint cimport int8_t, int32_t, int64_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector


cdef extern from "<string_view>" namespace "std" nogil:
    cdef cppclass string_view:
        const char* data()
        size_t size()


cdef extern from "tensor.hpp" namespace "fastserve" nogil:
    const int64_t kLookbehind
    ctypedef cbool (*PutString)(void*, int64_t, const char*, size_t) noexcept


cdef extern from "infer.hpp" namespace "fastserve" nogil:
    const int64_t kHandOver
    const int64_t kNoRoom

    cdef cppclass Selected:
        int32_t output
        int8_t binary
        cbool operator==(const Selected&)

    cdef cppclass Options:
        string_view id
        int64_t timeout_us
        int64_t rows
        cbool binary_output
        vector[Selected] selected

    cdef cppclass Destination:
        void** buffers
        int64_t room_rows
        PutString put

    cdef cppclass InferReader:
        Options options
        void add_input(const string&, int, const vector[int64_t]&) except +
        void add_output(const string&) except +
        size_t input_count()
        int kind(size_t)
        int64_t row_elements(size_t)
        int64_t read(const char*, int64_t, int64_t, const Destination&)


cdef extern from "predict.hpp" namespace "fastserve" nogil:
    cdef cppclass PredictReader:
        int64_t rows
        cbool columnar
        PredictReader(const InferReader&, const Destination&)
        int64_t read(const char*, int64_t) except +


cdef struct Buffer:
    char* base
    int64_t row_elements
    int64_t row_bytes
    int kind


cdef class RowBuffers:
    cdef readonly tuple arrays
    cdef readonly Py_ssize_t capacity_rows
    cdef vector[Buffer] buffers


cdef class Envelope:
    cdef readonly bytes id_json
    cdef readonly int64_t timeout_us
    cdef readonly tuple selection
    cdef readonly int64_t rows
    cdef readonly bint columnar


cdef class RequestDecoder:
    cdef InferReader reader
    cdef vector[void*] places
    cdef vector[Selected] last_selected
    cdef cbool last_binary
    cdef tuple last_selection
    cdef tuple all_binary

    cdef int64_t _decode(
        self,
        const char* text,
        Py_ssize_t size,
        Py_ssize_t start,
        Py_ssize_t json_length,
        Py_ssize_t stop,
        RowBuffers buffers,
        Py_ssize_t row,
        Py_ssize_t room_rows,
        Envelope envelope,
        bint predict,
    ) except? -3
    cdef int64_t _decode_predict(
        self,
        const char* text,
        Py_ssize_t start,
        Py_ssize_t json_length,
        Py_ssize_t stop,
        Destination* to,
        Envelope envelope,
    ) except? -3
    cdef void _fill(self, Envelope envelope, bint good)
    cdef tuple _selection(self, Options* options)
