"""How long requests took and how large batches were, counted where it is known: a few nanoseconds an event.

Without locks: whoever holds the interpreter may add or take. The buckets are in `histogram.hpp`.
"""

cimport cython
from libc.stdint cimport int64_t

from fastserve_core.batching cimport Batch, Part

cdef extern from "histogram.hpp" namespace "fastserve" nogil:
    int kBuckets

    cdef cppclass Buckets "fastserve::Histogram":
        Buckets(int64_t unit) noexcept
        void add(int64_t value, int64_t count) noexcept
        int64_t count(int bucket) noexcept
        int64_t total() noexcept
        void clear() noexcept

BUCKETS = kBuckets


@cython.final
cdef class Histogram:
    """Events by value; eight buckets an octave.

    Parameters
    ----------
    unit : int
        Width of the smallest bucket: 1000 makes microseconds of nanoseconds.
    """

    cdef Buckets* buckets

    def __cinit__(self, int64_t unit):
        if unit < 1:
            raise ValueError(f"unit must be at least 1, not {unit}")
        self.buckets = new Buckets(unit)

    def __dealloc__(self):
        del self.buckets

    cpdef int add(self, int64_t value, int64_t count=1) except -1:
        """Count `count` events of a value; negative values count as 0."""
        if count < 0:
            raise ValueError(f"count must not be negative: {count}")
        self.buckets.add(value if value > 0 else 0, count)
        return 0

    def take(self):
        """What was counted since the last `take`: ({bucket: events}, sum of values); empty ones left out."""
        cdef int i
        cdef dict counts = {}
        for i in range(kBuckets):
            if self.buckets.count(i):
                counts[i] = self.buckets.count(i)
        cdef object total = self.buckets.total()
        self.buckets.clear()
        return counts, total


@cython.final
cdef class RunHistograms:
    """The histograms of one served version: phases of its requests, and rows of its batches."""

    cdef readonly Histogram queue
    cdef readonly Histogram compute
    cdef readonly Histogram total
    cdef readonly Histogram batch_rows

    def __init__(self):
        self.queue = Histogram(1000)
        self.compute = Histogram(1000)
        self.total = Histogram(1000)
        self.batch_rows = Histogram(1)

    def observe(self, Batch batch not None, int64_t run_ns, int64_t output_ns):
        """Count a batch that ran for `run_ns` and took `output_ns` to answer, and requests it completed."""
        cdef Part part
        cdef int64_t after_ns = run_ns + output_ns
        self.batch_rows.buckets.add(batch.taken.rows, 1)
        self.compute.buckets.add(run_ns, batch.taken.last_parts)
        for part in batch.taken.parts:
            if part.wait_ns >= 0:
                self.queue.buckets.add(part.wait_ns, 1)
                self.total.buckets.add(part.wait_ns + after_ns, 1)

    def observe_alone(self, int64_t rows, int64_t wait_ns, int64_t run_ns, bint last):
        """Count a part whose batch failed, and which then ran by itself; its request with the last one."""
        self.batch_rows.add(rows)
        if last:
            self.queue.add(wait_ns)
            self.compute.add(run_ns)
            self.total.add(wait_ns + run_ns)

    def take(self):
        """What was counted since the last `take`, by name; histograms without events are left out."""
        out = {}
        for name, histogram in (
            ("queue", self.queue),
            ("compute", self.compute),
            ("total", self.total),
            ("batch_rows", self.batch_rows),
        ):
            taken = histogram.take()
            if taken[0]:
                out[name] = taken
        return out
