"""The request decoder by example: what it accepts and how it treats the caller's memory."""

import gc
import json
import struct
import sys
import weakref
from typing import Any

import numpy as np
import pytest

from fastserve_core.wire.decode import HAND_OVER, NO_ROOM, Envelope, RequestDecoder, RowBuffers
from tests.core.decode_case import DEEP, INTS, MIXED, ROOM, STRINGS, X4, binary, decode, request, x4


def accepted(inputs: Any, body: bytes, json_length: int = -1) -> list[Any]:
    """The tensors as lists; the twin has agreed to them."""
    outcome = decode(inputs, body, json_length)
    assert outcome.code > 0, body
    return [tensor.tolist() for tensor in outcome.tensors]


# -- what is accepted ---------------------------------------------------------------------------------------


def test_flat_and_nested_data_are_the_same_tensor() -> None:
    expected = [[[1.0, 2.5, -300.0, 0.25], [5.0, 6.0, 7.0, 8.0]]]
    assert accepted(X4, x4([1, 2.5, -3e2, 0.25, 5, 6, 7, 8], 2)) == expected
    assert accepted(X4, x4([[1, 2.5, -3e2, 0.25], [5, 6, 7, 8]], 2)) == expected


def test_thousands_of_inputs_may_come_in_any_order() -> None:
    names = [f"feature_{i:04d}" for i in range(3_000)]
    decoder = RequestDecoder([(name, "FP32", (1,)) for name in names], ["y"])
    arrays = [np.zeros((1, 1), np.float32) for _ in names]
    buffers, envelope = RowBuffers(arrays), Envelope()
    order = np.random.default_rng(1)
    for places in (range(3_000), range(2_999, -1, -1), order.permutation(3_000).tolist()):
        tensors = [{"name": names[i], "shape": [1, 1], "datatype": "FP32", "data": [i]} for i in places]
        body = request(*tensors)
        for array in arrays:
            array[...] = -1
        assert decoder.decode(body, 0, -1, len(body), buffers, 0, 1, envelope) == 1
        assert [int(array[0, 0]) for array in arrays] == list(range(3_000))


def test_deep_nesting() -> None:
    body = request(
        {"name": "y", "shape": [2, 1], "datatype": "UINT16", "data": [[7], [8]]},
        {"name": "x", "shape": [2, 1, 1, 2], "datatype": "INT32", "data": [[[[1, 2]]], [[[3, 4]]]]},
    )
    assert accepted(DEEP, body) == [[[[[1, 2]]], [[[3, 4]]]], [[7], [8]]]


def test_parameters_that_mean_nothing_are_passed_over() -> None:
    """As MLServer's and KServe's clients send them."""
    other = {"content_type": "np", "priority": 1, "traced": False, "a": ""}
    x = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": other, "data": [1, 2, 3, 4]}
    outputs = [{"name": "p", "parameters": other}]
    assert accepted(X4, request(x, parameters=other, outputs=outputs)) == [[[1, 2, 3, 4]]]


def test_inputs_and_their_keys_come_in_any_order() -> None:
    tensors: list[dict[str, Any]] = [
        {
            "data": [[[1, 2, 3], [4, 5, 6]]],
            "shape": [1, 2, 3],
            "parameters": {},
            "datatype": "INT8",
            "name": "x",
        },
        {"datatype": "UINT64", "data": [2**64 - 1], "name": "y", "shape": [1]},
    ]
    for inputs in (tensors, tensors[::-1]):
        assert accepted(INTS, request(*inputs)) == [[[[1, 2, 3], [4, 5, 6]]], [2**64 - 1]]


@pytest.mark.parametrize("indent", [None, 0, 1, 7, "\t", " \r\n\t"])
def test_white_space_anywhere(indent: Any) -> None:
    document = json.loads(x4([[1, 2, 3, 4]] * 3, 3, id="a", parameters={"timeout": 1}))
    assert (
        accepted(X4, b"\n " + json.dumps(document, indent=indent).encode() + b" \r\n\t")[0]
        == [[1, 2, 3, 4]] * 3
    )


def test_every_datatype_in_binary() -> None:
    body, length = binary(
        ("b", "INT64", [2, 2], struct.pack("<4q", 1, -2, 3, -(2**63))),
        ("a", "BOOL", [2, 2], bytes([0, 1, 1, 0])),
        ("c", "FP16", [2, 1], struct.pack("<2e", 0.5, -2)),
    )
    expected = [[[False, True], [True, False]], [[1, -2], [3, -(2**63)]], [[0.5], [-2.0]]]
    assert accepted(MIXED, body, length) == expected


def test_binary_and_json_tensors_in_one_request() -> None:
    text = b"\x02\0\0\0hi\0\0\0\0\x03\0\0\0\xe2\x82\xac\x01\0\0\0x"
    x: dict[str, Any] = {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]}
    s = {"name": "s", "shape": [2, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(text)}}
    for tensors in ([s, x], [x, s]):
        body = request(*tensors)
        assert accepted(STRINGS, body + text, len(body)) == [[["hi", ""], ["€", "x"]], [[1.0], [2.0]]]


@pytest.mark.parametrize("order", ["name shape datatype data", "data datatype shape name"])
@pytest.mark.parametrize(
    "string",
    [
        r'"\"\\\/\b\f\n\r\t"',
        r'"\u0041\u00e9\u20AC\ud83d\ude00\uDBFF\uDFFF\u0000\ud7ff\ue000"',
        r'"bé€😀\n"',
        r'"ends with \\"',
        r'"[\"]"',
        '"' + r"\u0416" * 1000 + '"',
        '"' + "x" * 254 + r'\n"',
        '"' + "x" * 255 + r'\n"',
    ],
    ids=["short", "points", "mixed", "backslash", "quotes", "long", "256", "257"],
)
def test_strings_with_escapes(string: str, order: str) -> None:
    members = {"name": '"s"', "shape": "[1,2]", "datatype": '"BYTES"', "data": f'["x",{string}]'}
    s = ",".join(f'"{name}":{members[name]}' for name in order.split())
    x = '{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}'
    body = f'{{"inputs":[{{{s}}},{x}]}}'
    assert accepted(STRINGS, body.encode())[0] == [["x", json.loads(string)]]


def test_strings() -> None:
    strings = ["", "plain", "bé€😀", "x" * 1000, "\x7f", "[1,2]", "{", "a, b", "ends with ]", "1"]
    body = json.dumps(
        {
            "inputs": [
                {"data": strings, "name": "s", "shape": [5, 2], "datatype": "BYTES"},
                {"name": "x", "shape": [5, 1], "datatype": "FP32", "data": [0] * 5},
            ]
        },
        ensure_ascii=False,
    ).encode()
    assert [text for row in accepted(STRINGS, body)[0] for text in row] == strings


def test_raw_binary_request() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    outcome = decode(X4, rows.tobytes(), 0)
    assert outcome.code == 3
    assert outcome.tensors[0].tolist() == rows.tolist()
    assert outcome.envelope.selection == ((0, True), (1, True))


def test_the_envelope() -> None:
    outputs = [{"name": "q"}, {"name": "p", "parameters": {"binary_data": True}}]
    body = x4([1, 2, 3, 4], id="a b", parameters={"timeout": 250_000}, outputs=outputs)
    envelope = decode(X4, body).envelope
    assert (envelope.id_json, envelope.timeout_us, envelope.rows) == (b'"a b"', 250_000, 1)
    assert envelope.selection == ((1, False), (0, True))


@pytest.mark.parametrize(
    ("rest", "selection"),
    [
        ({}, None),
        ({"outputs": []}, None),
        ({"parameters": {"binary_data_output": False}}, None),
        ({"parameters": {"binary_data_output": True}}, ((0, True), (1, True))),
        ({"parameters": {"binary_data_output": True}, "outputs": []}, ((0, True), (1, True))),
        ({"outputs": [{"name": "q"}]}, ((1, False),)),
        (
            {"outputs": [{"name": "q", "parameters": {}}], "parameters": {"binary_data_output": True}},
            ((1, True),),
        ),
        (
            {
                "outputs": [{"name": "q"}, {"parameters": {"binary_data": False}, "name": "p"}],
                "parameters": {"binary_data_output": True},
            },
            ((1, True), (0, False)),
        ),
    ],
)
def test_selection(rest: dict[str, Any], selection: Any) -> None:
    before = x4([1, 2, 3, 4], **rest)
    after = json.dumps({**json.loads(x4([1, 2, 3, 4])), **rest}).encode()
    decoder = RequestDecoder(X4, ["p", "q"])
    for body in (before, after, before):
        assert decode(X4, body, decoder=decoder).envelope.selection == selection


def test_a_selection_is_never_that_of_the_request_before() -> None:
    decoder = RequestDecoder(X4, ["p", "q"])
    p, q = {"name": "p"}, {"name": "q"}
    for outputs, all_binary, selection in (
        ([q], False, ((1, False),)),
        ([q], True, ((1, True),)),
        ([q, p], True, ((1, True), (0, True))),
        ([q], True, ((1, True),)),
        ([p], True, ((0, True),)),
        ([p], False, ((0, False),)),
    ):
        body = x4([1, 2, 3, 4], outputs=outputs, parameters={"binary_data_output": all_binary})
        assert decode(X4, body, decoder=decoder).envelope.selection == selection


def test_an_envelope_forgets_the_request_before() -> None:
    decoder, buffers, envelope = (
        RequestDecoder(X4, ["p"]),
        RowBuffers([np.zeros((2, 4), np.float32)]),
        Envelope(),
    )
    assert (envelope.id_json, envelope.timeout_us, envelope.selection, envelope.rows) == (None, -1, None, 0)
    rest: dict[str, Any] = {"parameters": {"timeout": 3}, "outputs": [{"name": "p"}]}
    for body, expected in (
        (x4([1, 2, 3, 4], id="x", **rest), (b'"x"', 3, ((0, False),), 1)),
        (x4([1, 2, 3, 4], id=""), (None, -1, None, 1)),
        (b'{"id":"y"', (None, -1, None, 0)),
    ):
        decoder.decode(body, 0, -1, len(body), buffers, 0, 2, envelope)
        assert (envelope.id_json, envelope.timeout_us, envelope.selection, envelope.rows) == expected


# -- room and memory ----------------------------------------------------------------------------------------


def test_rows_up_to_the_room_and_not_beyond() -> None:
    for rows in (1, ROOM, ROOM + 1, 100):
        for data in ([0.5] * 4 * rows, [[0.5] * 4] * rows):
            outcome = decode(X4, x4(data, rows))
            assert outcome.code == (rows if rows <= ROOM else NO_ROOM)
            assert outcome.envelope.rows == rows
        body, length = binary(("x", "FP32", [rows, 4], bytes(16 * rows)))
        assert decode(X4, body, length).code == (rows if rows <= ROOM else NO_ROOM)
        assert decode(X4, bytes(16 * rows), 0).code == (rows if rows <= ROOM else NO_ROOM)
    assert decode(X4, x4([1, 2, 3, 4]), room=0).code == NO_ROOM


def test_without_room_nothing_is_written() -> None:
    array = np.zeros((8, 4), np.float32)
    decoder, envelope = RequestDecoder(X4, ["p"]), Envelope()
    for rows in (3, 10**17):
        body = x4([1] * 12, rows)
        assert decoder.decode(body, 0, -1, len(body), RowBuffers([array]), 2, 2, envelope) == NO_ROOM
        assert envelope.rows == rows
    assert not array.any()


def test_offsets_into_a_larger_body() -> None:
    body = x4([0.5, 1, 2, 3])
    for before in (b"", b"1", b"[[9999999999999999", b"}" * 100):
        for after in (b"", b"1", b"]}]}", b"9" * 100):
            assert decode(X4, body, around=(before, after)).tensors[0].tolist() == [[0.5, 1, 2, 3]]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_kinds_of_body(kind: Any) -> None:
    body = kind(x4([0.5, 1, 2, 3]))
    array = np.zeros((1, 4), np.float32)
    size = len(body)
    assert RequestDecoder(X4, []).decode(body, 0, -1, size, RowBuffers([array]), 0, 1, Envelope()) == 1
    assert array.tolist() == [[0.5, 1, 2, 3]]


def test_offsets_and_rows_outside_are_the_callers_mistake() -> None:
    decoder, buffers, envelope = (
        RequestDecoder(X4, []),
        RowBuffers([np.zeros((4, 4), np.float32)]),
        Envelope(),
    )
    body = x4([1, 2, 3, 4])
    size = len(body)
    for start, stop in ((-1, size), (0, size + 1), (5, 4), (size + 1, size + 1)):
        with pytest.raises(ValueError, match="outside the body"):
            decoder.decode(body, start, -1, stop, buffers, 0, 1, envelope)
    for row, room in ((-1, 1), (0, -1), (4, 1), (0, 5), (2**62, 1), (1, 2**63 - 1)):
        with pytest.raises(ValueError, match="outside the buffers"):
            decoder.decode(body, 0, -1, size, buffers, row, room, envelope)
    arrays: list[list[Any]] = [
        [np.zeros((4, 5), np.float32)],
        [np.zeros((4, 4), np.int32)],
        [np.zeros((4, 4), np.float32)] * 2,
    ]
    for wrong in arrays:
        with pytest.raises(ValueError, match="do not belong"):
            decoder.decode(body, 0, -1, size, RowBuffers(wrong), 0, 1, envelope)
    with pytest.raises(TypeError):
        decoder.decode("text", 0, -1, 4, buffers, 0, 1, envelope)  # type: ignore[arg-type]


def test_signatures_and_arrays_that_make_no_sense() -> None:
    for inputs in (
        [],
        [("x", "FP8", (1,))],
        [("x", "FP32", (-1,))],
        [("x", "FP64", (2**61,))],
        [("x", "FP32", (2**40, 2**40))],
    ):
        with pytest.raises(ValueError, match=r"."):
            RequestDecoder(inputs, [])
    with pytest.raises(ValueError, match="differ"):
        RequestDecoder([("x", "FP32", (1,))] * 2, [])
    read_only = np.zeros((2, 2), np.float32)
    read_only.flags.writeable = False
    arrays: list[list[Any]] = [
        [],
        [np.zeros((2, 4), np.float32)[:, ::2]],
        [read_only],
        [np.zeros((2, 2), ">f4")],
        [np.zeros((2, 2), np.complex64)],
        [np.zeros(2, np.int8), np.zeros(3, np.int8)],
        [np.array(1.0)],
    ]
    for wrong in arrays:
        with pytest.raises(ValueError, match=r"arrays|array"):
            RowBuffers(wrong)


def test_strings_are_owned_once_and_old_elements_are_let_go() -> None:
    class Old:
        """Something that can be watched."""

    array = np.empty((2, 2), object)
    x = np.zeros((2, 1), np.float32)
    olds = [Old() for _ in range(4)]
    watched = [weakref.ref(old) for old in olds]
    array.ravel()[:] = olds
    del olds
    word = "a string that nobody else has"
    alone = np.empty(4, object)
    alone[:] = ["".join(word) + str(number) for number in range(4)]
    decoder = RequestDecoder(STRINGS, [])
    buffers, envelope = RowBuffers([array, x]), Envelope()
    body = json.dumps(
        {
            "inputs": [
                {"name": "s", "shape": [2, 2], "datatype": "BYTES", "data": [word] * 4},
                {"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]},
            ]
        }
    ).encode()
    for _ in range(3):
        assert decoder.decode(body, 0, -1, len(body), buffers, 0, 2, envelope) == 2
        gc.collect()
        assert [old() for old in watched] == [None] * 4
        counts = [sys.getrefcount(element) for element in array.ravel()]
        assert counts == [sys.getrefcount(element) for element in alone]
    array.ravel()[:] = None
    bad = body.replace(b"[1, 2]", b'["", 2]')
    assert decoder.decode(bad, 0, -1, len(bad), buffers, 0, 2, envelope) == HAND_OVER


def test_decoding_leaves_no_memory_behind() -> None:
    decoder, buffers, envelope = (
        RequestDecoder(X4, ["p"]),
        RowBuffers([np.zeros((9, 4), np.float32)]),
        Envelope(),
    )
    bodies = [
        x4([[1, 2, 3, 4]] * 9, 9, id="abc", outputs=[{"name": "p"}]),
        x4([1], id="q"),
        b"{",
        b"\xff" * 9,
    ]

    def run() -> int:
        for _ in range(300):
            for body in bodies:
                decoder.decode(body, 0, -1, len(body), buffers, 0, 9, envelope)
                decoder.decode(memoryview(body), 0, -1, len(body), buffers, 0, 9, envelope)
        gc.collect()
        return sys.getallocatedblocks()

    run()
    before = run()
    assert abs(run() - before) < 50
