"""The queue as other compiled modules call it."""

from libc.stdint cimport int64_t
from libcpp.vector cimport vector

cdef extern from "batch_queue.hpp" namespace "fastserve" nogil:
    cdef struct Part:
        int64_t token
        int64_t offset
        int64_t rows
        int64_t place
        int64_t deadline_ns
        int64_t wait_ns

    cdef cppclass Taken:
        vector[Part] parts
        vector[int64_t] expired
        int64_t rows
        int64_t start
        int64_t queue_ns
        int64_t last_parts

    cdef struct Estimate:
        double row_ns
        double base_ns

    cdef cppclass Ring:
        int64_t rows() noexcept
        int64_t room() noexcept
        int64_t room_row() noexcept
        int64_t room_rows() noexcept

    cdef cppclass Queue:
        Queue(
            int64_t max_batch_rows, int64_t ring_rows, int64_t max_queue_rows, int64_t max_batch_requests
        ) except +
        int64_t max_batch_rows
        int64_t max_queue_rows
        int64_t max_batch_requests
        int64_t waiting_rows
        int64_t waiting_requests
        int64_t running_rows
        Ring ring
        int64_t slot_count() noexcept
        int64_t heap_entries() noexcept
        int64_t next_deadline_ns() noexcept
        int64_t oldest_arrival_ns() noexcept
        int64_t add(int64_t rows, int64_t deadline_ns, int64_t now_ns, bint in_ring) except +
        bint cancel(int64_t token) noexcept
        void expire(int64_t now_ns, vector[int64_t]& expired) except +
        void take(int64_t now_ns, Estimate estimate, Taken& out) except +
        void finish(const Taken& batch) noexcept


cdef class BatchQueue


cdef class Batch:
    cdef Taken taken
    cdef BatchQueue queue
    cdef list made_parts
    cdef readonly list expired


cdef class BatchQueue:
    cdef Queue* queue
