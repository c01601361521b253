"""Counts and moments of a tensor's values against fixed edges, mergeable across processes.

The arithmetic is in number.hpp and kernels.hpp, the bytes in number_state.hpp; this file checks arguments
before they are read.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport NAN, isfinite
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from libcpp cimport bool as cpp_bool
from libcpp.vector cimport vector

cimport numpy as cnp

import numpy as np

cnp.import_array()

cdef extern from "sketch/bytes.hpp" namespace "fastserve::sketch" nogil:
    cdef enum Problem:
        kFine, kTruncated, kNotAState, kOtherVersion, kOtherPlan, kTooLong, kNegative, kDisagree, kTooManyRows

cdef extern from "sketch/number_state.hpp" namespace "fastserve::number" nogil:
    int64_t kMaxCounts

    cdef enum Level:
        kBaseline, kAvx2

    Level chosen_level
    Level best_level() noexcept

    cdef enum:
        kLanes

    cdef cppclass Plan:
        vector[int64_t] offsets
        vector[double] shifts
        int64_t features() noexcept
        int64_t counts() noexcept
        void add(const double* values, int64_t number, double shift) except +
        void close() except +

    cdef cppclass Moments:
        int64_t missing[8]
        int64_t negative[8]
        int64_t positive[8]
        double sum[8]
        double squares[8]
        double minimum[8]
        double maximum[8]

    cdef cppclass Counts:
        void open(const Plan& plan) except +
        int64_t rows() noexcept
        const Moments& sums(int64_t f) noexcept
        const int64_t* counts() noexcept
        void reset() noexcept
        void settle(const Plan& plan) noexcept
        cpp_bool update[T](const Plan& plan, const T* values, int64_t rows) except +
        Problem merge(const Plan& plan, const char* state, size_t size) noexcept
        size_t state_bytes(const Plan& plan) noexcept
        void write(const Plan& plan, char* out, cpp_bool then_clear) noexcept

cdef enum:
    SHORT = 4096  # so few values are counted sooner than another thread would wake

MAX_COUNTS = kMaxCounts

cdef dict REASONS = {
    kTruncated: "the state is truncated",
    kNotAState: "these bytes are not the state of a number sketch",
    kOtherVersion: "the state was written in another format version",
    kOtherPlan: "the state counts other features, edges or shifts",
    kTooLong: "bytes follow the state",
    kNegative: "the state holds negative counts",
    kDisagree: "the state's counts do not agree with its rows",
    kTooManyRows: "more than 2**63 - 1 rows",
}


def set_vector_level(str name):
    """Choose the instructions that updates use, for tests: "baseline" or "avx2"; the one chosen before.

    ValueError for one that this machine does not have.
    """
    names = {"baseline": kBaseline, "avx2": kAvx2}
    if name not in names or <int>names[name] > <int>best_level():
        raise ValueError(f"this machine has no vector level '{name}'")
    global chosen_level
    before = "avx2" if chosen_level == kAvx2 else "baseline"
    chosen_level = <Level><int>names[name]
    return before


cdef int add_feature(Plan& plan, object edges, double shift, int64_t f) except -1:
    cdef cnp.ndarray array = np.ascontiguousarray(edges, np.float64)
    cdef int64_t number = cnp.PyArray_SIZE(array), j
    cdef const double* values = <double*>cnp.PyArray_DATA(array)
    if cnp.PyArray_NDIM(array) != 1:
        raise ValueError(f"feature {f}: edges must have one dimension, not {array.ndim}")
    if number >= kMaxCounts - plan.counts():
        raise ValueError(f"more than {kMaxCounts} counts")
    for j in range(number):
        if not isfinite(values[j]):
            raise ValueError(f"feature {f}: edges must be finite, not {values[j]}")
        if j and values[j] <= values[j - 1]:
            raise ValueError(f"feature {f}: edges must rise: {values[j]} follows {values[j - 1]}")
    if not isfinite(shift):
        raise ValueError(f"feature {f}: the shift must be finite, not {shift}")
    plan.add(values, number, shift)
    return 0


cdef int64_t count_rows(cnp.ndarray array, int64_t features) except -1:
    """Rows of a tensor whose values lie as `update` reads them."""
    cdef int axes = cnp.PyArray_NDIM(array)
    if axes == 0 or cnp.PyArray_MultiplyList(cnp.PyArray_DIMS(array) + 1, axes - 1) != features:
        shape = ", ".join(str(size) for size in (<object>array).shape)
        raise ValueError(f"values must have the shape [rows, {features}], not [{shape}]")
    if not cnp.PyArray_ISCARRAY_RO(array):
        raise ValueError("values must be C-contiguous, aligned and of native byte order")
    return cnp.PyArray_DIM(array, 0)


@cython.final
cdef class NumberSketch:
    """Counts and moments of one tensor [rows, features] against the edges of each feature.

    m edges make m + 1 counts: count i holds edges[i - 1] < x <= edges[i], as `numpy.searchsorted` places
    values on the left side. NaN is missing and in no count; an infinity is counted apart and lies in the
    first or last count as well, so the counts of a feature sum to rows - missing. Moments, minimum and
    maximum are of finite values, in float64: whole numbers beyond 2**53 are rounded up there, and placed
    exactly. Several threads may share a sketch: calls take turns.

    Parameters
    ----------
    edges : sequence of float64 [m]
        Per feature: finite, strictly rising; there may be none. At most MAX_COUNTS counts in all.
    shifts : float64 [features], optional
        What is taken off every value before it is summed, so that little is lost where values lie far from 0;
        0 without it.

    Raises
    ------
    ValueError
        No feature; edges that are not finite or do not rise; too many counts.
    """
    cdef Plan plan
    cdef Counts tally

    def __cinit__(self, edges, shifts=None):
        cdef int64_t f = 0
        edges = list(edges)
        if not edges:
            raise ValueError("edges must describe at least one feature")
        around = [0.0] * len(edges) if shifts is None else [float(shift) for shift in shifts]
        if len(around) != len(edges):
            raise ValueError(f"{len(around)} shifts for {len(edges)} features")
        for each, shift in zip(edges, around, strict=True):
            add_feature(self.plan, each, shift, f)
            f += 1
        self.plan.close()
        self.tally.open(self.plan)

    def update(self, values):
        """Count every row of a tensor.

        Parameters
        ----------
        values : array [rows, features], or [rows] of one feature, or [rows, ...] of as many values a row
            C-contiguous; bool, any int or uint, float32 or float64.

        Raises
        ------
        ValueError
            Another shape, order or dtype; more than 2**63 - 1 rows in all. Nothing has been counted then.
        TypeError
            Not an array.
        """
        if not cnp.PyArray_Check(values):
            raise TypeError(f"values must be a NumPy array, not {type(values).__name__}")
        cdef cnp.ndarray array = values
        cdef int64_t rows = count_rows(array, self.plan.features())
        cdef int typenum = cnp.PyArray_TYPE(array)
        cdef int itemsize = cnp.PyArray_ITEMSIZE(array)
        cdef const void* data = cnp.PyArray_DATA(array)
        cdef cpp_bool counted
        if not (
            typenum == cnp.NPY_FLOAT32 or typenum == cnp.NPY_FLOAT64
            or cnp.PyTypeNum_ISINTEGER(typenum) or cnp.PyTypeNum_ISBOOL(typenum)
        ):
            raise ValueError(f"values must be bool, int, uint, float32 or float64, not {array.dtype}")
        if cnp.PyArray_SIZE(array) <= SHORT:
            counted = self.count_typed(typenum, itemsize, data, rows)
        else:
            with nogil:
                counted = self.count_typed(typenum, itemsize, data, rows)
        if not counted:
            raise ValueError(REASONS[kTooManyRows])

    cdef cpp_bool count_typed(
        self, int typenum, int itemsize, const void* data, int64_t rows
    ) except * nogil:
        if typenum == cnp.NPY_FLOAT32:
            return self.tally.update(self.plan, <const float*>data, rows)
        if typenum == cnp.NPY_FLOAT64:
            return self.tally.update(self.plan, <const double*>data, rows)
        if cnp.PyTypeNum_ISSIGNED(typenum):
            if itemsize == 1:
                return self.tally.update(self.plan, <const int8_t*>data, rows)
            if itemsize == 2:
                return self.tally.update(self.plan, <const int16_t*>data, rows)
            if itemsize == 4:
                return self.tally.update(self.plan, <const int32_t*>data, rows)
            return self.tally.update(self.plan, <const int64_t*>data, rows)
        if itemsize == 1:
            return self.tally.update(self.plan, <const uint8_t*>data, rows)
        if itemsize == 2:
            return self.tally.update(self.plan, <const uint16_t*>data, rows)
        if itemsize == 4:
            return self.tally.update(self.plan, <const uint32_t*>data, rows)
        return self.tally.update(self.plan, <const uint64_t*>data, rows)

    def merge(self, NumberSketch other not None):
        """Add what a sketch of the same edges and shifts has counted; ValueError for another plan."""
        self.merge_bytes(other.to_bytes())

    def merge_bytes(self, state):
        """Add what `to_bytes` or `take` of a sketch of the same edges and shifts gave.

        ValueError, and nothing added: truncated, another format version, another plan, negative counts,
        counts that do not agree with the rows, more than 2**63 - 1 rows. TypeError: not bytes.
        """
        cdef Py_buffer buffer
        cdef Problem problem
        if not isinstance(state, (bytes, bytearray, memoryview)):
            raise TypeError(f"a state must be bytes, bytearray or memoryview, not {type(state).__name__}")
        try:
            PyObject_GetBuffer(state, &buffer, PyBUF_SIMPLE)
        except BufferError as error:
            raise ValueError(f"a state must be contiguous bytes: {error}") from None
        problem = self.tally.merge(self.plan, <const char*>buffer.buf, buffer.len)
        PyBuffer_Release(&buffer)
        if problem != kFine:
            raise ValueError(REASONS[problem])

    def to_bytes(self):
        """Everything counted so far; the format is in number_state.hpp."""
        return self.state(False)

    def take(self):
        """`to_bytes` and `reset` in one: no row is in two states, none is lost."""
        return self.state(True)

    cdef bytes state(self, bint then_clear):
        cdef bytes out = PyBytes_FromStringAndSize(NULL, self.tally.state_bytes(self.plan))
        self.tally.write(self.plan, PyBytes_AS_STRING(out), then_clear)
        return out

    def reset(self):
        """Forget every row."""
        self.tally.reset()

    @property
    def features(self):
        """Values a row."""
        return self.plan.features()

    @property
    def rows(self):
        """Rows counted."""
        return self.tally.rows()

    @property
    def missing(self):
        """NaN: int64 [features]."""
        cdef int64_t f, features = self.plan.features()
        self.tally.settle(self.plan)
        return np.array([self.tally.sums(f).missing[f % kLanes] for f in range(features)], np.int64)

    @property
    def negative_infinite(self):
        """Values of -inf: int64 [features]."""
        cdef int64_t f, features = self.plan.features()
        self.tally.settle(self.plan)
        return np.array([self.tally.sums(f).negative[f % kLanes] for f in range(features)], np.int64)

    @property
    def positive_infinite(self):
        """Values of +inf: int64 [features]."""
        cdef int64_t f, features = self.plan.features()
        self.tally.settle(self.plan)
        return np.array([self.tally.sums(f).positive[f % kLanes] for f in range(features)], np.int64)

    cdef int64_t finite(self, int64_t f) noexcept:
        cdef const Moments* sums = &self.tally.sums(f)
        return self.tally.rows() - (
            sums.missing[f % kLanes] + sums.negative[f % kLanes] + sums.positive[f % kLanes]
        )

    @property
    def mean(self):
        """Mean of finite values: float64 [features]; NaN where there was none."""
        cdef int64_t f
        self.tally.settle(self.plan)
        out = np.full(self.plan.features(), NAN)
        for f in range(self.plan.features()):
            if self.finite(f):
                out[f] = self.plan.shifts[f] + self.tally.sums(f).sum[f % kLanes] / self.finite(f)
        return out

    @property
    def m2(self):
        """Sum of squared distances from the mean, of finite values: float64 [features]; 0 without any."""
        cdef int64_t f
        cdef double sum
        self.tally.settle(self.plan)
        out = np.zeros(self.plan.features())
        for f in range(self.plan.features()):
            if self.finite(f):
                sum = self.tally.sums(f).sum[f % kLanes]
                out[f] = max(0.0, self.tally.sums(f).squares[f % kLanes] - sum * sum / self.finite(f))
        return out

    @property
    def minimum(self):
        """Smallest finite value: float64 [features]; NaN where there was none."""
        return self.extreme(True)

    @property
    def maximum(self):
        """Largest finite value: float64 [features]; NaN where there was none."""
        return self.extreme(False)

    cdef object extreme(self, bint low):
        cdef const Moments* sums
        cdef int64_t f
        self.tally.settle(self.plan)
        out = np.full(self.plan.features(), NAN)
        for f in range(self.plan.features()):
            if self.finite(f):
                sums = &self.tally.sums(f)
                out[f] = sums.minimum[f % kLanes] if low else sums.maximum[f % kLanes]
        return out

    @property
    def counts(self):
        """Values between the edges, one feature after the other: int64 [counts]."""
        cdef cnp.npy_intp size = self.plan.counts()
        cdef cnp.ndarray out = cnp.PyArray_EMPTY(1, &size, cnp.NPY_INT64, 0)
        self.tally.settle(self.plan)
        memcpy(cnp.PyArray_DATA(out), self.tally.counts(), size * sizeof(int64_t))
        return out

    @property
    def offsets(self):
        """Feature f owns the counts [offsets[f], offsets[f + 1]): int64 [features + 1]."""
        cdef cnp.npy_intp size = self.plan.features() + 1
        cdef cnp.ndarray out = cnp.PyArray_EMPTY(1, &size, cnp.NPY_INT64, 0)
        memcpy(cnp.PyArray_DATA(out), self.plan.offsets.data(), size * sizeof(int64_t))
        return out
