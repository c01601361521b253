"""Depth without recursion against a reading character by character; errors that name the field."""

import json
import math
import re
import timeit
import tracemalloc
from time import process_time
from unittest.mock import patch

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastserve.errors import InvalidRequest
from fastserve.frontends.http import json_text
from fastserve.frontends.http.json_text import loads, nesting


def naive_nesting(text: str) -> tuple[int, int]:
    count = depth = deepest = 0
    inside = escaped = False
    for character in text:
        if character == '"' and not escaped:
            inside = not inside
        elif character in "[{" and not inside:
            count += 1
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}" and not inside:
            depth -= 1
        escaped = character == "\\" and not escaped
    return count, deepest


@given(st.text(st.sampled_from('[]{}"\\a,')), st.integers(1, 9))
@example('"\\"[[[', 3)
@example('"[[["[', 3)
@example('"\\\\"[', 2)
@example('"[\\', 2)
def test_nesting_equals_the_naive_reading(text: str, block_bytes: int) -> None:
    with patch.object(json_text, "_BLOCK_BYTES", block_bytes):
        assert nesting(text.encode()) == naive_nesting(text)


def test_depth_is_kept_over_blocks() -> None:
    assert nesting(b"[" * 60 + b"1," * 2**20 + b"[" * 41) == (101, 101)


def test_many_shallow_lists_are_not_deep() -> None:
    assert nesting(b"[" + b"[1]," * 10_000 + b"[]]") == (10_002, 2)


numbers = st.sampled_from(["-0", "-0.5", "-0e1", "1e-0", "1E-0", "0", "10"])


@given(st.lists(numbers | st.text('-0"\\ é').map(json.dumps)), st.integers(1, 9))
def test_minus_zeros_outside_strings_get_a_fraction(tokens: list[str], block_bytes: int) -> None:
    expected = ["-0.0" if token == "-0" else token for token in tokens]
    with patch.object(json_text, "_BLOCK_BYTES", block_bytes):
        assert json_text._with_fractions(",".join(tokens).encode()).decode() == ",".join(expected)


@pytest.mark.parametrize("zeros", [0, 329, 330, 714, 715, 716, 4_000])
@pytest.mark.parametrize("form", ["{}", "-{}", "{}e-300", "{}E+5", "{}e+999", "-1{}"])
def test_long_numbers_outside_strings_are_the_nearest_double(form: str, zeros: int) -> None:
    """Half-way between two doubles, with nothing behind it but zeros."""
    number = form.format(f"1.{5**53:053}" + "0" * zeros)
    strings = [number, "\\", f'"{number}', f"{number}\\"]
    texts = [number, *map(json.dumps, strings), number]
    if math.isinf(float(number)):
        with pytest.raises(InvalidRequest, match="out of the range of FP64"):
            loads(f"[{','.join(texts)}]".encode(), 100)
    else:
        assert loads(f"[{','.join(texts)}]".encode(), 100) == [float(number), *strings, float(number)]


@pytest.mark.parametrize("form", ["0{}", "{}.", "{}e", "{}a", "+{}", ".{}", "{}.5", "{}-", "a{}", '"{}'])
def test_long_numbers_that_are_none_stay_so(form: str) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        loads(f"[{form.format('1.5' + '0' * 900)}]".encode(), 100)


@pytest.mark.parametrize("value", [b"-0", b'""'])
def test_millions_of_values_take_little_more_memory_than_they_make(value: bytes) -> None:
    """As matches of a regular expression, they would take some 100 bytes each."""
    text = b"[[" + b"[]," * 100 + b"-0]," + b",".join([value] * 300_000) + b"]"
    tracemalloc.start()
    try:
        loads(text, 100)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_more_than_a_million_lists_are_refused_before_they_are_made() -> None:
    with pytest.raises(InvalidRequest, match="more than 1000000 lists"):
        loads(b"[" + b"[1]," * 999_999 + b"[1]]", 100)
    assert len(loads(b"[" + b"[1]," * 999_998 + b"[1]]", 100)) == 999_999
    assert loads(b'"' + b"[" * 1_000_001 + b'"', 100) == "[" * 1_000_001


def test_what_is_looked_for_beforehand_takes_little_longer_than_the_parser() -> None:
    """With a search that tries every byte for the start of a -0, and block by block, it was thirteen times as long."""
    rows = [[-0.1234567890123456] * 32] * 1024
    text = json.dumps({"instances": rows}).encode()
    whole = min(timeit.repeat(lambda: loads(text, 100), timer=process_time, number=1, repeat=9))
    assert whole < 6 * min(timeit.repeat(lambda: orjson.loads(text), timer=process_time, number=1, repeat=9))


@pytest.mark.parametrize("text", ['"' + "\\" * 200_001, '"' + '\\"' * 100_000, '"a' * 100_001])
def test_unterminated_strings_take_linear_time(text: str) -> None:
    """Quadratic, this would take minutes."""
    nesting(text.encode() + b"[" * 101)
    assert nesting(b"[" * 101 + text.encode())[1] == 101


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


def test_long_names_are_not_made_for_every_value() -> None:
    text = (b'{"%s":' % (b"k" * 64)) * 50 + b"[" + b"1," * 50_000 + b"NaN]" + b"}" * 50
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match="is NaN") as caught:
            loads(text, 100)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert caught.value.field == ".".join(["k" * 64] * 50) + "[50000]"


def test_large_bodies_are_not_read_twice() -> None:
    with pytest.raises(InvalidRequest) as caught:
        loads(b'{"inputs":[{"data":[' + b"1," * 2**20 + b"NaN]}]}", 100)
    assert caught.value.field == "body"
