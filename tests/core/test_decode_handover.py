"""The request decoder by example: every way not to be plainly valid is handed over."""

from typing import Any

import numpy as np
import pytest

from fastserve_core.wire.decode import HAND_OVER, Envelope, RequestDecoder, RowBuffers
from tests.core.decode_case import DEEP, EMPTY, INTS, MIXED, STRINGS, X4, binary, decode, request, x4

GOOD = x4([1, 2, 3, 4]).decode()
DATA = '"data": [1, 2, 3, 4]'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (DATA, '"data": [1, 2, 3]'),
        (DATA, '"data": [1, 2, 3, 4, 5]'),
        (DATA, '"data": [[1, 2, 3, 4], [1, 2, 3, 4]]'),
        (DATA, '"data": [[[1, 2, 3, 4]]]'),
        (DATA, '"data": [[1, 2], [3, 4]]'),
        (DATA, '"data": [[1, 2, 3], 4]'),
        (DATA, '"data": [1, 2, 3, [4]]'),
        (DATA, '"data": []'),
        (DATA, '"data": {}'),
        (DATA, '"data": 1'),
        (DATA, '"data": [1, 2, 3, NaN]'),
        (DATA, '"data": [1, 2, 3, Infinity]'),
        (DATA, '"data": [1, 2, 3, 1e39]'),
        (DATA, '"data": [1, 2, 3, true]'),
        (DATA, '"data": [1, 2, 3, "4"]'),
        (DATA, '"data": [1, 2, 3, 4,]'),
        (DATA, '"data": ' + "[" * 200 + "1" + "]" * 200),
        (DATA, DATA + ", " + DATA),
        (DATA, DATA + ', "parameters": {"binary_data_size": 16}'),
        (DATA, '"parameters": {"binary_data_size": 16}, ' + DATA),
        (DATA, DATA + ', "parameters": {"other": null}'),
        (DATA, DATA + ', "parameters": {"other": "\u00e9"}'),
        (DATA, DATA + ', "other": 1'),
        (", " + DATA, ""),
        ('"datatype": "FP32", ', ""),
        ('"shape": [1, 4], ', ""),
        ('"name": "x", ', ""),
        ('"name": "x"', '"name": "y"'),
        ('"name": "x"', '"name": "xx"'),
        ('"name": "x"', '"name": "\\u0078"'),
        ('"name": "x"', '"name": "x", "name": "x"'),
        ('"name"', '"n\\u0061me"'),
        ("FP32", "FP64"),
        ("FP32", "fp32"),
        ("FP32", ""),
        ("[1, 4]", "[1, 4, 1]"),
        ("[1, 4]", "[4]"),
        ("[1, 4]", "[1, 5]"),
        ("[1, 4]", "[2, 4]"),
        ("[1, 4]", "[0, 4]"),
        ("[1, 4]", "[-1, 4]"),
        ("[1, 4]", "[1, -4]"),
        ("[1, 4]", "[01, 4]"),
        ("[1, 4]", "[1.0, 4]"),
        ("[1, 4]", "[1e0, 4]"),
        ("[1, 4]", '["1", 4]'),
        ("[1, 4]", "[[1], 4]"),
        ("[1, 4]", "[1, 4611686018427387905]"),
        ("[1, 4]", "[1, 18446744073709551620]"),
        ("[1, 4]", "[]"),
        ("[1, 4]", "4"),
        ('{"inputs"', '{"id": 1, "inputs"'),
        ('{"inputs"', '{"id": null, "inputs"'),
        ('{"inputs"', '{"id": "é", "inputs"'),
        ('{"inputs"', '{"id": "a\\n", "inputs"'),
        ('{"inputs"', '{"id": "a\x7f", "inputs"'),
        ('{"inputs"', '{"id": "a", "id": "a", "inputs"'),
        ('{"inputs"', '{"parameters": {"timeout": -1}, "inputs"'),
        ('{"inputs"', '{"parameters": {"timeout": 1.5}, "inputs"'),
        ('{"inputs"', '{"parameters": {"timeout": "1"}, "inputs"'),
        ('{"inputs"', '{"parameters": {"timeout": 9223372036854775808}, "inputs"'),
        ('{"inputs"', '{"parameters": {"timeout": 1, "timeout": 1}, "inputs"'),
        ('{"inputs"', '{"parameters": {"binary_data_output": 1}, "inputs"'),
        ('{"inputs"', '{"parameters": {"priority": -1}, "inputs"'),
        ('{"inputs"', '{"parameters": {"priority": 1.5}, "inputs"'),
        ('{"inputs"', '{"parameters": {"headers": {}}, "inputs"'),
        ('{"inputs"', '{"parameters": {"\u00e9": 1}, "inputs"'),
        ('{"inputs"', '{"parameters": {"sequence_id": 1}, "inputs"'),
        ('{"inputs"', '{"parameters": {"shared_memory_region": "a"}, "inputs"'),
        ('{"inputs"', '{"parameters": null, "inputs"'),
        ('{"inputs"', '{"outputs": [{"name": "z"}], "inputs"'),
        ('{"inputs"', '{"outputs": [{"name": "p"}, {"name": "p"}], "inputs"'),
        ('{"inputs"', '{"outputs": [{}], "inputs"'),
        ('{"inputs"', '{"outputs": [{"name": "p", "parameters": {"binary_data": 1}}], "inputs"'),
        ('{"inputs"', '{"outputs": [{"name": "p", "parameters": {"classification": 1}}], "inputs"'),
        ('{"inputs"', '{"outputs": null, "inputs"'),
        ('{"inputs"', '{"other": 1, "inputs"'),
        ('{"inputs"', '{"inputs": [], "inputs"'),
        ('{"inputs"', '{,"inputs"'),
        ('{"inputs"', '\ufeff{"inputs"'),
        ('{"inputs"', 'x{"inputs"'),
        ("}]}", "}]},"),
        ("}]}", "}]}x"),
        ("}]}", "}]}\0"),
        ("}]}", "}]"),
        ("}]}", "},]}"),
        ("}]}", "}],}"),
        ("}]}", ",}]}"),
        (", ", ",\x0b"),
        (", ", ",\xa0"),
        (", ", "; "),
        (": ", " = "),
        ('"', "'"),
    ],
)
def test_a_change_that_makes_it_another_request(old: str, new: str) -> None:
    assert old in GOOD
    assert decode(X4, GOOD.replace(old, new, 1).encode()).code == HAND_OVER


def test_a_truncated_body_at_every_byte() -> None:
    body = x4([0.123456789, -1.5e3, 12345678901234567890, 1], id="x", parameters={"timeout": 1})
    assert decode(X4, body).code == 1
    for stop in range(len(body)):
        assert decode(X4, body[:stop], around=(b"", body[stop:])).code == HAND_OVER


def test_a_json_length_that_lies() -> None:
    body, length = binary(("x", "FP32", [2, 4], np.arange(8, dtype=np.float32).tobytes()))
    assert decode(X4, body, length).code == 2
    assert decode(X4, body + b"\0", length).code == HAND_OVER
    for lie in {*range(-3, len(body) + 3)} - {length, 0}:
        assert decode(X4, body, lie).code == HAND_OVER


@pytest.mark.parametrize("size", [0, 1, 15, 17, 32, 2**31, 2**63 - 1, 2**63, 2**64, -16])
def test_a_binary_size_that_lies(size: int) -> None:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    body = request(tensor)
    assert decode(X4, body + bytes(16), len(body)).code == HAND_OVER


def test_wrong_binary_elements() -> None:
    other = [("b", "INT64", [1, 2], bytes(16)), ("c", "FP16", [1, 1], bytes(2))]
    for data, good in ((b"\0\1", True), (b"\0\2", False), (b"\xff\0", False)):
        assert (decode(MIXED, *binary(("a", "BOOL", [1, 2], data), *other)).code == 1) is good
    x = ("x", "FP32", [1, 1], bytes(4))
    for text in (
        b"",
        bytes(7),
        bytes(9),
        bytes(12),
        b"\xff" * 8,
        b"\1\0\0\0\xff\0\0\0\0",
        b"\3\0\0\0ab" + bytes(4),
    ):
        assert decode(STRINGS, *binary(("s", "BYTES", [1, 2], text), x)).code == HAND_OVER
    assert decode(STRINGS, *binary(("s", "BYTES", [1, 2], bytes(8)), x)).code == 1


@pytest.mark.parametrize(
    "string",
    [
        '"\\a"',
        '"\\u004"',
        '"\\u00g1"',
        '"\\u 041"',
        '"\\u+041"',
        '"\\U0041"',
        '"\\x41"',
        '"\\ud800"',
        '"\\udc00"',
        '"\\ud800\\ud800"',
        '"\\udc00\\ud800"',
        '"\\ud800x\\udc00"',
        '"\\ud83d\\n"',
        '"\\ud83d\\u"',
        '"\\ud83d\\ude0"',
        '"\\\n"',
        '"a\nb"',
        '"a\nb, and more than eight"',
        '"\\"',
        '"a',
        "a",
        "1",
        "null",
        '"a" "b"',
        "[]",
    ],
)
def test_wrong_strings(string: str) -> None:
    body = b'{"inputs":[{"name":"s","shape":[1,2],"datatype":"BYTES","data":["x",%b]},' % string.encode()
    assert (
        decode(STRINGS, body + b'{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}').code == HAND_OVER
    )


@pytest.mark.parametrize(
    "string",
    [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xc3\\n", b"\\u00e9\xa9"],
)
def test_strings_that_are_not_utf8(string: bytes) -> None:
    body = b'{"inputs":[{"name":"s","shape":[1,2],"datatype":"BYTES","data":["x","%b"]},' % string
    assert (
        decode(STRINGS, body + b'{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}').code == HAND_OVER
    )


def test_missing_repeated_and_unequal_inputs() -> None:
    x = {"name": "x", "shape": [1, 2, 3], "datatype": "INT8", "data": [1] * 6}
    y = {"name": "y", "shape": [1], "datatype": "UINT64", "data": [1]}
    two = {"name": "y", "shape": [2], "datatype": "UINT64", "data": [1, 2]}
    assert decode(INTS, request(x, y)).code == 1
    for tensors in ([], [x], [y], [x, x], [x, y, x], [x, y, y], [x, two], [two, x]):
        assert decode(INTS, request(*tensors)).code == HAND_OVER


def test_half_precision_comes_in_binary_only() -> None:
    data: list[Any] = [True, False]
    a = {"name": "a", "shape": [1, 2], "datatype": "BOOL", "data": data}
    b = {"name": "b", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}
    c = {"name": "c", "shape": [1, 1], "datatype": "FP16", "data": [1]}
    assert decode(MIXED, request(a, b, c)).code == HAND_OVER


def test_raw_binary_requests_that_do_not_fit() -> None:
    for size in (1, 15, 17, 31):
        assert decode(X4, bytes(size), 0).code == HAND_OVER
    for inputs in (INTS, STRINGS, MIXED, DEEP, EMPTY):
        assert decode(inputs, bytes(48), 0).code == HAND_OVER
    assert decode(X4, b"", 0).code == HAND_OVER
    assert decode([("x", "BOOL", (2,))], b"\0\1", 0).code == 1
    assert decode([("x", "BOOL", (2,))], b"\0\2", 0).code == HAND_OVER


def test_more_lists_and_levels_than_are_read_here() -> None:
    """The ordinary path bounds those of a whole document."""
    cases: list[tuple[int, tuple[int, ...], bool]] = [
        (65_536, (1,), True),
        (65_537, (1,), False),
        (21_845, (2, 1), True),
        (21_846, (2, 1), False),
        (1, (1,) * 31, True),
        (1, (1,) * 32, False),
    ]
    for rows, dims, good in cases:
        array = np.zeros((rows, *dims), np.uint8)
        body = request({"name": "x", "shape": [rows, *dims], "datatype": "UINT8", "data": array.tolist()})
        decoder, buffers = RequestDecoder([("x", "UINT8", dims)], []), RowBuffers([array])
        code = decoder.decode(body, 0, -1, len(body), buffers, 0, rows, Envelope())
        assert code == (rows if good else HAND_OVER)
