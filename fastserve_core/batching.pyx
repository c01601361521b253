"""Which rows run next, and where they lie: the batch queue as integers, without tensors, threads or a clock.

The work is in `batch_queue.hpp`; this file only turns its integers into Python objects.
"""

cimport cython
from libc.stdint cimport int64_t, INT64_MAX
from libcpp.vector cimport vector


NO_DEADLINE = INT64_MAX


cdef list token_list(const vector[int64_t]& tokens):
    cdef size_t i
    cdef list out = []
    for i in range(tokens.size()):
        out.append(tokens[i])
    return out


cdef list part_list(const vector[Part]& parts):
    cdef size_t i
    cdef list out = []
    for i in range(parts.size()):
        out.append((parts[i].token, parts[i].offset, parts[i].rows, parts[i].place))
    return out


@cython.final
@cython.freelist(16)
cdef class Batch:
    """What runs together: give it back to `BatchQueue.finish` when it has run, or failed to.

    `expired`: tokens of requests that `take` dropped, because their deadline has passed or cannot be met.
    """

    @property
    def parts(self):
        """(token, first row in the request, rows, ring row of the first or -1) of each part, in order."""
        # Made when asked for: the compiled lane reads the integers themselves.
        if self.made_parts is None:
            self.made_parts = part_list(self.taken.parts)
        return self.made_parts

    @property
    def deadlines_ns(self):
        """Deadline of the request of each part, in order; NO_DEADLINE where it has none."""
        cdef size_t i
        return [self.taken.parts[i].deadline_ns for i in range(self.taken.parts.size())]

    @property
    def rows(self):
        """Rows of all parts."""
        return self.taken.rows

    @property
    def start(self):
        """Ring row of the first row where all follow it in the ring; -1 where they have to be gathered."""
        return self.taken.start

    @property
    def queue_ns(self):
        """Nanoseconds that requests whose last rows are in it waited, together."""
        return self.taken.queue_ns

    @property
    def last_parts(self):
        """Requests whose last rows are in it."""
        return self.taken.last_parts

    def __repr__(self):
        return f"<Batch rows={self.rows} start={self.start} parts={self.parts} expired={self.expired}>"


@cython.final
cdef class BatchQueue:
    """Requests waiting for one model, and the space their rows hold in the caller's ring. Not thread-safe."""

    def __cinit__(
        self,
        int64_t max_batch_rows,
        int64_t ring_rows,
        int64_t max_queue_rows,
        int64_t max_batch_requests=0,
    ):
        if max_batch_rows < 1:
            raise ValueError(f"max_batch_rows must be at least 1, not {max_batch_rows}")
        if ring_rows < max_batch_rows:
            raise ValueError(f"ring_rows must be at least max_batch_rows ({max_batch_rows}), not {ring_rows}")
        if max_queue_rows < 1:
            raise ValueError(f"max_queue_rows must be at least 1, not {max_queue_rows}")
        if max_batch_requests < 0:
            raise ValueError(f"max_batch_requests must be 0 (no limit) or more, not {max_batch_requests}")
        self.queue = new Queue(max_batch_rows, ring_rows, max_queue_rows, max_batch_requests)

    def __dealloc__(self):
        del self.queue

    def room(self):
        """Contiguous rows that may be written from ring row `room_row` on; 0 when there are none."""
        return self.queue.ring.room()

    def commit(self, int64_t rows, int64_t deadline_ns, int64_t now_ns):
        """Make the rows just written at `room_row` wait: the request's token, or -1 if the queue is full."""
        if rows < 1 or rows > self.queue.ring.room_rows():
            raise ValueError(f"commit of {rows} rows into a room of {self.queue.ring.room_rows()}")
        return self.queue.add(rows, deadline_ns, now_ns, True)

    def push(self, int64_t rows, int64_t deadline_ns, int64_t now_ns):
        """Let a request wait whose rows lie outside the ring: its token, or -1 when the queue is full."""
        if rows < 1:
            raise ValueError(f"push of {rows} rows")
        return self.queue.add(rows, deadline_ns, now_ns, False)

    def cancel(self, int64_t token):
        """Drop what still waits of a request; False when nothing did, or the token is not a live one."""
        return self.queue.cancel(token)

    def expire(self, int64_t now_ns):
        """Drop the waiting requests whose deadline has come: their tokens, earliest deadline first."""
        cdef vector[int64_t] expired
        self.queue.expire(now_ns, expired)
        return token_list(expired)

    def take(self, int64_t now_ns, double row_ns=0.0, double base_ns=0.0):
        """Next batch, or None when nothing waits; its rows count as running until `finish`.

        `base_ns + row_ns * rows` is what a run of so many rows is expected to take: requests that would miss
        their deadline are dropped, and a batch stops growing where it would miss its earliest one.
        """
        if self.queue.waiting_requests == 0:
            return None
        cdef Batch batch = Batch.__new__(Batch)
        self.queue.take(now_ns, Estimate(row_ns, base_ns), batch.taken)
        batch.queue = self
        batch.expired = token_list(batch.taken.expired)
        return batch

    def finish(self, Batch batch not None):
        """The batch has run: its ring rows become free. Batches may finish in any order, each once."""
        if batch.queue is not self:
            raise ValueError("this batch is not a running batch of this queue")
        batch.queue = None
        self.queue.finish(batch.taken)

    @property
    def max_batch_rows(self):
        """Most rows in a batch."""
        return self.queue.max_batch_rows

    @property
    def ring_rows(self):
        """Rows of the caller's ring."""
        return self.queue.ring.rows()

    @property
    def max_queue_rows(self):
        """Most rows that may wait; one larger request is let in when no other waits."""
        return self.queue.max_queue_rows

    @property
    def max_batch_requests(self):
        """Most parts in a batch; 0 when only rows are limited."""
        return self.queue.max_batch_requests

    @property
    def room_row(self):
        """First ring row of the room last asked for."""
        return self.queue.ring.room_row()

    @property
    def waiting_rows(self):
        """Rows that wait, in the ring or outside."""
        return self.queue.waiting_rows

    @property
    def waiting_requests(self):
        """Requests with at least one waiting row."""
        return self.queue.waiting_requests

    @property
    def running_rows(self):
        """Rows in batches taken and not finished."""
        return self.queue.running_rows

    @property
    def next_deadline_ns(self):
        """Earliest deadline of the waiting; NO_DEADLINE when none has one."""
        return self.queue.next_deadline_ns()

    @property
    def oldest_arrival_ns(self):
        """Arrival time of the request that waits longest; NO_DEADLINE when none waits."""
        return self.queue.oldest_arrival_ns()

    @property
    def slot_count(self):
        """Request slots allocated so far: the most that were ever live at once."""
        return self.queue.slot_count()

    @property
    def heap_entries(self):
        """Entries in the deadline heap, those of cancelled requests included."""
        return self.queue.heap_entries()
