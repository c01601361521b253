"""What both sketches take, checked before it is read."""

from cpython.buffer cimport PyBUF_SIMPLE, PyObject_GetBuffer
from libc.stdint cimport int64_t
from libc.string cimport memcpy
from libcpp.vector cimport vector

cimport numpy as cnp

cdef extern from "sketch/bytes.hpp" namespace "fastserve::sketch" nogil:
    cdef enum Problem:
        kFine, kTruncated, kNotAState, kOtherVersion, kOtherPlan, kTooLong, kNegative, kDisagree, kTooManyRows

cdef enum:
    SHORT = 4096  # so few values are counted sooner than another thread would wake


cdef inline int64_t count_rows(object values, int64_t features) except -1:
    """Rows of an array whose values lie as `update` reads them."""
    if not cnp.PyArray_Check(values):
        raise TypeError(f"values must be a NumPy array, not {type(values).__name__}")
    cdef cnp.ndarray array = <cnp.ndarray>values
    cdef int axes = cnp.PyArray_NDIM(array)
    if axes == 0 or cnp.PyArray_MultiplyList(cnp.PyArray_DIMS(array) + 1, axes - 1) != features:
        raise ValueError(f"values must have the shape [rows, {features}], not {list(values.shape)}")
    if not cnp.PyArray_ISCARRAY_RO(array):
        raise ValueError("values must be C-contiguous, aligned and of native byte order")
    return cnp.PyArray_DIM(array, 0)


cdef inline char kind_of(cnp.ndarray array) noexcept:
    """NumPy's letter for values of a dtype that sketches count: b, i, u or f; 0 for any other dtype."""
    cdef int typenum = cnp.PyArray_TYPE(array)
    if typenum == cnp.NPY_FLOAT32 or typenum == cnp.NPY_FLOAT64:
        return b"f"
    if cnp.PyTypeNum_ISBOOL(typenum):
        return b"b"
    if cnp.PyTypeNum_ISSIGNED(typenum):
        return b"i"
    return b"u" if cnp.PyTypeNum_ISUNSIGNED(typenum) else 0


cdef inline int open_state(object state, Py_buffer* buffer) except -1:
    """Lend the bytes of a state, to be given back with PyBuffer_Release."""
    if not isinstance(state, (bytes, bytearray, memoryview)):
        raise TypeError(f"a state must be bytes, bytearray or memoryview, not {type(state).__name__}")
    try:
        PyObject_GetBuffer(state, buffer, PyBUF_SIMPLE)
    except BufferError as error:
        raise ValueError(f"a state must be contiguous bytes: {error}") from None
    return 0


cdef inline cnp.ndarray new_array(cnp.npy_intp size, int typenum):
    return cnp.PyArray_EMPTY(1, &size, typenum, 0)


cdef inline cnp.ndarray copy_of(const vector[int64_t]& numbers):
    cdef cnp.ndarray out = new_array(numbers.size(), cnp.NPY_INT64)
    memcpy(cnp.PyArray_DATA(out), numbers.data(), cnp.PyArray_NBYTES(out))
    return out
