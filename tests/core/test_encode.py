"""The response encoder: exact bytes by example, numbers that read back identical, arrays that do not fit."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastserve_core.wire.encode import DATATYPES, ResponseEncoder
from tests.oracle.encode_twin import answer

Arrays = list[NDArray[Any]]
DTYPES = {datatype: np.dtype(f"{kind}{size}") for datatype, kind, size in DATATYPES if kind != "O"}


def one(datatype: str) -> ResponseEncoder:
    return ResponseEncoder("m", "1", [("y", datatype)])


def data_text(datatype: str, array: NDArray[Any]) -> bytes:
    """What stands between the brackets of "data"."""
    body, json_length = one(datatype).body([array], 0, -1, None, None)
    assert json_length == -1
    return body[body.index(b'"data":[') + 8 : -4]


# -- exact bytes --------------------------------------------------------------------------------------------


def test_the_body_as_it_stands_on_the_wire() -> None:
    encoder = ResponseEncoder("m", "1", [("y", "FP32"), ("label", "INT64")])
    arrays: Arrays = [np.array([[9, 9], [0.5, 1]], np.float32), np.array([7, -3], np.int64)]
    assert encoder.body(arrays, 1, 1, b'"x"', None) == (
        (
            b'{"model_name":"m","model_version":"1","id":"x","outputs":['
            b'{"name":"y","datatype":"FP32","shape":[1,2],"data":[0.5,1.0]},'
            b'{"name":"label","datatype":"INT64","shape":[1],"data":[-3]}]}'
        ),
        -1,
    )


def test_binary_outputs_follow_the_json_in_the_order_asked() -> None:
    encoder = ResponseEncoder("m", "1", [("a", "FP32"), ("b", "UINT8"), ("c", "BOOL")])
    arrays: Arrays = [np.ones((2, 1), np.float32), np.array([3, 4], np.uint8), np.array([True, False])]
    body, json_length = encoder.body(arrays, 0, 2, None, ((1, True), (2, False), (0, True)))
    assert body[:json_length] == (
        b'{"model_name":"m","model_version":"1","outputs":['
        b'{"name":"b","datatype":"UINT8","shape":[2],"parameters":{"binary_data_size":2}},'
        b'{"name":"c","datatype":"BOOL","shape":[2],"data":[true,false]},'
        b'{"name":"a","datatype":"FP32","shape":[2,1],"parameters":{"binary_data_size":8}}]}'
    )
    assert body[json_length:] == b"\x03\x04" + arrays[0].tobytes()


def test_http_needs_the_default_headers() -> None:
    with pytest.raises(TypeError, match="default_headers is None"):
        one("FP32").http([np.zeros(1, np.float32)], 0, 1, None, None, None)  # type: ignore[arg-type]


def test_http_with_json() -> None:
    response = one("FP32").http([np.zeros((3, 1), np.float32)], 1, 1, None, None, b"server: fastserve\r\n")
    head, _, body = response.partition(b"\r\n\r\n")
    assert head == (
        b"HTTP/1.1 200 OK\r\nserver: fastserve\r\ncontent-length: %d\r\ncontent-type: application/json"
        % len(body)
    )
    assert body == one("FP32").body([np.zeros((1, 1), np.float32)], 0, 1, None, None)[0]


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_http_with_binary(rows: int) -> None:
    array = np.arange(rows, dtype=np.float64)
    response = one("FP64").http([array], 0, rows, b'"7"', ((0, True),), b"")
    head, _, body = response.partition(b"\r\n\r\n")
    text, json_length = one("FP64").body([array], 0, rows, b'"7"', ((0, True),))
    assert body == text
    assert head == (
        b"HTTP/1.1 200 OK\r\ninference-header-content-length: %d\r\ncontent-length: %d\r\n"
        b"content-type: application/octet-stream" % (json_length, len(body))
    )


@pytest.mark.parametrize(
    ("datatype", "values", "text"),
    [
        ("BOOL", [True, False], b"true,false"),
        ("INT8", [-128, 127], b"-128,127"),
        ("INT16", [-(2**15), 2**15 - 1], b"-32768,32767"),
        ("INT32", [-(2**31), 2**31 - 1], b"-2147483648,2147483647"),
        ("INT64", [-(2**63), 2**63 - 1], b"-9223372036854775808,9223372036854775807"),
        ("UINT8", [0, 255], b"0,255"),
        ("UINT16", [2**16 - 1], b"65535"),
        ("UINT32", [2**32 - 1], b"4294967295"),
        ("UINT64", [2**64 - 1], b"18446744073709551615"),
        ("FP16", [0.1, 65504, 2**-24, -0.0], b"0.099975586,65504.0,5.9604645e-08,-0.0"),
        ("FP32", [0.1, 1e20, 16777216, -0.0, 1e-45], b"0.1,1e+20,16777216.0,-0.0,1e-45"),
        (
            "FP64",
            [0.1, 5e-324, 1.7976931348623157e308, 100000],
            b"0.1,5e-324,1.7976931348623157e+308,100000.0",
        ),
        (
            "FP64",
            [1e16, 9999999999999998, 1e-5, 1e-4, 1.5e-7],
            b"1e+16,9999999999999998.0,1e-05,0.0001,1.5e-07",
        ),
        ("FP16", [np.nan, np.inf, -np.inf], b"null,null,null"),
        ("FP32", [np.nan, np.inf, -np.inf], b"null,null,null"),
        ("FP64", [np.nan, np.inf, -np.inf], b"null,null,null"),
        ("FP32", [], b""),
    ],
)
def test_values_as_text(datatype: str, values: list[Any], text: bytes) -> None:
    assert data_text(datatype, np.array(values, DTYPES[datatype])) == text


def test_nan_keeps_its_bits_in_binary() -> None:
    bits = np.array([0x7FC00001, 0xFF800000, 0x80000000], np.uint32)
    body, json_length = one("FP32").body([bits.view(np.float32)], 0, -1, None, ((0, True),))
    assert body[json_length:] == bits.tobytes()


def test_strings() -> None:
    items = np.array(
        ["", 'a"\\/\b\f\n\r\t\v\x00\x1f\x7f', "é€😀", "\ud83d!\udc00", b"b\xff\n", "x" * 3000], object
    )
    text = (
        rb'"","a\"\\/\b\f\n\r\t\u000b\u0000\u001f' + b'\x7f","' + "é€😀".encode() + '","\ufffd!\ufffd"'.encode()
        + ',"b\ufffd\\n","'.encode() + b"x" * 3000 + b'"'
    )  # fmt: skip
    assert data_text("BYTES", items) == text
    body, json_length = one("BYTES").body([items[1:5]], 0, -1, None, ((0, True),))
    assert body[json_length:] == b"".join(
        len(part).to_bytes(4, "little") + part
        for part in (
            b'a"\\/\b\f\n\r\t\v\x00\x1f\x7f',
            "é€😀".encode(),
            "\ufffd!\ufffd".encode(),
            b"b\xff\n",
        )
    )


def test_names_are_escaped() -> None:
    encoder = ResponseEncoder('m"\n', "v\\", [("é\x01\udc80", "FP32")])
    body, _ = encoder.body([np.zeros(1, np.float32)], 0, -1, None, None)
    document = json.loads(body)
    assert (document["model_name"], document["model_version"]) == ('m"\n', "v\\")
    assert document["outputs"][0]["name"] == "é\x01\ufffd"


def test_shapes() -> None:
    def shape(array: NDArray[Any], start: int, rows: int) -> list[int]:
        document = json.loads(one("FP32").body([array], start, rows, None, None)[0])
        assert len(document["outputs"][0]["data"]) == np.prod(document["outputs"][0]["shape"])
        return list(document["outputs"][0]["shape"])

    def zeros(*dims: int) -> NDArray[Any]:
        return np.zeros(dims, np.float32)

    assert shape(zeros(), 0, -1) == []
    assert shape(zeros(3, 2), 0, -1) == [3, 2]
    assert shape(zeros(3, 2), 3, 0) == [0, 2]
    assert shape(zeros(0, 2), 0, 0) == [0, 2]
    assert shape(zeros(4, 0, 2), 1, 2) == [2, 0, 2]
    assert shape(zeros(2, 1, 1, 1, 1, 1, 1, 3), 1, 1) == [1, 1, 1, 1, 1, 1, 1, 3]


def test_a_large_answer_between_small_ones() -> None:
    encoder = one("FP64")
    small: Arrays = [np.full(1, 0.25)]
    large: Arrays = [np.full(600_000, 1 / 3)]
    first = encoder.body(small, 0, 1, None, None)
    assert len(json.loads(encoder.body(large, 0, -1, None, None)[0])["outputs"][0]["data"]) == 600_000
    assert encoder.body(small, 0, 1, None, None) == first


def test_an_answer_knows_nothing_of_the_one_before() -> None:
    encoder = one("FP64")
    arrays: Arrays = [np.array([0.25, 1 / 3])]
    long_id, binary = b'"%s"' % (b"a" * 2**20), ((0, True),)
    for start, id_json, selection in ((0, None, binary), (1, long_id, None), (1, None, binary)):
        asked = arrays, start, 1, id_json, selection
        assert encoder.body(*asked) == one("FP64").body(*asked)
        assert encoder.http(*asked, b"") == one("FP64").http(*asked, b"")


# -- numbers read back identical ----------------------------------------------------------------------------


def reads_back(datatype: str, array: NDArray[Any]) -> None:
    text = data_text(datatype, array).decode().split(",")
    decoded = np.array([float(number) for number in text]).astype(array.dtype)
    assert decoded.tobytes() == array.tobytes()
    assert [array.dtype.type(number) for number in text] == array.tolist()
    assert all(re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]\d+)?", number) for number in text)
    assert [number for number in text if "." not in number and "e" not in number] == []
    if datatype != "FP16":
        assert [
            number for number, value in zip(text, array, strict=True) if number != python_text(value)
        ] == []


def python_text(value: np.floating[Any]) -> str:
    """NumPy's shortest digits as Python shows them; the double's for the one float32 that a double misleads."""
    return repr(float(value if abs(value) == HALFWAY else np.format_float_scientific(value)))


HALFWAY = np.uint32(0x15AE43FD).view(np.float32)
LANDMARKS = [
    0.0,
    -0.0,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    9007199254740993.0,
    0.1,
    1 / 3,
]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(LANDMARKS), min_size=1))
def test_float64_reads_back_identical(values: list[float]) -> None:
    reads_back("FP64", np.array(values))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_float32_reads_back_identical(values: list[float]) -> None:
    reads_back("FP32", np.array(values, np.float32))


@given(hnp.arrays(st.sampled_from([np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)]), 50))
def test_integers_read_back_identical(array: NDArray[Any]) -> None:
    datatype = {"i": "INT", "u": "UINT"}[array.dtype.kind] + str(8 * array.itemsize)
    assert data_text(datatype, array) == ",".join(map(str, array.tolist())).encode()


def test_integers_around_powers_of_ten() -> None:
    around = [sign * (10**k + step) for k in range(19) for step in (-1, 0, 1) for sign in (1, -1)]
    assert data_text("INT64", np.array(around)) == ",".join(map(str, around)).encode()


def test_float64_of_every_exponent_reads_back_identical() -> None:
    random = np.random.default_rng(2)
    exponents = np.repeat(np.arange(2047, dtype=np.uint64), 20)
    fractions = random.integers(0, 2**52, exponents.size, np.uint64)
    fractions[::20], fractions[1::20], fractions[2::20] = 0, 1, 2**52 - 1
    reads_back("FP64", (exponents << np.uint64(52) | fractions).view(np.float64))


@given(st.lists(st.integers(-(10**17), 10**17), min_size=1), st.integers(-330, 310))
def test_short_decimals_stay_short(digits: list[int], exponent: int) -> None:
    values = np.array([float(f"{number}e{exponent}") for number in digits])
    reads_back("FP64", np.append(values[np.isfinite(values)], 1.0))


def test_float32_of_every_exponent_reads_back_identical() -> None:
    random = np.random.default_rng(1)
    exponents = np.repeat(np.arange(255, dtype=np.uint32), 40)
    fractions = random.integers(0, 2**23, exponents.size, np.uint32)
    fractions[::40], fractions[1::40], fractions[2::40] = 0, 1, 2**23 - 1
    bits = exponents << 23 | fractions
    reads_back("FP32", np.concatenate([bits, bits | np.uint32(2**31)]).view(np.float32))


def test_the_float32_whose_shortest_text_misleads_a_double() -> None:
    value = np.array([0x15AE43FD, 0x95AE43FD], np.uint32).view(np.float32)
    assert np.float32(float("7.038531e-26")) != value[0]
    reads_back("FP32", value)


def test_every_float16_reads_back_identical() -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    reads_back("FP16", values[np.isfinite(values)])


@given(st.data())
def test_answers_agree_with_the_twin(data: st.DataObject) -> None:
    outputs, arrays = [], []
    rows = data.draw(st.integers(0, 4))
    for index in range(data.draw(st.integers(1, 3))):
        datatype = data.draw(st.sampled_from([datatype for datatype, _, _ in DATATYPES]))
        dims = (rows, *data.draw(st.lists(st.integers(0, 3), max_size=3)))
        if datatype == "BYTES":
            array = np.empty(dims, object)
            array.reshape(-1)[:] = data.draw(
                st.lists(st.text() | st.binary(), min_size=array.size, max_size=array.size)
            )
        else:
            array = data.draw(hnp.arrays(DTYPES[datatype], dims))
        outputs.append((data.draw(st.text(max_size=5)) + str(index), datatype))
        arrays.append(array)
    start = data.draw(st.integers(0, rows))
    count = data.draw(st.integers(0, rows - start))
    chosen = st.tuples(st.integers(0, len(outputs) - 1), st.booleans())
    selection = data.draw(st.none() | st.lists(chosen, max_size=4).map(tuple))
    id_json = data.draw(st.none() | st.sampled_from([b'"x"', b'"42"']))
    encoder = ResponseEncoder("m", "3", outputs)
    body, json_length = encoder.body(arrays, start, count, id_json, selection)
    document, tail = answer(("m", "3"), outputs, arrays, slice(start, start + count), id_json, selection)
    text, got_tail = (body, b"") if json_length < 0 else (body[:json_length], body[json_length:])
    assert got_tail == tail
    assert (json_length >= 0) == any(binary for _, binary in selection or ())
    got = json.loads(text)
    for entry, wanted in zip(got["outputs"], document["outputs"], strict=True):
        if wanted["datatype"] == "FP32" and "data" in wanted:
            entry["data"] = [None if v is None else float(np.float32(v)) for v in entry["data"]]
        if wanted["datatype"] == "FP16" and "data" in wanted:
            entry["data"] = [None if v is None else float(np.float16(v)) for v in entry["data"]]
    assert got == document
    assert encoder.http(arrays, start, count, id_json, selection, b"").endswith(b"\r\n\r\n" + body)


# -- what does not fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 2)), "dtype float64, the signature says FP32"),
        (np.zeros((4, 2), np.float16), "dtype float16"),
        (np.zeros((4, 2), np.int32), "dtype int32"),
        (np.zeros((4, 2), object), "dtype object"),
        (np.zeros((4, 2), ">f4"), "native byte order"),
        (np.zeros((8, 2), np.float32)[::2], "C-contiguous"),
        (np.zeros((2, 4), np.float32).T, "C-contiguous"),
        (np.frombuffer(bytes(33), np.uint8)[1:].view(np.float32).reshape(4, 2), "aligned"),
        ([[0.0, 0.0]], "not an array but list"),
        (None, "not an array but NoneType"),
    ],
)
@pytest.mark.parametrize("selection", [None, ((0, True),)])
def test_an_array_that_does_not_fit_is_an_error(array: Any, message: str, selection: Any) -> None:
    encoder = one("FP32")
    with pytest.raises(ValueError, match=message):
        encoder.body([array], 0, 1, None, selection)
    assert encoder.body([np.ones((1, 1), np.float32)], 0, 1, None, None)[0].endswith(b'"data":[1.0]}]}')


@pytest.mark.parametrize(
    ("start", "rows"),
    [
        (0, 5),
        (4, 1),
        (5, 0),
        (-1, 1),
        (0, -2),
        (1, -1),
        (2**62, 2**62),
        (0, 2**63 - 1),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_rows_outside_of_the_array_are_an_error(start: int, rows: int) -> None:
    for selection in (None, ((0, True),)):
        with pytest.raises(ValueError, match=f"output y: {rows} rows from {start} "):
            one("FP32").body([np.zeros((4, 2), np.float32)], start, rows, None, selection)


def test_rows_of_an_array_without_dimensions_are_an_error() -> None:
    with pytest.raises(ValueError, match="0 rows from 0"):
        one("FP32").body([np.zeros((), np.float32)], 0, 0, None, None)


@pytest.mark.parametrize("index", [-1, 1, 2**40])
def test_an_output_that_is_not_there_is_an_error(index: int) -> None:
    with pytest.raises(ValueError, match="output index"):
        one("FP32").body([np.zeros((4, 2), np.float32)], 0, 1, None, ((index, False),))


@pytest.mark.parametrize("count", [0, 2])
def test_the_wrong_number_of_arrays_is_an_error(count: int) -> None:
    arrays: Arrays = [np.zeros(1, np.float32)] * count
    with pytest.raises(ValueError, match="arrays for 1 outputs"):
        one("FP32").http(arrays, 0, 1, None, None, b"")


@pytest.mark.parametrize("element", [None, 1, 1.5, ["x"]])
@pytest.mark.parametrize("binary", [False, True])
def test_an_element_that_is_not_text_is_an_error(element: Any, binary: bool) -> None:
    array = np.empty(2, object)
    array[0], array[1] = "fine", element
    with pytest.raises(ValueError, match=f"an element is {type(element).__name__}"):
        one("BYTES").body([array], 0, -1, None, ((0, binary),))


def test_an_unknown_datatype_is_an_error() -> None:
    with pytest.raises(ValueError, match="output y: datatype BF16"):
        one("BF16")
