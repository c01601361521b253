"""Real servers that send their spans to a real receiver, to one that is away, and to one that never answers."""

import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.servers import Answer, Server, drain, free_port
from tests.tracing.conftest import Traced
from tests.tracing.receiver import Receiver, Seen, receiving

SERVER = 2
INFER = "/v2/models/scaled/infer"
ASK = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}]}
ROUTE = "POST /v2/models/{model}/infer"


def new_trace() -> str:
    return os.urandom(16).hex()


def ask(server: Server, parent: str, path: str = INFER, body: Any = ASK, **headers: str) -> Answer:
    return server.request("POST", path, body, {"traceparent": parent, **headers})


def in_trace(trace: str, name: str | None = None) -> Any:
    return lambda span: span.trace == trace and name in (None, span.name)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as up:
        yield up


@pytest.fixture(scope="module")
def server(traced: Traced, receiver: Receiver) -> Iterator[Server]:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_SERVICE_NAME": "flights",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
    }
    with traced(variables) as up:
        yield up


def test_a_request_is_a_span_in_the_trace_of_its_client(server: Server, receiver: Receiver) -> None:
    trace, parent = new_trace(), "00f067aa0ba902b7"
    answer = ask(server, f"00-{trace}-{parent}-01", tracestate="rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert answer.status == 200
    assert answer.json()["outputs"][0]["data"] == [2.0, 4.0, 6.0]
    (span,) = receiver.wait(in_trace(trace, ROUTE))
    assert (span.kind, span.parent, span.error) == (SERVER, parent, None)
    assert span.state == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "url.path": INFER,
        "url.scheme": "http",
    }
    assert answer.header("traceparent") == f"00-{trace}-{span.span}-01"
    assert span.resource["service.name"] == "flights"
    assert span.resource["deployment.environment.name"] == "test"
    assert receiver.paths == {"/v1/traces"}


def test_queue_batch_and_run_hang_together(server: Server, receiver: Receiver) -> None:
    trace = new_trace()
    assert ask(server, f"00-{trace}-00f067aa0ba902b7-01").status == 200
    spans = {span.name: span for span in receiver.wait(in_trace(trace), 2)}
    request, queue = spans[ROUTE], spans["queue"]
    assert queue.parent == request.span
    assert queue.attributes == {"fastserve.model": "scaled", "fastserve.version": "1"}
    ((batch_trace, batch_span),) = queue.links
    batch, run = sorted(receiver.wait(in_trace(batch_trace), 2), key=lambda span: span.name)
    assert (batch.name, batch.span, batch.parent) == ("batch", batch_span, "")
    assert batch.links == [(trace, request.span)]
    assert batch.attributes == {
        "fastserve.model": "scaled",
        "fastserve.version": "1",
        "fastserve.batch.rows": 1,
        "fastserve.batch.requests": 1,
    }
    assert (run.name, run.parent, run.error) == ("run", batch.span, None)
    assert request.start_ns <= queue.start_ns <= queue.end_ns == batch.start_ns == run.start_ns
    assert run.start_ns < run.end_ns <= batch.end_ns <= request.end_ns


def test_a_request_without_context_begins_a_trace(server: Server, receiver: Receiver) -> None:
    answer = server.request("POST", INFER, ASK)
    match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[13]", answer.header("traceparent") or "")
    assert match
    (span,) = receiver.wait(in_trace(match[1], ROUTE))
    assert (span.span, span.parent) == (match[2], "")


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "garbage",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz",
        "\xff\xfe",
        "00-" * 3000,
    ],
    ids=lambda text: text[:60].encode("unicode_escape").decode(),
)
def test_a_malformed_traceparent_is_ignored(server: Server, parent: str) -> None:
    answer = ask(server, parent, tracestate="=,;=" * 50)
    assert answer.status == 200
    assert "4bf92f3577b34da6a3ce929d0e0e4736" not in (answer.header("traceparent") or "")
    assert (answer.header("traceparent") or "").endswith(("-01", "-03"))


def test_two_traceparents_are_none(server: Server) -> None:
    one, other = (f"traceparent: 00-{new_trace()}-00f067aa0ba902b7-01\r\n" for _ in range(2))
    body = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'
    head = f"POST {INFER} HTTP/1.1\r\nhost: t\r\n{one}{other}connection: close\r\ncontent-length: {len(body)}\r\n"
    with server.connect() as raw:
        raw.sendall(head.encode() + b"\r\n" + body)
        answer = drain(raw)
    assert answer.startswith(b"HTTP/1.1 200")
    assert one[16:48].encode() not in answer and other[16:48].encode() not in answer


def test_who_is_not_sampled_leaves_no_spans(server: Server, receiver: Receiver) -> None:
    silent, loud = new_trace(), new_trace()
    answer = ask(server, f"00-{silent}-00f067aa0ba902b7-00")
    assert answer.status == 200
    assert re.fullmatch(f"00-{silent}-[0-9a-f]{{16}}-00", answer.header("traceparent") or "")
    assert ask(server, f"00-{loud}-00f067aa0ba902b7-01").status == 200
    receiver.wait(in_trace(loud), 2)
    assert not [span for span in receiver.spans if span.trace == silent]
    assert not [span for span in receiver.spans if silent in dict(span.links)]


def test_v1_has_its_own_route(server: Server, receiver: Receiver) -> None:
    trace = new_trace()
    body = {"instances": [[1.0, 2.0, 3.0]]}
    path = "/v1/models/scaled/versions/1:predict"
    assert ask(server, f"00-{trace}-00f067aa0ba902b7-01", path, body).status == 200
    names = {span.name for span in receiver.wait(in_trace(trace), 2)}
    assert names == {"POST /v1/models/{model}/versions/{version}:predict", "queue"}


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/v2/models/nobody/infer", ASK, 404, None),
        (INFER, b"{", 400, None),
        (
            "/v2/models/picky/infer",
            {"inputs": [{"name": "row", "shape": [1, 1], "datatype": "INT64", "data": [9]}]},
            500,
            "500",
        ),
    ],
)
def test_errors_of_the_server_alone_are_errors_of_the_span(
    server: Server, receiver: Receiver, path: str, body: Any, status: int, error: str | None
) -> None:
    trace = new_trace()
    assert ask(server, f"00-{trace}-00f067aa0ba902b7-01", path, body).status == status
    (span,) = receiver.wait(lambda span: span.trace == trace and span.name.startswith("POST"))
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("error.type") == error
    assert (span.error is None) == (error is None)


def test_a_failed_run_says_why(server: Server, receiver: Receiver) -> None:
    trace = new_trace()
    body = {"inputs": [{"name": "row", "shape": [1, 1], "datatype": "INT64", "data": [9]}]}
    assert ask(server, f"00-{trace}-00f067aa0ba902b7-01", "/v2/models/picky/infer", body).status == 500
    (queue,) = receiver.wait(in_trace(trace, "queue"))
    (run,) = receiver.wait(in_trace(queue.links[0][0], "run"))
    assert run.attributes["error.type"] == "ModelFailed"
    assert "the model failed" in (run.error or "")


def test_other_addresses_have_no_spans(server: Server) -> None:
    for path in ("/v2/health/ready", "/v2/models/scaled", "/healthz"):
        assert server.request("GET", path).header("traceparent") is None
    assert server.request("GET", INFER).header("traceparent") is None


def test_a_server_says_once_that_it_is_traced(server: Server) -> None:
    assert server.log.read_text().count("tracing is on") == 1


def test_the_batch_links_its_members_and_the_end_sends_what_is_left(traced: Traced) -> None:
    variables = {"OTEL_BSP_SCHEDULE_DELAY": "3600000", "OTEL_TRACES_SAMPLER": "parentbased_always_off"}
    sampled, silent = [new_trace() for _ in range(3)], new_trace()
    flags = {**dict.fromkeys(sampled, "01"), silent: "00"}
    batching = {"max_batch_rows": 4, "max_queue_delay_us": 10_000_000}
    with receiving() as receiver:
        variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        with traced(variables, batching=batching) as server, ThreadPoolExecutor(4) as pool:
            # The batch runs when it is full, and not before the fourth request is there.
            answers = pool.map(
                lambda trace: ask(server, f"00-{trace}-00f067aa0ba902b7-{flags[trace]}"), flags
            )
            assert [answer.status for answer in answers] == [200] * 4
            assert not receiver.spans
        spans = receiver.spans
    requests = {span.trace: span.span for span in spans if span.name == ROUTE}
    assert set(requests) == set(sampled)
    (batch,) = [span for span in spans if span.name == "batch"]
    assert sorted(batch.links) == sorted(requests.items())
    assert (batch.attributes["fastserve.batch.requests"], batch.attributes["fastserve.batch.rows"]) == (4, 4)
    queues: list[Seen] = [span for span in spans if span.name == "queue"]
    assert {span.trace: span.parent for span in queues} == requests
    assert all(span.links == [(batch.trace, batch.span)] for span in queues)
    assert len(spans) == 3 + 3 + 2
    assert spans[0].resource["service.name"] == "fastserve"


@pytest.mark.parametrize("listens", [False, True], ids=["away", "never answers"])
def test_a_receiver_that_is_not_there_holds_nothing_up(traced: Traced, listens: bool) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        if listens:
            deaf.listen(16)
        port = deaf.getsockname()[1] if listens else free_port()
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
            "OTEL_BSP_MAX_QUEUE_SIZE": "16",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
        }
        with traced(variables) as server:
            answers = [server.request("POST", INFER, ASK) for _ in range(50)]
        assert [answer.status for answer in answers] == [200] * 50
        assert server.process.returncode == 0
        assert "Traceback" not in server.log.read_text()


def test_the_sdk_can_be_disabled_from_outside(traced: Traced) -> None:
    with traced({"OTEL_SDK_DISABLED": "true"}) as server:
        answer = ask(server, f"00-{new_trace()}-00f067aa0ba902b7-01")
        assert answer.status == 200
        assert answer.header("traceparent") is None
        assert "OTEL_SDK_DISABLED turns it off" in server.log.read_text()
