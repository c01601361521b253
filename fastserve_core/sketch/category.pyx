"""Counts of a tensor's values against fixed categories, mergeable across processes.

The tables are in category.hpp, the bytes in category_state.hpp; this file and arguments.pxd check arguments
before they are read.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t
from libcpp cimport bool as cpp_bool
from libcpp.vector cimport vector

cimport numpy as cnp

import numpy as np

from fastserve_core.sketch.arguments cimport (
    SHORT, Problem, copy_of, count_rows, kDisagree, kFine, kind_of, kNegative, kNotAState,
    kOtherPlan, kOtherVersion, kTooLong, kTooManyRows, kTruncated, new_array, open_state,
)

cnp.import_array()

cdef extern from "sketch/category_state.hpp" namespace "fastserve::category" nogil:
    int64_t kMaxCategories

    cdef enum Part "fastserve::category::Counts::Part":
        kMissing "fastserve::category::Counts::kMissing"
        kUnseen "fastserve::category::Counts::kUnseen"
        kCategories "fastserve::category::Counts::kCategories"

    cdef cppclass Plan:
        vector[int64_t] offsets
        int64_t features() noexcept
        int64_t categories() noexcept
        cpp_bool add_text(const char* text, size_t size) except +
        cpp_bool add_number(uint64_t bits, cpp_bool large) except +
        void end_feature() except +
        void close(cpp_bool text) except +

    cdef cppclass Counts:
        void open(const Plan& plan) except +
        int64_t rows() noexcept
        void reset() noexcept
        void copy(Part part, int64_t* out) noexcept
        cpp_bool count_numbers(
            const Plan& plan, char kind, int itemsize, const void* values, int64_t rows
        ) noexcept
        cpp_bool count_objects(Plan& plan, PyObject** items, int64_t rows) noexcept
        Problem merge(const Plan& plan, const char* state, size_t size) noexcept
        size_t state_bytes(const Plan& plan) noexcept
        void write(const Plan& plan, char* out, cpp_bool then_clear) noexcept

cdef enum Kind:
    ANY, TEXT, NUMBER

MAX_CATEGORIES = kMaxCategories

cdef dict REASONS = {
    kTruncated: "the state is truncated",
    kNotAState: "these bytes are not the state of a category sketch",
    kOtherVersion: "the state was written in another format version",
    kOtherPlan: "the state counts other features or categories",
    kTooLong: "bytes follow the state",
    kNegative: "the state holds negative counts",
    kDisagree: "the state's counts do not sum to its rows",
    kTooManyRows: "more than 2**63 - 1 rows",
}


cdef cpp_bool add_category(Plan& plan, Kind* kind, object value, int64_t f) except *:
    """False when the feature has it already; `kind` becomes that of the first category of all."""
    cdef Kind found = TEXT if isinstance(value, str) else NUMBER
    cdef bytes text
    if found == NUMBER and not isinstance(value, (bool, int, np.bool_, np.integer)):
        raise TypeError(f"feature {f}: a category must be str, int or bool, not {type(value).__name__}")
    if kind[0] not in (ANY, found):
        raise TypeError(f"feature {f}: text and numbers cannot be categories of one tensor")
    kind[0] = found
    if found == TEXT:
        try:
            text = str.encode(value)
        except UnicodeEncodeError:
            raise ValueError(f"feature {f}: category {value!r} has no UTF-8") from None
        return plan.add_text(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    number = int(value)
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"feature {f}: category {number} fits neither int64 nor uint64")
    return plan.add_number(<uint64_t>(number & 0xffffffffffffffff), number >= 2**63)


cdef int add_feature(Plan& plan, Kind* kind, object categories, int64_t f) except -1:
    if isinstance(categories, (str, bytes)):
        raise TypeError(f"feature {f}: categories must be a sequence, not {type(categories).__name__}")
    for value in categories:
        if plan.categories() == kMaxCategories:
            raise ValueError(f"more than {kMaxCategories} categories")
        if not add_category(plan, kind, value, f):
            raise ValueError(f"feature {f}: category {value!r} comes twice")
    plan.end_feature()
    return 0


@cython.final
cdef class CategorySketch:
    """Counts of one tensor [rows, features] against the categories of each feature.

    A value is counted for its category, or as missing (None, NaN, and empty text unless that is a
    category), or as unseen (anything else); these sum to the rows. Several threads may share a sketch: calls
    take turns.

    Parameters
    ----------
    categories : sequence of sequences of str, or of int or bool
        Per feature, in the order in which they are counted; distinct; at most MAX_CATEGORIES in all.
        A feature may have none. Whole numbers from -2**63 to 2**64 - 1; True is 1.

    Raises
    ------
    ValueError
        No feature, too many; a category twice, out of range or without UTF-8.
    TypeError
        A category of another type, or text and numbers together.
    """
    cdef Plan plan
    cdef Counts tally
    cdef Kind kind

    def __cinit__(self, categories):
        cdef int64_t f = 0
        if isinstance(categories, (str, bytes)):
            raise TypeError(f"categories must be a sequence, not {type(categories).__name__}")
        self.kind = ANY
        for each in categories:
            if f == kMaxCategories:
                raise ValueError(f"more than {kMaxCategories} features")
            add_feature(self.plan, &self.kind, each, f)
            f += 1
        if f == 0:
            raise ValueError("categories must describe at least one feature")
        self.plan.close(self.kind == TEXT)
        self.tally.open(self.plan)

    def update(self, values):
        """Count every row of a tensor.

        Parameters
        ----------
        values : array [rows, features], or [rows] of one feature, or [rows, ...] of as many values a row
            C-contiguous. For text: objects, of which str is compared as it is and bytes as UTF-8; None is
            missing, empty text too unless it is a category, and anything else, subclasses of str and bytes
            too, is unseen. For numbers: bool, any int or uint, float32 or float64, of which NaN is missing
            and what is not whole is unseen.

        Raises
        ------
        ValueError
            Another shape, order or dtype; more than 2**63 - 1 rows in all. Nothing has been counted then.
        TypeError
            Not an array.
        """
        cdef int64_t rows = count_rows(values, self.plan.features())
        cdef cnp.ndarray array = <cnp.ndarray>values
        cdef char kind = kind_of(array)
        cdef int itemsize = cnp.PyArray_ITEMSIZE(array)
        cdef const void* data = cnp.PyArray_DATA(array)
        cdef cpp_bool counted
        if self.kind != NUMBER and cnp.PyArray_TYPE(array) == cnp.NPY_OBJECT:
            counted = self.tally.count_objects(self.plan, <PyObject**>data, rows)
        elif self.kind == TEXT:
            raise ValueError(f"text must come as an object array, not {array.dtype}")
        elif not kind:
            raise ValueError(f"numbers must be bool, int, uint, float32 or float64, not {array.dtype}")
        elif cnp.PyArray_SIZE(array) <= SHORT:
            counted = self.tally.count_numbers(self.plan, kind, itemsize, data, rows)
        else:
            with nogil:
                counted = self.tally.count_numbers(self.plan, kind, itemsize, data, rows)
        if not counted:
            raise ValueError(REASONS[kTooManyRows])

    def merge(self, CategorySketch other not None):
        """Add what another sketch of the same categories has counted; ValueError for other categories."""
        self.merge_bytes(other.to_bytes())

    def merge_bytes(self, state):
        """Add what `to_bytes` or `take` of a sketch of the same categories gave.

        ValueError, and nothing added: truncated, another format version, other features or categories,
        negative counts, counts that do not sum to the rows, more than 2**63 - 1 rows. TypeError: not bytes.
        """
        cdef Py_buffer buffer
        open_state(state, &buffer)
        cdef Problem problem = self.tally.merge(self.plan, <const char*>buffer.buf, buffer.len)
        PyBuffer_Release(&buffer)
        if problem != kFine:
            raise ValueError(REASONS[problem])

    def to_bytes(self):
        """Everything counted so far; the format is in category_state.hpp."""
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

    cdef cnp.ndarray copy(self, Part part, int64_t size):
        cdef cnp.ndarray out = new_array(size, cnp.NPY_INT64)
        self.tally.copy(part, <int64_t*>cnp.PyArray_DATA(out))
        return out

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
        """Missing values: int64 [features]."""
        return self.copy(kMissing, self.plan.features())

    @property
    def unseen(self):
        """Values that are no category: int64 [features]."""
        return self.copy(kUnseen, self.plan.features())

    @property
    def counts(self):
        """Values of every category, one feature after the other: int64 [categories]."""
        return self.copy(kCategories, self.plan.categories())

    @property
    def offsets(self):
        """Feature f owns the counts [offsets[f], offsets[f + 1]): int64 [features + 1]."""
        return copy_of(self.plan.offsets)
