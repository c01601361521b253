"""Depth without recursion against a reading character by character; errors that name the field."""

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve.errors import InvalidRequest
from fastserve.frontends.http.json_text import depth_exceeds, loads


def naive_depth(text: str) -> int:
    depth = deepest = 0
    inside = escaped = False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


@given(st.text(st.sampled_from('[]{}"\\a,')), st.integers(0, 8))
@example('"\\"[[[', 0)
@example('"[[["[', 0)
@example('"\\\\"[', 0)
@example('"[\\', 0)
def test_depth_equals_the_naive_reading(text: str, limit: int) -> None:
    assert depth_exceeds(text.encode(), limit) == (naive_depth(text) > limit)


def test_depth_is_kept_over_blocks() -> None:
    text = b"[" * 60 + b"1," * 2**20 + b"[" * 41
    assert depth_exceeds(text, 100)
    assert not depth_exceeds(text, 101)


def test_many_shallow_lists_are_not_deep() -> None:
    assert not depth_exceeds(b"[" + b"[1]," * 10_000 + b"[]]", 2)


def test_more_than_a_million_lists_are_refused_before_they_are_made() -> None:
    with pytest.raises(InvalidRequest, match="more than 1000000 lists"):
        loads(b"[" + b"[1]," * 1_000_000 + b"[1]]", 100)
    assert loads(b'"' + b"[" * 1_000_001 + b'"', 100) == "[" * 1_000_001


@pytest.mark.parametrize("text", ['"' + "\\" * 200_001, '"' + '\\"' * 100_000, '"a' * 100_001])
def test_unterminated_strings_take_linear_time(text: str) -> None:
    """Quadratic, this would take minutes."""
    depth_exceeds(text.encode() + b"[" * 101, 100)
    assert depth_exceeds(b"[" * 101 + text.encode(), 100)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_what_json_writes_is_read(value: object) -> None:
    assert loads(json.dumps(value).encode(), 100) == value


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (b'{"inputs":[{"data":[1,[2,NaN]]}]}', "inputs[0].data"),
        (b'{"inputs":[{"data":[1]},{"data":[-Infinity]}]}', "inputs[1].data"),
        (b'{"inputs":[{"data":[1e999]}]}', "inputs[0].data"),
        (b'{"instances":[{"distance":NaN}]}', "instances[0].distance"),
        (b"NaN", "body"),
        (b'{"inputs":[nan]}', "body"),
        (b'{"a":NaN,', "body"),
        (b'{"' + b"\\n" + b'":NaN}', "?"),
    ],
)
def test_numbers_that_json_has_not_are_found(text: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        loads(text, 100)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b'{"inputs":[{"data":[1,[2,NaN],NaN]}]}', "inputs[0].data: value 2 is NaN"),
        (b'{"inputs":[{"data":[1,2]},{"data":[-Infinity]}]}', "inputs[1].data: value 0 is -Infinity"),
        (b'{"inputs":[{"data":[1,-1e999]}]}', "inputs[0].data: value 1 is -1e999"),
        (b'{"instances":[[1,2],[3,1e999]]}', "instances[1][1] is 1e999"),
        (
            b'{"inputs":[{"data":[' + b"9" * 5_000 + b"]}]}",
            f"value 0 is {'9' * 40}…, which is out of the range",
        ),
    ],
)
def test_numbers_that_json_has_not_are_counted_to(text: bytes, place: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(place)):
        loads(text, 100)


def test_large_bodies_are_not_read_twice() -> None:
    with pytest.raises(InvalidRequest) as caught:
        loads(b'{"inputs":[{"data":[' + b"1," * 2**20 + b"NaN]}]}", 100)
    assert caught.value.field == "body"
