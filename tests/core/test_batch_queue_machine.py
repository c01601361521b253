"""The compiled batch queue against its plain twin: hypothesis drives both, every answer must be the same."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastserve_core.batching import NO_DEADLINE, Batch, BatchQueue
from tests.oracle.queue_twin import TwinBatch, TwinQueue

ATTRIBUTES = (
    "max_batch_rows",
    "ring_rows",
    "max_queue_rows",
    "max_batch_requests",
    "room_row",
    "waiting_rows",
    "waiting_requests",
    "running_rows",
    "next_deadline_ns",
    "oldest_arrival_ns",
)

COSTS = st.sampled_from([(0.0, 0.0), (0.0, 0.0), (1.0, 0.0), (0.75, 2.5), (3.0, 1.0), (0.0, 6.0)])
INDEX = st.integers(0, 10**6)


@dataclass
class Sent:
    """What the test knows of a request on its own."""

    twin_token: int
    rows: int
    deadline_ns: int
    ran: list[int] = field(default_factory=list)
    dropped: bool = False


class QueueMachine(RuleBasedStateMachine):
    """A caller with a ring of its own: it writes where it may and looks whether its rows are still there."""

    @initialize(
        max_batch_rows=st.integers(1, 6),
        more_ring_rows=st.integers(0, 14),
        max_queue_rows=st.integers(1, 30),
        max_batch_requests=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def begin(
        self, max_batch_rows: int, more_ring_rows: int, max_queue_rows: int, max_batch_requests: int
    ) -> None:
        sizes = (max_batch_rows, max_batch_rows + more_ring_rows, max_queue_rows, max_batch_requests)
        self.core = BatchQueue(*sizes)
        self.twin = TwinQueue(*sizes)
        self.now_ns = 1000
        self.offer = 0
        # What was written last to each ring row: (token, row of the request).
        self.memory: list[tuple[int, int] | None] = [None] * self.core.ring_rows
        self.sent: dict[int, Sent] = {}
        self.flying: list[tuple[Batch, TwinBatch]] = []
        self.most_live = 0

    # -- writing ------------------------------------------------------------------------------------------

    @rule()
    def ask_for_room(self) -> None:
        """Whoever is offered rows may scribble on all of them."""
        self.offer = self.core.room()
        assert self.offer == self.twin.room()
        self.scribble()

    @precondition(lambda self: self.offer > 0)
    @rule()
    def scribble(self) -> None:
        first = self.core.room_row
        self.memory[first : first + self.offer] = [None] * self.offer
        self.waiting_and_running_rows_are_intact()

    @precondition(lambda self: self.offer > 0)
    @rule(index=INDEX, deadline=st.one_of(st.none(), st.integers(-2, 30)), rising=st.booleans())
    def commit(self, index: int, deadline: int | None, rising: bool) -> None:
        rows = 1 + index % self.offer
        deadline_ns = self.deadline_ns(deadline, rising)
        place = self.core.room_row
        token = self.core.commit(rows, deadline_ns, self.now_ns)
        self.accept(token, self.twin.commit(rows, deadline_ns, self.now_ns), rows, deadline_ns)
        if token >= 0:
            self.memory[place : place + rows] = [(token, row) for row in range(rows)]
            self.offer = 0

    @rule(index=INDEX, deadline=st.one_of(st.none(), st.integers(-2, 30)), rising=st.booleans())
    def room_and_commit(self, index: int, deadline: int | None, rising: bool) -> None:
        self.ask_for_room()
        if self.offer:
            self.commit(index % min(self.offer, 4), deadline, rising)

    @rule(rows=st.integers(1, 15), deadline=st.one_of(st.none(), st.integers(-2, 30)), rising=st.booleans())
    def push(self, rows: int, deadline: int | None, rising: bool) -> None:
        deadline_ns = self.deadline_ns(deadline, rising)
        token = self.core.push(rows, deadline_ns, self.now_ns)
        self.accept(token, self.twin.push(rows, deadline_ns, self.now_ns), rows, deadline_ns)

    def deadline_ns(self, deadline: int | None, rising: bool) -> int:
        """Without `rising` deadlines come in any order, as the heap's share of the queue needs them."""
        if deadline is None:
            return NO_DEADLINE
        return self.now_ns + (20 if rising else deadline)

    def accept(self, token: int, twin_token: int, rows: int, deadline_ns: int) -> None:
        assert (token < 0) == (twin_token < 0)
        if token >= 0:
            assert token not in self.sent
            self.sent[token] = Sent(twin_token, rows, deadline_ns)

    # -- taking out ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.sent)
    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        token = list(self.sent)[-1 - index % min(len(self.sent), 12)]
        sent = self.sent[token]
        cancelled = self.core.cancel(token)
        assert cancelled == self.twin.cancel(sent.twin_token)
        if cancelled:
            self.drop([token])

    @rule(later_ns=st.integers(0, 12))
    def expire(self, later_ns: int) -> None:
        self.now_ns += later_ns
        expired = self.core.expire(self.now_ns)
        assert [self.sent[token].twin_token for token in expired] == self.twin.expire(self.now_ns)
        assert all(self.sent[token].deadline_ns <= self.now_ns for token in expired)
        self.drop(expired)

    def drop(self, tokens: list[int]) -> None:
        for token in tokens:
            assert not self.sent[token].dropped
            assert len(self.sent[token].ran) < self.sent[token].rows
            self.sent[token].dropped = True

    @rule(cost=COSTS, later_ns=st.integers(0, 6))
    def take(self, cost: tuple[float, float], later_ns: int) -> None:
        self.now_ns += later_ns
        batch = self.core.take(self.now_ns, *cost)
        twin = self.twin.take(self.now_ns, *cost)
        if batch is None or twin is None:
            assert batch is None
            assert twin is None
            return
        self.compare(batch, twin)
        self.drop(batch.expired)
        for token, offset, rows, _ in batch.parts:
            sent = self.sent[token]
            assert not sent.dropped
            assert self.now_ns < sent.deadline_ns
            assert offset == len(sent.ran)
            sent.ran += range(offset, offset + rows)
        order = [(self.sent[part[0]].deadline_ns, self.sent[part[0]].twin_token) for part in batch.parts]
        assert order == sorted(order)
        self.rows_are_intact(batch)
        self.flying.append((batch, twin))

    def compare(self, batch: Batch, twin: TwinBatch) -> None:
        renamed = [(self.sent[part[0]].twin_token, *part[1:]) for part in batch.parts]
        assert renamed == twin.parts
        assert [self.sent[token].twin_token for token in batch.expired] == twin.expired
        for name in ("deadlines_ns", "rows", "start", "queue_ns", "last_parts"):
            assert getattr(batch, name) == getattr(twin, name), name
        assert batch.rows <= self.core.max_batch_rows
        assert batch.parts or batch.expired

    @precondition(lambda self: self.flying)
    @rule(index=INDEX)
    def finish(self, index: int) -> None:
        batch, twin = self.flying.pop(index % len(self.flying))
        self.rows_are_intact(batch)
        self.core.finish(batch)
        self.twin.finish(twin)

    # -- what must always hold ----------------------------------------------------------------------------

    @invariant()
    def attributes_agree(self) -> None:
        for name in ATTRIBUTES:
            assert getattr(self.core, name) == getattr(self.twin, name), name

    @invariant()
    def bounds_hold(self) -> None:
        core = self.core
        assert core.waiting_rows <= core.max_queue_rows or core.waiting_requests == 1
        assert core.heap_entries <= 2 * core.waiting_requests
        running = {part[0] for batch, _ in self.flying for part in batch.parts}
        waiting = {t for t, sent in self.sent.items() if not sent.dropped and len(sent.ran) < sent.rows}
        self.most_live = max(self.most_live, len(running | waiting))
        assert core.slot_count <= self.most_live

    @invariant()
    def waiting_and_running_rows_are_intact(self) -> None:
        """No two live requests share a ring row: each finds what it wrote."""
        for request in self.twin.waiting:
            token = next(t for t, sent in self.sent.items() if sent.twin_token == request.token)
            if request.place >= 0:
                for row in range(request.offset, request.rows):
                    assert self.memory[request.place + row] == (token, row)
        for batch, _ in self.flying:
            self.rows_are_intact(batch)

    def rows_are_intact(self, batch: Batch) -> None:
        for token, offset, rows, place in batch.parts:
            for row in range(rows if place >= 0 else 0):
                assert self.memory[place + row] == (token, offset + row)
        if batch.start >= 0:
            rows_in_order = [
                (token, offset + row) for token, offset, rows, _ in batch.parts for row in range(rows)
            ]
            assert self.memory[batch.start : batch.start + batch.rows] == rows_in_order

    def teardown(self) -> None:
        """Every row has run exactly once, or its request was dropped; the ring is whole again."""
        if not hasattr(self, "core"):
            return
        while self.core.waiting_requests:
            self.take((0.0, 0.0), 0)
            self.finish(-1)
        while self.flying:
            self.finish(0)
        for sent in self.sent.values():
            expected = list(range(len(sent.ran) if sent.dropped else sent.rows))
            assert sent.ran == expected
        assert (self.core.waiting_rows, self.core.running_rows) == (0, 0)
        assert (self.core.room(), self.core.room_row) == (self.core.ring_rows, 0)


TestQueueMachine: Any = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
