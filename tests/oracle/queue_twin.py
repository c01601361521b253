"""The batch queue in plain Python, slow and plainly right: the oracle that the compiled one is compared with.

Waiting requests are one list that is sorted whenever the order matters; ring rows are a list of row numbers
from head to tail and a set of those in use. Nothing is cached, nothing is clever.
"""

from dataclasses import dataclass, field

NO_DEADLINE = 2**63 - 1


@dataclass
class TwinRequest:
    token: int
    rows: int
    deadline_ns: int
    arrival_ns: int
    place: int
    offset: int = 0

    @property
    def left(self) -> int:
        return self.rows - self.offset


@dataclass
class TwinBatch:
    parts: list[tuple[int, int, int, int]] = field(default_factory=list)
    deadlines_ns: list[int] = field(default_factory=list)
    expired: list[int] = field(default_factory=list)
    last_parts: int = 0
    waited_ns: int = 0
    running: bool = True

    @property
    def rows(self) -> int:
        return sum(rows for _, _, rows, _ in self.parts)

    @property
    def start(self) -> int:
        if not self.parts or any(place < 0 for _, _, _, place in self.parts):
            return -1
        places = [row for _, _, rows, place in self.parts for row in range(place, place + rows)]
        return places[0] if places == list(range(places[0], places[0] + len(places))) else -1

    @property
    def queue_ns(self) -> int:
        return min(self.waited_ns, NO_DEADLINE)


class TwinQueue:
    """Same methods and attributes as `fastserve_core.batching.BatchQueue`; tokens are 0, 1, 2, …"""

    def __init__(
        self, max_batch_rows: int, ring_rows: int, max_queue_rows: int, max_batch_requests: int = 0
    ) -> None:
        self.max_batch_rows = max_batch_rows
        self.ring_rows = ring_rows
        self.max_queue_rows = max_queue_rows
        self.max_batch_requests = max_batch_requests
        self.room_row = 0
        self.room_rows = 0
        self.waiting: list[TwinRequest] = []
        self.running: list[TwinBatch] = []
        self.tokens = 0
        self.span: list[int] = []  # ring rows from head to tail, free holes between them included
        self.busy: set[int] = set()  # ring rows that hold something

    # -- what can be read ---------------------------------------------------------------------------------

    @property
    def waiting_rows(self) -> int:
        return sum(request.left for request in self.waiting)

    @property
    def waiting_requests(self) -> int:
        return len(self.waiting)

    @property
    def running_rows(self) -> int:
        return sum(batch.rows for batch in self.running)

    @property
    def next_deadline_ns(self) -> int:
        return min((request.deadline_ns for request in self.waiting), default=NO_DEADLINE)

    @property
    def oldest_arrival_ns(self) -> int:
        return self.waiting[0].arrival_ns if self.waiting else NO_DEADLINE  # they wait in arrival order

    # -- the ring -----------------------------------------------------------------------------------------

    def room(self) -> int:
        if not self.span:
            self.room_row, self.room_rows = 0, self.ring_rows
            return self.room_rows
        head, tail = self.span[0], self.span[-1] + 1
        if tail <= head or len(self.span) == self.ring_rows:  # wrapped around, or full
            self.room_row, self.room_rows = tail, self.ring_rows - len(self.span)
            return self.room_rows
        at_end = self.ring_rows - tail
        wrap = at_end < self.max_batch_rows and head > at_end
        self.room_row, self.room_rows = (0, head) if wrap else (tail, at_end)
        return self.room_rows

    def _claim(self, rows: int) -> int:
        place = self.room_row
        if self.span and place != self.span[-1] + 1:
            self.span += range(self.span[-1] + 1, self.ring_rows)
        self.span += range(place, place + rows)
        self.busy |= set(range(place, place + rows))
        self.room_rows = 0
        return place

    def _release(self, place: int, rows: int) -> None:
        if place >= 0:
            self.busy -= set(range(place, place + rows))
        while self.span and self.span[0] not in self.busy:
            del self.span[0]

    # -- requests -----------------------------------------------------------------------------------------

    def commit(self, rows: int, deadline_ns: int, now_ns: int) -> int:
        if not 1 <= rows <= self.room_rows:
            raise ValueError(rows)
        if self._full(rows):
            return -1
        return self._add(rows, deadline_ns, now_ns, self._claim(rows))

    def push(self, rows: int, deadline_ns: int, now_ns: int) -> int:
        if rows < 1:
            raise ValueError(rows)
        return -1 if self._full(rows) else self._add(rows, deadline_ns, now_ns, -1)

    def _full(self, rows: int) -> bool:
        return bool(self.waiting) and self.waiting_rows + rows > self.max_queue_rows

    def _add(self, rows: int, deadline_ns: int, now_ns: int, place: int) -> int:
        self.waiting.append(TwinRequest(self.tokens, rows, deadline_ns, now_ns, place))
        self.tokens += 1
        return self.tokens - 1

    def cancel(self, token: int) -> bool:
        for request in self.waiting:
            if request.token == token:
                self._drop(request)
                return True
        return False

    def _drop(self, request: TwinRequest) -> None:
        self.waiting.remove(request)
        self._release(request.place + request.offset if request.place >= 0 else -1, request.left)

    def _in_order(self) -> list[TwinRequest]:
        return sorted(self.waiting, key=lambda request: (request.deadline_ns, request.token))

    def expire(self, now_ns: int) -> list[int]:
        gone = [r for r in self._in_order() if r.deadline_ns <= now_ns and r.deadline_ns != NO_DEADLINE]
        for request in gone:
            self._drop(request)
        return [request.token for request in gone]

    # -- batches ------------------------------------------------------------------------------------------

    def take(self, now_ns: int, row_ns: float = 0.0, base_ns: float = 0.0) -> TwinBatch | None:
        if not self.waiting:
            return None

        def late(rows: int, runs: int, deadline_ns: int) -> bool:
            # Python compares int with float exactly, as the compiled queue must.
            took_ns = base_ns * float(runs) + row_ns * float(rows)
            return deadline_ns != NO_DEADLINE and took_ns > deadline_ns - now_ns

        batch = TwinBatch()
        earliest_ns = NO_DEADLINE
        for request in self._in_order():
            free = self.max_batch_rows - batch.rows
            if free == 0 or (self.max_batch_requests and len(batch.parts) == self.max_batch_requests):
                break
            passed = request.deadline_ns <= now_ns and request.deadline_ns != NO_DEADLINE
            if passed or late(request.left, -(-request.left // self.max_batch_rows), request.deadline_ns):
                batch.expired.append(request.token)
                self._drop(request)
                continue
            rows = min(request.left, free)
            if batch.parts and request.left > free and request.left <= self.max_batch_rows:
                break
            if batch.parts and late(batch.rows + rows, 1, earliest_ns):
                break
            earliest_ns = min(earliest_ns, request.deadline_ns)
            self._run(batch, request, rows, now_ns)
        self.running.append(batch)
        return batch

    def _run(self, batch: TwinBatch, request: TwinRequest, rows: int, now_ns: int) -> None:
        place = request.place + request.offset if request.place >= 0 else -1
        batch.parts.append((request.token, request.offset, rows, place))
        batch.deadlines_ns.append(request.deadline_ns)
        request.offset += rows
        if request.left == 0:
            batch.last_parts += 1
            batch.waited_ns += max(0, now_ns - request.arrival_ns)
            self.waiting.remove(request)

    def finish(self, batch: TwinBatch) -> None:
        if not batch.running or not any(batch is running for running in self.running):
            raise ValueError(batch)
        batch.running = False
        self.running = [running for running in self.running if running is not batch]
        for _, _, rows, place in batch.parts:
            self._release(place, rows)
