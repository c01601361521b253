"""The hot half of a connection: one call takes a plain request from the socket's bytes into the batch
buffer, and one call per batch answers all its members.

Between the event loop and the model no Python code runs for such a request. Whatever is not plain goes to the
owner (the protocol class), which sees the same bytes.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t

from fastserve_core.batching cimport Batch, BatchQueue, Part
from fastserve_core.wire.decode cimport Envelope, RequestDecoder, RowBuffers, kNoRoom
from fastserve_core.wire.encode cimport ResponseEncoder
from fastserve_core.wire.head cimport HEAD_FAST, RequestHead

# Where a connection stands; HEAD and WAITING are moved here, the others by the owner.
cdef enum:
    PHASE_HEAD = 0
    PHASE_WAITING = 2


@cython.final
cdef class Shared:
    """What all connections of one event loop share.

    Parameters
    ----------
    routes : dict of bytes to Lane or Predict
        Request target of an infer or predict call to the lane that answers it; kept by reference, changes
        count at once.
    max_body_bytes, compress_min_bytes : int
        Larger bodies, and larger answers to clients that accept compression, are the owner's business.
    """

    cdef readonly dict routes
    cdef readonly int64_t max_body_bytes
    cdef readonly int64_t compress_min_bytes
    cdef public double now_s
    cdef readonly int64_t fast_requests
    cdef list seen
    cdef bytes rendered

    def __init__(self, dict routes not None, int64_t max_body_bytes, int64_t compress_min_bytes):
        self.routes = routes
        self.max_body_bytes = max_body_bytes
        self.compress_min_bytes = compress_min_bytes
        self.rendered = b""

    cpdef bytes default_headers(self, list headers):
        """The server's default headers as lines; a new date comes in a new list."""
        if headers is not self.seen:
            self.seen = headers
            self.rendered = b"".join([b"%s: %s\r\n" % pair for pair in headers])
        return self.rendered


@cython.final
cdef class Lane:
    """One served version at one fixed row shape: decoder, queue, encoder. One event loop's thread only.

    Parameters
    ----------
    queue : BatchQueue
    owner
        The batcher: `wake(deadline_ns)` is called when something must happen after a commit, `settle()`
        before rows are written while `unseen` is set,
        `split(sink, rows)` wraps the sink of a request larger than a batch, `refuse(sink)` turns a request
        away, `broke(error)` hears what went wrong as a connection took its answer.
    clock : callable
        Nanoseconds, monotonic.
    default_timeout_ns : int
        Deadline of requests that name none; 0 for none.
    """

    cdef readonly BatchQueue queue
    cdef readonly object owner
    cdef readonly dict entries
    cdef object clock
    cdef int64_t default_timeout_ns
    cdef RequestDecoder decoder
    cdef ResponseEncoder encoder
    cdef public RowBuffers buffers
    cdef public bint asleep
    cdef public bint unseen
    """A batch that was answered has still to be shown: its rows of the ring are not to be written to."""
    cdef readonly bint closed
    cdef public int64_t alarm_ns
    cdef public int64_t high_row
    cdef readonly int64_t answered
    """Requests of connections that were answered with outputs."""

    def __init__(self, BatchQueue queue not None, owner, clock, int64_t default_timeout_ns):
        self.queue = queue
        self.owner = owner
        self.clock = clock
        self.default_timeout_ns = default_timeout_ns
        self.entries = {}
        self.asleep = True
        self.alarm_ns = INT64_MIN

    def open(self, RequestDecoder decoder not None, ResponseEncoder encoder not None):
        """Let connections in; `buffers` must be those of the decoder's signature."""
        self.decoder = decoder
        self.encoder = encoder

    def close(self):
        """Take nothing more, ever: who still comes is sent the ordinary way. Breaks the circle of references
        with the owner; nothing may wait here.
        """
        self.closed = True
        self.owner = self.decoder = self.encoder = self.buffers = None

    cpdef int64_t commit(self, int64_t rows, int64_t now_ns, int64_t deadline_ns, sink) except? -2:
        """Make the rows just written at the queue's `room_row` a request: its token; -1: the queue is full.

        The sink may be called before this returns.
        """
        if rows < 1 or rows > self.queue.queue.ring.room_rows():
            raise ValueError(f"commit of {rows} rows into a room of {self.queue.queue.ring.room_rows()}")
        self.scribble(rows)
        cdef int64_t token = self.queue.queue.add(rows, deadline_ns, now_ns, True)
        if token >= 0:
            self.enrol(token, rows, deadline_ns, sink)
        return token

    cdef void scribble(self, int64_t rows):
        """Rows behind the last may have been written to, and hold memory."""
        cdef int64_t top = self.queue.queue.ring.room_row() + rows
        if top > self.high_row:
            self.high_row = top

    cdef bint is_full(self, int64_t rows):
        """Whether the queue would refuse so many rows more."""
        cdef int64_t waiting = self.queue.queue.waiting_rows
        return waiting > 0 and rows > self.queue.queue.max_queue_rows - waiting

    cpdef int enrol(self, int64_t token, int64_t rows, int64_t deadline_ns, sink) except -1:
        """Remember who waits for a token, and wake the batcher where that changes anything."""
        cdef int64_t full = self.queue.queue.max_batch_rows
        self.entries[token] = sink if rows <= full else self.owner.split(sink, rows)
        if self.asleep or deadline_ns < self.alarm_ns or self.queue.queue.waiting_rows >= full:
            self.owner.wake(deadline_ns)
        return 0

    cpdef int64_t deadline_ns(self, int64_t timeout_us, int64_t now_ns):
        """When a request of time `now_ns` with `timeout_us` (0 or less: the default) stops mattering."""
        cdef int64_t timeout_ns = self.default_timeout_ns
        if timeout_us > 0:
            timeout_ns = timeout_us * 1000 if timeout_us < INT64_MAX // 1000 else INT64_MAX
        return now_ns + timeout_ns if 0 < timeout_ns < INT64_MAX - now_ns else INT64_MAX

    def deliver(self, Batch batch not None, list outputs not None):
        """Answer the members of a batch that ran.

        Parameters
        ----------
        outputs : list of ndarray
            Outputs of the whole batch, in signature order.

        Returns
        -------
        list of (token, first row in the request, rows, first row in the batch)
            Members that are no connections, withdrawn ones among them: the caller answers those that wait.
        """
        cdef list others = []
        cdef Part part
        cdef int64_t at = 0
        for part in batch.taken.parts:
            sink = self.entries.get(part.token)
            if type(sink) is Exchange:
                del self.entries[part.token]
                try:
                    (<Exchange> sink).answer(outputs, <Py_ssize_t> at, <Py_ssize_t> part.rows)
                except Exception as error:  # whatever one of them does, the others get their answers
                    self.owner.broke(error)
            else:
                others.append((part.token, part.offset, part.rows, at))
            at += part.rows
        return others


@cython.final
cdef class Predict:
    """A lane as requests of TensorFlow Serving's form find it: the same queue, other bodies."""

    cdef readonly Lane lane

    def __init__(self, Lane lane not None):
        self.lane = lane


@cython.final
cdef class Exchange:
    """The requests of one connection as the fast path sees them, one at a time. One event loop's thread only.

    Parameters
    ----------
    shared : Shared
    owner
        The protocol: `take(data)` gets all bytes that are not one plain request, `fail(error)` and
        `compressed(response)` finish unusual answers, `end()` tells that the request in hand is the last,
        `answered()` is called after an answer when `attention` is set.
    state
        Has `default_headers`, the list of (name, value) that every answer starts with.
    """

    cdef readonly RequestHead head
    cdef readonly Envelope envelope
    cdef readonly Lane lane
    cdef readonly int64_t token
    cdef readonly bytes accept_encoding
    cdef Shared shared
    cdef object owner, state, write
    cdef int64_t serial
    cdef bint predict
    cdef public int phase
    cdef public bint partial
    """The owner holds the beginning of a request."""
    cdef public bint attention
    cdef public double since_s

    def __init__(self, Shared shared not None, owner, state):
        self.shared = shared
        self.owner = owner
        self.state = state
        self.head = RequestHead()
        self.envelope = Envelope()
        self.token = -1
        self.since_s = shared.now_s

    def connect(self, write):
        """`write(data)` sends bytes to the client."""
        self.write = write

    def close(self):
        """The connection is gone; breaks the circle of references with the owner."""
        self.owner = self.write = self.lane = None
        self.token = -1

    def data_received(self, data):
        """One plain request goes straight to its lane; everything else to `owner.take`."""
        cdef Py_ssize_t size
        if self.phase == PHASE_HEAD and not self.partial and PyBytes_CheckExact(data):
            size = PyBytes_GET_SIZE(data)
            if self.head.judge(PyBytes_AS_STRING(data), 0, size) == HEAD_FAST:
                lane = self.route()
                if (
                    lane is not None
                    and self.head.kept.head.head_length + self.head.kept.head.content_length == size
                    and self.enter(<Lane> lane, data, size) >= 0
                ):
                    return
        if self.owner is not None:
            self.owner.take(data)

    cpdef object route(self):
        """The lane of the request just scanned, or None when the ordinary path must answer it."""
        if self.head.kept.head.content_length > self.shared.max_body_bytes:
            return None
        found = self.shared.routes.get(
            self.head.part(self.head.kept.method_length, self.head.kept.target_length)
        )
        self.predict = type(found) is Predict
        return (<Predict> found).lane if self.predict else found

    cpdef int64_t enter(self, Lane lane, data, Py_ssize_t stop) except? -2:
        """Decode the request just scanned, data[:stop], and commit it: its token, or 0 when the
        queue is full and the client has been told.

        Negative when it is not plainly valid or too large for the ring: nothing is left behind and the
        ordinary path must take it. The answer may have been written before this returns.
        """
        cdef const char* text
        cdef Py_ssize_t size
        if lane.closed:
            return -1
        if PyBytes_CheckExact(data):
            text, size = PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
        elif PyByteArray_CheckExact(data):
            text, size = PyByteArray_AS_STRING(data), PyByteArray_GET_SIZE(data)
        else:
            raise TypeError("bytes or bytearray")
        if lane.unseen:
            lane.owner.settle()
        cdef int64_t room = lane.queue.queue.ring.room()
        cdef int64_t rows = lane.decoder._decode(
            text, size, self.head.kept.head.head_length, <Py_ssize_t> self.head.kept.head.json_length, stop,
            lane.buffers, <Py_ssize_t> lane.queue.queue.ring.room_row(), <Py_ssize_t> room, self.envelope,
            self.predict
        )
        if rows == kNoRoom and lane.is_full(self.envelope.rows):
            self.hold(lane)
            lane.owner.refuse(self)
            return 0
        if rows < 0:
            # What is refused in the middle may have written any of its rows.
            lane.scribble(min(room, <int64_t> self.envelope.rows))
            return -1
        cdef int64_t timeout_us = self.envelope.timeout_us
        if timeout_us <= 0:
            timeout_us = self.head.kept.head.timeout_us
        cdef int64_t now_ns = lane.clock()
        self.hold(lane)
        cdef int64_t serial = self.serial
        cdef int64_t token = lane.commit(rows, now_ns, lane.deadline_ns(timeout_us, now_ns), self)
        if token < 0:
            lane.owner.refuse(self)
            return 0
        self.shared.fast_requests += 1
        # The answer may be on its way already, and the next request in: then this token is history.
        if self.serial == serial and self.phase == PHASE_WAITING:
            self.token = token
        return token

    cdef void hold(self, Lane lane):
        """The request just scanned is this lane's from now on."""
        if not self.head.kept.head.keep_alive:
            self.owner.end()
        self.serial += 1
        self.phase = PHASE_WAITING
        self.lane = lane
        self.accept_encoding = self.head.accept_encoding if self.head.kept.head.has_accept_encoding else None

    def deliver(self, list outputs not None, Py_ssize_t start, Py_ssize_t rows):
        """Answer with rows [start, start + rows) of the outputs."""
        self.answer(outputs, start, rows)

    def fail(self, error):
        """The request cannot be answered."""
        if self.owner is not None:
            self.owner.fail(error)

    cdef int answer(self, list outputs, Py_ssize_t start, Py_ssize_t rows) except -1:
        cdef bytes headers, response
        if self.owner is None:
            return 0
        try:
            headers = self.shared.default_headers(self.state.default_headers)
            if self.predict:
                response = self.lane.encoder.predict_http(
                    outputs, start, rows, self.envelope.columnar, headers
                )
            else:
                response = self.lane.encoder.http(
                    outputs, start, rows, self.envelope.id_json, self.envelope.selection, headers
                )
            if (
                self.accept_encoding is not None
                and PyBytes_GET_SIZE(response) >= self.shared.compress_min_bytes
            ):
                response = self.owner.compressed(response)
            if self.attention:
                response = self.owner.last_words(response)
        except Exception as error:
            self.owner.fail(error)
            return 0
        self.write(response)
        self.lane.answered += 1
        self.settle()
        return 0

    cpdef int settle(self) except -1:
        """The request in hand is answered: stand before the next one."""
        self.lane = None
        self.token = -1
        self.envelope.id_json = None  # it may be as long as a body
        self.phase = PHASE_HEAD
        self.since_s = self.shared.now_s
        if self.attention:
            self.owner.answered()
        return 0
