"""The spans of batches, member by member, from a batcher over a puppet runtime."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fastserve.batching import BatchingOptions, LatencyModel, Target, TracedBatcher
from fastserve.clock import ManualClock
from fastserve.frontends.http.traced import TracedApp
from fastserve.tracing import exporting
from fastserve.tracing.exporting import Tracing
from fastserve.tracing.spans import BatchSpans
from fastserve.types import Array, DataType
from fastserve_core.batching import NO_DEADLINE
from tests.batching.puppet import PuppetRuntime, rows
from tests.http.asgi import Client


class Bench:
    """A traced batcher, what it exported, and requests with server spans of their own numbers."""

    def __init__(self, runtime: PuppetRuntime, executor: ThreadPoolExecutor, **settings: Any) -> None:
        self.memory = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.memory))
        self.clock = ManualClock(1_000_000)
        spans = BatchSpans(provider.get_tracer("test"), self.clock)
        row = [(DataType.FP32, (2,))]
        rows_limit = settings.pop("max_batch_rows", 8)
        target = Target("m", "1", runtime, row, rows_limit, LatencyModel(1_000.0, 1_000.0))
        options = BatchingOptions(inline_max_us=100_000, max_queue_rows=1_000, **settings)
        loop = asyncio.get_running_loop()
        self.batcher = TracedBatcher(spans, target, options, loop, executor, self.clock)

    def ask(self, number: int, *values: float, flags: int = 1) -> "asyncio.Task[list[Array]]":
        context = SpanContext(number, number, is_remote=False, trace_flags=TraceFlags(flags))
        token = attach(set_span_in_context(NonRecordingSpan(context)))
        try:
            return asyncio.ensure_future(self.batcher.infer(rows(*values), len(values), NO_DEADLINE))
        finally:
            detach(token)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.memory.get_finished_spans() if span.name == name]


def run(
    test: Callable[[Bench], Coroutine[Any, Any, None]], poison: float | None = None, **settings: Any
) -> Bench:
    async def inside() -> Bench:
        with ThreadPoolExecutor(1) as executor:
            bench = Bench(PuppetRuntime(poison), executor, **settings)
            await test(bench)
            await asyncio.sleep(0)
            return bench

    return asyncio.run(asyncio.wait_for(inside(), 30))


def trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.trace_id for link in span.links]


def test_every_member_is_linked_and_waited_in_its_own_trace() -> None:
    async def test(b: Bench) -> None:
        tasks = [b.ask(number, float(number)) for number in (1, 2, 3)]
        assert len(await asyncio.gather(*tasks)) == 3

    bench = run(test)
    (batch,), (one,) = bench.named("batch"), bench.named("run")
    assert linked(batch) == [1, 2, 3]
    assert batch.parent is None
    assert one.parent == batch.context
    queues = bench.named("queue")
    assert [trace_id(queue) for queue in queues] == [1, 2, 3]
    assert [queue.parent and queue.parent.span_id for queue in queues] == [1, 2, 3]


def test_a_split_request_waits_once_and_is_linked_by_every_batch() -> None:
    async def test(b: Bench) -> None:
        await b.ask(7, *(float(i) for i in range(20)))

    bench = run(test)
    assert [linked(batch) for batch in bench.named("batch")] == [[7], [7], [7]]
    assert [trace_id(queue) for queue in bench.named("queue")] == [7]
    assert [
        batch.attributes and batch.attributes["fastserve.batch.rows"] for batch in bench.named("batch")
    ] == [8, 8, 4]


def test_a_batch_without_sampled_members_is_not_traced() -> None:
    async def test(b: Bench) -> None:
        await asyncio.gather(b.ask(1, 1.0, flags=0), b.ask(2, 2.0, flags=0))
        assert not b.memory.get_finished_spans()
        await asyncio.gather(b.ask(1, 1.0, flags=0), b.ask(2, 2.0))

    bench = run(test)
    (batch,) = bench.named("batch")
    assert linked(batch) == [2]
    assert batch.attributes is not None and batch.attributes["fastserve.batch.requests"] == 2
    assert [trace_id(queue) for queue in bench.named("queue")] == [2]


def test_links_are_bounded_and_queues_are_not() -> None:
    async def test(b: Bench) -> None:
        await asyncio.gather(*(b.ask(number, 0.0) for number in range(1, 201)))

    bench = run(test, max_batch_rows=200)
    (batch,) = bench.named("batch")
    assert linked(batch) == list(range(1, 129))
    assert batch.attributes is not None and batch.attributes["fastserve.batch.requests"] == 200
    assert len(bench.named("queue")) == 200


def test_a_failed_batch_is_said_to_have_run_apart() -> None:
    async def test(b: Bench) -> None:
        good, bad = b.ask(1, 1.0), b.ask(2, 13.0)
        await asyncio.wait([good, bad])
        assert good.exception() is None and bad.exception() is not None

    bench = run(test, poison=13.0)
    (batch,), (one,) = bench.named("batch"), bench.named("run")
    assert linked(batch) == [1, 2]
    assert batch.attributes is not None and batch.attributes["fastserve.batch.apart"] is True
    assert one.status.status_code is StatusCode.ERROR
    assert one.status.description == "the model failed: poisoned"
    assert one.attributes is not None and one.attributes["error.type"] == "ModelFailed"


def test_times_are_those_of_the_batchers_clock() -> None:
    async def test(b: Bench) -> None:
        tasks = [b.ask(1, 1.0)]
        await asyncio.sleep(0)
        b.clock.advance(us=300)
        tasks.append(b.ask(2, 2.0))
        await asyncio.gather(*tasks)

    bench = run(test)
    waited = [(queue.end_time or 0) - (queue.start_time or 0) for queue in bench.named("queue")]
    assert waited == [300_000, 0]


def test_who_has_left_is_not_a_member() -> None:
    async def test(b: Bench) -> None:
        stays, leaves = b.ask(1, 1.0), b.ask(2, 2.0)
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.wait([leaves])
        assert not b.memory.get_finished_spans()
        b.clock.advance(ms=1)
        await stays

    bench = run(test, max_queue_delay_us=1_000)
    assert linked(bench.named("batch")[0]) == [1]


class _Stuck(SpanExporter):
    """An exporter whose receiver never answers, until the test lets go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.entered = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.let_go.wait()
        return SpanExportResult.FAILURE


def test_the_end_does_not_wait_for_a_stuck_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "FLUSH_S", 0.05)
    stuck = _Stuck()
    tracing = Tracing([stuck])
    for number in range(3_000):  # more than the queue takes
        tracing.tracer.start_span(f"s{number}").end()
    assert stuck.entered.wait(20)
    end = threading.Thread(target=tracing.close)
    end.start()
    end.join(10)
    waits = end.is_alive()
    sends = [thread.daemon for thread in threading.enumerate() if thread.name == "fastserve-spans"]
    stuck.let_go.set()
    end.join()
    assert not waits
    assert sends == [True], "it goes on for as long as the process does, and no longer"


@pytest.fixture(scope="module")
def hostile() -> Client:
    """The middleware over a route that answers whether it runs in a span."""

    async def answer(_: Request) -> Response:
        return Response(str(get_current_span().get_span_context().is_valid))

    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    paths = ("/v2/models/{model}/infer", "/v2/repository/index")
    routes = [Route(path, answer, methods=["GET", "POST"]) for path in paths]
    return Client(TracedApp(Starlette(routes=routes), tracer))


@pytest.mark.parametrize(
    ("method", "path", "traced"),
    [
        ("POST", "/v2/models/m/infer", True),
        ("GET", "/v2/models/m/infer", False),
        ("POST", "/v2/repository/index", False),
    ],
)
def test_only_what_asks_a_model_is_in_a_span(hostile: Client, method: str, path: str, traced: bool) -> None:
    answer = hostile.call(method, path)
    assert (answer.body.decode(), answer.header("traceparent") is not None) == (str(traced), traced)


def test_a_crash_is_named_and_its_answer_carries_the_span() -> None:
    async def crash(_: Request) -> Response:
        raise LookupError("x")

    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    app = Starlette(routes=[Route("/v1/models/{model}:predict", crash, methods=["POST"])])
    answer = Client(TracedApp(app, provider.get_tracer("test"))).post("/v1/models/m:predict")
    assert (answer.status, type(answer.raised)) == (500, LookupError)
    (span,) = memory.get_finished_spans()
    assert f"{trace_id(span):032x}" in (answer.header("traceparent") or "")
    assert span.attributes is not None and span.attributes["error.type"] == "LookupError"
    assert span.attributes["http.response.status_code"] == 500
    assert span.status.status_code is StatusCode.ERROR


def test_a_client_that_leaves_ends_its_span() -> None:
    async def wait(_: Request) -> Response:
        await asyncio.Event().wait()
        return Response()

    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    app = Starlette(routes=[Route("/v2/models/{model}/infer", wait, methods=["POST"])])
    client = Client(TracedApp(app, provider.get_tracer("test")))

    async def leave() -> None:
        request = asyncio.ensure_future(client._call("POST", "/v2/models/m/infer", [b""], {}, leaves=False))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        assert request.cancelled()

    asyncio.run(leave())
    (span,) = memory.get_finished_spans()
    assert span.attributes is not None and span.attributes["error.type"] == "CancelledError"
    assert "http.response.status_code" not in span.attributes


_hex = st.text("0123456789abcdefABCDEF-", max_size=80)
_text = st.text(st.characters(max_codepoint=255, blacklist_characters="\r\n\0"), max_size=600)


@given(parents=st.lists(_hex | _text, max_size=2), states=st.lists(_text, max_size=40))
def test_no_header_breaks_a_request(hostile: Client, parents: list[str], states: list[str]) -> None:
    headers = [("traceparent", value) for value in parents] + [("tracestate", value) for value in states]
    answer = hostile.call("POST", "/v2/models/m/infer", headers=headers)
    assert (answer.status, answer.body, answer.raised) == (200, b"True", None)


@given(state=st.lists(st.tuples(_text, _text), max_size=40))
def test_no_tracestate_breaks_a_good_parent(hostile: Client, state: list[tuple[str, str]]) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    text = ",".join(f"{key}={value}" for key, value in state)
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "tracestate": text}
    answer = hostile.call("POST", "/v2/models/m/infer", headers=headers)
    assert answer.status == 200
    assert (answer.header("traceparent") or "").startswith(f"00-{trace}-")
