"""Counts and moments of a tensor's values against fixed edges, mergeable across processes.

The arithmetic is in table.hpp, number.hpp, moments.hpp, sweep.hpp and kernels.hpp, that of many float32 rows
in tile_sweep.hpp, tiles.hpp and grid.hpp, the bytes in number_state.hpp; this file and arguments.pxd check
arguments before they are read.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libcpp cimport bool as cpp_bool
from libcpp.vector cimport vector

cimport numpy as cnp

import numpy as np

from fastserve_core.sketch.arguments cimport (
    SHORT, Problem, copy_of, count_rows, kDisagree, kFine, kind_of, kNegative, kNotAState,
    kOtherPlan, kOtherVersion, kTooLong, kTooManyRows, kTruncated, new_array, open_state,
)

cnp.import_array()

cdef extern from "sketch/number_state.hpp" namespace "fastserve::number" nogil:
    int64_t kMaxCounts
    int64_t kMaxFeatureEdges

    cdef enum Counter:
        kCountMissing, kCountNegative, kCountPositive

    cdef enum Level:
        kBaseline, kAvx2

    Level chosen_level
    Level best_level() noexcept

    cdef cppclass Plan:
        vector[int64_t] offsets
        int64_t features() noexcept
        int64_t counts() noexcept
        void add(const double* values, int64_t number, double shift) except +
        void close() except +

    cdef cppclass Counts:
        void open(const Plan& plan) except +
        int64_t rows() noexcept
        size_t memory(const Plan& plan) noexcept
        void copy_counts(const Plan& plan, int64_t* out) noexcept
        void copy_counted(const Plan& plan, int kind, int64_t* out) noexcept
        void copy_moment(const Plan& plan, int moment, double* out) noexcept
        void reset() noexcept
        cpp_bool update(
            const Plan& plan, char kind, int itemsize, const void* values, int64_t rows
        ) except +
        Problem merge(const Plan& plan, const char* state, size_t size) noexcept
        size_t state_bytes(const Plan& plan) noexcept
        void write(const Plan& plan, char* out, cpp_bool then_clear) noexcept

cdef extern from "sketch/moments.hpp" namespace "fastserve::number" nogil:
    cdef enum Moment:
        kMean, kM2, kVariance, kLeast, kMost

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
    if number > kMaxFeatureEdges:
        raise ValueError(f"feature {f}: {number} edges make more than {kMaxFeatureEdges + 1} counts")
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


@cython.final
cdef class NumberSketch:
    """Counts and moments of one tensor [rows, features] against the edges of each feature.

    m edges make m + 1 counts: count i holds edges[i - 1] < x <= edges[i], as `numpy.searchsorted` places
    values on the left side. NaN is missing and in no count; an infinity is counted apart and lies in the
    first or last count as well, so the counts of a feature sum to rows - missing. Moments, minimum and
    maximum are of finite values, in float64: whole numbers beyond 2**53 are rounded there, and placed
    exactly. Several threads may share a sketch: calls take turns, and a long update gives others theirs
    between parts of its rows.

    Parameters
    ----------
    edges : sequence of float64 [m]
        Per feature: finite, strictly rising; there may be none. At most 65,535, and MAX_COUNTS counts in all.
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
            Another shape, order or dtype, or more than 2**63 - 1 rows in all. Nothing has been counted then.
        TypeError
            Not an array.
        """
        cdef int64_t rows = count_rows(values, self.plan.features())
        cdef cnp.ndarray array = <cnp.ndarray>values
        cdef char kind = kind_of(array)
        cdef int itemsize = cnp.PyArray_ITEMSIZE(array)
        cdef const void* data = cnp.PyArray_DATA(array)
        cdef cpp_bool counted
        if not kind:
            raise ValueError(f"values must be bool, int, uint, float32 or float64, not {array.dtype}")
        if cnp.PyArray_SIZE(array) <= SHORT:
            counted = self.tally.update(self.plan, kind, itemsize, data, rows)
        else:
            with nogil:
                counted = self.tally.update(self.plan, kind, itemsize, data, rows)
        if not counted:
            raise ValueError(REASONS[kTooManyRows])

    def merge(self, NumberSketch other not None):
        """Add what a sketch of the same edges and shifts has counted; ValueError for another plan."""
        self.merge_bytes(other.to_bytes())

    def merge_bytes(self, state):
        """Add what `to_bytes` or `take` of a sketch of the same edges and shifts gave.

        ValueError, and nothing added: truncated, another format version, another plan, negative counts,
        counts that do not agree with the rows, more than 2**63 - 1 rows. TypeError: not bytes.
        """
        cdef Py_buffer buffer
        open_state(state, &buffer)
        cdef Problem problem = self.tally.merge(self.plan, <const char*>buffer.buf, buffer.len)
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
    def nbytes(self):
        """Bytes of memory held; a dtype's first update adds its table of edges."""
        return self.tally.memory(self.plan)

    @property
    def missing(self):
        """NaN: int64 [features]."""
        return self.counted(kCountMissing)

    @property
    def negative_infinite(self):
        """Values of -inf: int64 [features]."""
        return self.counted(kCountNegative)

    @property
    def positive_infinite(self):
        """Values of +inf: int64 [features]."""
        return self.counted(kCountPositive)

    @property
    def mean(self):
        """Mean of finite values: float64 [features]; NaN where there was none."""
        return self.moment(kMean)

    @property
    def m2(self):
        """Sum of squared distances from the mean, of finite values: float64 [features]; 0 without any."""
        return self.moment(kM2)

    @property
    def variance(self):
        """m2 over one less than the finite values: float64 [features]; NaN where there was one at most, and
        where the values lie so far from the shift that float64 has lost their differences."""
        return self.moment(kVariance)

    @property
    def minimum(self):
        """Smallest finite value: float64 [features]; NaN where there was none."""
        return self.moment(kLeast)

    @property
    def maximum(self):
        """Largest finite value: float64 [features]; NaN where there was none."""
        return self.moment(kMost)

    @property
    def counts(self):
        """Values between the edges, one feature after the other: int64 [counts]."""
        cdef cnp.ndarray out = new_array(self.plan.counts(), cnp.NPY_INT64)
        self.tally.copy_counts(self.plan, <int64_t*>cnp.PyArray_DATA(out))
        return out

    @property
    def offsets(self):
        """Feature f owns the counts [offsets[f], offsets[f + 1]): int64 [features + 1]."""
        return copy_of(self.plan.offsets)

    cdef cnp.ndarray counted(self, int kind):
        cdef cnp.ndarray out = new_array(self.plan.features(), cnp.NPY_INT64)
        self.tally.copy_counted(self.plan, kind, <int64_t*>cnp.PyArray_DATA(out))
        return out

    cdef cnp.ndarray moment(self, int moment):
        cdef cnp.ndarray out = new_array(self.plan.features(), cnp.NPY_FLOAT64)
        self.tally.copy_moment(self.plan, moment, <double*>cnp.PyArray_DATA(out))
        return out
