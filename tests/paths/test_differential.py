"""Hypothesis sends the same bytes down both ways; byte for byte the same answer must come back."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from tests.paths.requests import any_request, good
from tests.paths.workers import Connection, post, status


class Pair:
    """A persistent connection to each of the two workers, opened again when a server closes it."""

    def __init__(self, both: SimpleNamespace) -> None:
        self.both = both
        self.open()

    def open(self) -> None:
        self.ways: list[Connection] = [self.both.fast.connect(), self.both.ordinary.connect()]

    def ask(self, request: bytes) -> tuple[bytes, bytes]:
        answers = [way.ask(request) for way in self.ways]
        if b"\r\nconnection: close\r\n" in answers[0]:
            self.close()
            self.open()
        return answers[0], answers[1]

    def close(self) -> None:
        for way in self.ways:
            way.raw.close()


@pytest.fixture(scope="module")
def pair(both: SimpleNamespace) -> Iterator[Pair]:
    pair = Pair(both)
    yield pair
    pair.close()


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@settings(max_examples=600, deadline=None, suppress_health_check=QUIET)
@given(request=any_request())
def test_any_request_is_answered_the_same(pair: Pair, request: bytes) -> None:
    fast, ordinary = pair.ask(request)
    assert fast == ordinary
    assert status(fast) in (200, 400, 404)


def test_good_requests_are_served_and_many_of_them_fast(pair: Pair) -> None:
    served = 0

    @settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
    @given(parts=good())
    def ask(parts: tuple[str, dict[str, Any], bytes]) -> None:
        nonlocal served
        model, document, tail = parts
        text = orjson.dumps(document)
        length = f"Inference-Header-Content-Length: {len(text)}"
        fast, ordinary = pair.ask(post(f"/v2/models/{model}/infer", text + tail, length))
        assert fast == ordinary
        assert status(fast) == 200, fast
        served += 1

    before = pair.both.fast.fast_requests
    ask()
    # Otherwise the comparison would be of the ordinary path with itself.
    assert pair.both.fast.fast_requests - before > served // 3
