"""The compiled lane with connections that are no sockets: what goes wrong with one of them is nobody else's."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from fastserve.errors import QueueFull
from fastserve_core.batching import NO_DEADLINE
from fastserve_core.lane import Exchange, Lane, Predict, Shared
from fastserve_core.wire.decode import RequestDecoder
from fastserve_core.wire.encode import ResponseEncoder
from tests.batching.bench import THREADED, Bench, asynchronous, bench
from tests.batching.puppet import PuppetRuntime


class Client:
    """A connection: what it was sent, and what the lane left to the ordinary path."""

    def __init__(self, b: Bench) -> None:
        lane = b.batcher.lane
        lane.open(RequestDecoder([("x", "FP32", (2,))], ["y"]), ResponseEncoder("m", "1", [("y", "FP32")]))
        routes: dict[bytes, Lane | Predict] = {
            b"/v2/models/m/infer": lane,
            b"/v1/models/m:predict": Predict(lane),
        }
        self.shared = Shared(routes, 2**20, 0)
        self.exchange = Exchange(self.shared, self, SimpleNamespace(default_headers=[]))
        self.answers: list[bytes] = []
        self.taken: list[bytes] = []
        self.errors: list[Exception] = []
        self.then: Callable[[], object] = lambda: None
        self.exchange.connect(self.answers.append)

    def send(self, *values: float | str, header: str = "") -> bytes:
        rows = [[value, value] for value in values]
        tensor = {"name": "x", "shape": [len(rows), 2], "datatype": "FP32", "data": rows}
        return self.post("/v2/models/m/infer", {"inputs": [tensor]}, header)

    def post(self, target: str, document: object, header: str = "") -> bytes:
        content = json.dumps(document).encode()
        head = f"POST {target} HTTP/1.1\r\nHost: t\r\n{header}Content-Length: {len(content)}\r\n\r\n"
        sent = head.encode() + content
        self.exchange.data_received(sent)
        return sent

    def take(self, data: bytes) -> None:
        self.taken.append(data)

    def answered(self) -> None:
        self.exchange.attention = False
        self.then()

    def last_words(self, response: bytes) -> bytes:
        return response

    def fail(self, error: Exception) -> None:
        self.errors.append(error)

    def compressed(self, response: bytes) -> bytes:
        return b"compressed"


def break_down() -> None:
    raise MemoryError


@asynchronous
async def test_a_connection_that_breaks_as_it_is_answered_leaves_the_others_their_answers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bench() as b:
        clients = [Client(b) for _ in range(3)]
        clients[1].exchange.attention, clients[1].then = True, break_down
        for value, client in enumerate(clients):
            client.send(value)
        await b.quiet()
        assert len(b.runtime.batches) == 1
        for value, client in enumerate(clients):
            (answer,) = client.answers
            assert answer.endswith(b'"data":[%.1f,%.1f]}]}' % (2 * value, 2 * value))
        assert b.batcher.lane.answered == 3 and "an answer could not be given" in caplog.text


@asynchronous
async def test_the_token_is_that_of_the_request_in_hand() -> None:
    """A full batch is answered before its last request is known to wait, and the next one may be in."""
    async with bench() as b:
        client = Client(b)
        client.exchange.attention, client.then = True, lambda: client.send(9.0)
        client.send(*range(8))
        assert len(client.answers) == 1 and list(b.batcher.lane.entries) == [client.exchange.token]
        await b.quiet()
        assert len(client.answers) == 2 and client.exchange.token == -1


@asynchronous
async def test_a_connection_is_idle_since_its_last_answer() -> None:
    async with bench() as b:
        client = Client(b)
        client.shared.now_s = 7.0
        client.send(1.0)
        await b.quiet()
        assert client.answers and client.exchange.since_s == 7.0


@pytest.mark.parametrize("poison", [None, 1.0])
@asynchronous
async def test_a_connection_that_is_closed_hears_nothing_more(poison: float | None) -> None:
    async with bench(PuppetRuntime(poison)) as b:
        client = Client(b)
        client.send(poison or 2.0)
        client.exchange.close()
        assert client.exchange.lane is None and client.exchange.token == -1
        await b.quiet()
        client.send(1.0)
        assert not (client.answers or client.errors or client.taken)


@asynchronous
async def test_only_who_asks_is_sent_a_compressed_answer() -> None:
    async with bench() as b:
        client = Client(b)
        for header in ("Accept-Encoding: gzip\r\n", ""):
            client.send(1.0, header=header)
            await b.quiet()
        assert [answer == b"compressed" for answer in client.answers] == [True, False]


@asynchronous
async def test_a_version_that_is_gone_leaves_the_request_to_the_ordinary_path() -> None:
    async with bench() as b:
        client = Client(b)
        b.batcher.free()
        assert [client.send(1.0)] == client.taken


@pytest.mark.parametrize("max_queue_rows", [2, 8], ids=["room is left", "no room is left"])
@asynchronous
async def test_who_finds_the_queue_full_is_told_at_once(max_queue_rows: int) -> None:
    async with bench(max_queue_rows=max_queue_rows, **THREADED) as b:
        first = await b.busy()
        waiting = [Client(b) for _ in range(max_queue_rows - 1)]
        for client in waiting:
            client.send(1.0)
        late = [Client(b) for _ in range(3)]
        late[0].send(2.0, 3.0)
        last = b.ask(1.0)  # waits where it is: the buffer has no room
        await asyncio.sleep(0)
        late[1].post("/v1/models/m:predict", {"instances": [[2.0, 2.0]]})
        late[2].post("/v1/models/m:predict", {"inputs": [[2.0, 2.0]]})
        for client in late:
            assert [type(error) for error in client.errors] == [QueueFull]
            assert not client.taken and not client.answers
        b.free()
        await asyncio.gather(first, last)
        await b.quiet()
        assert [len(client.answers) for client in waiting] == [1] * len(waiting)


@asynchronous
async def test_a_request_does_not_overtake_what_the_owner_holds() -> None:
    async with bench() as b:
        client = Client(b)
        client.exchange.partial = True
        assert [client.send(1.0)] == client.taken
        assert b.batcher.idle


@asynchronous
async def test_memory_of_rows_that_are_refused_in_the_middle_is_known() -> None:
    async with bench() as b:
        client = Client(b)
        for rows in (3, b.batcher.queue.ring_rows + 1):
            assert client.send(*[1.0] * (rows - 1), "x") == client.taken.pop()
            assert b.batcher.lane.high_row == min(rows, b.batcher.queue.ring_rows)


@asynchronous
async def test_rows_are_committed_within_the_room_only() -> None:
    async with bench() as b:
        lane = b.batcher.lane
        for wrong in (-1, 0, lane.queue.room() + 1):
            with pytest.raises(ValueError, match="commit of"):
                lane.commit(wrong, 0, NO_DEADLINE, None)
        assert b.batcher.idle


@asynchronous
async def test_a_deadline_is_never_before_its_time() -> None:
    async with bench(default_timeout_ms=2) as b:
        at = b.batcher.lane.deadline_ns
        assert [at(timeout_us, 5) for timeout_us in (-1, 0, 3)] == [2_000_005, 2_000_005, 3_005]
        longest_us = (2**63 - 1) // 1000
        for timeout_us in (longest_us - 1, longest_us, longest_us + 1, 2**64 // 1000 + 1, 2**63 - 1):
            assert at(timeout_us, 10**9) == NO_DEADLINE
    async with bench(default_timeout_ms=0) as b:
        assert b.batcher.lane.deadline_ns(0, 5) == NO_DEADLINE


def test_headers_are_those_of_the_list_that_is_given() -> None:
    shared = Shared({}, 0, 0)
    for date in (b"one", b"two"):
        assert (
            shared.default_headers([(b"date", date), (b"server", b"s")])
            == b"date: %s\r\nserver: s\r\n" % date
        )
