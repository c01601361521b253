"""What the compiled decoder accepts, the ordinary one reads to the same bits; both equal a naive reading."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastserve.errors import InvalidRequest
from fastserve.frontends.http.v2_codec import InferRequest, decode
from fastserve.types import Array, DataType, Signature, TensorSpec
from fastserve_core.wire.decode import Envelope, RequestDecoder, RowBuffers

ROOM = 8
SPECS = {
    "f": TensorSpec("f", DataType.FP32, (-1, 2)),
    "d": TensorSpec("d", DataType.FP64, (-1, 1)),
    "i": TensorSpec("i", DataType.INT32, (-1, 1, 2)),
    "l": TensorSpec("l", DataType.INT64, (-1, 1)),
    "u": TensorSpec("u", DataType.UINT64, (-1,)),
    "b": TensorSpec("b", DataType.BOOL, (-1, 1)),
    "s": TensorSpec("s", DataType.BYTES, (-1, 1)),
}
OUTPUTS = (TensorSpec("y", DataType.FP32, (-1, 2)), TensorSpec("z", DataType.INT64, (-1, 1)))


def fast(body: bytes, json_length: int | None, signature: Signature) -> tuple[list[Array], Envelope] | None:
    """Give the compiled decoder's reading, or None where it hands over."""
    decoder = RequestDecoder(
        [(spec.name, str(spec.datatype), spec.shape[1:]) for spec in signature.inputs],
        [spec.name for spec in signature.outputs],
    )
    arrays: list[Array] = [
        np.zeros((ROOM, *spec.shape[1:]), spec.datatype.dtype) for spec in signature.inputs
    ]
    envelope = Envelope()
    length = -1 if json_length is None else json_length
    rows = decoder.decode(body, 0, length, len(body), RowBuffers(arrays), 0, ROOM, envelope)
    return None if rows < 0 else ([array[:rows] for array in arrays], envelope)


def ordinary(body: bytes, json_length: int | None, signature: Signature) -> InferRequest | None:
    """Give the ordinary reading, or None where it refuses."""
    try:
        return decode(body, json_length, signature, 100)
    except InvalidRequest:
        return None


def same_bits(one: Array, other: Array) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()


def assert_agree(body: bytes, json_length: int | None, signature: Signature) -> bool:
    """Check that the fast reading, where there is one, is the ordinary one; tell whether there was one."""
    quick = fast(body, json_length, signature)
    if quick is None:
        return False
    slow = ordinary(body, json_length, signature)
    assert slow is not None, body
    arrays, envelope = quick
    for array, spec in zip(arrays, signature.inputs, strict=True):
        assert same_bits(array, slow.inputs[spec.name]), (body, spec.name)
    assert envelope.rows == slow.rows
    assert envelope.id_json == slow.id_json
    assert envelope.selection == slow.selection
    assert envelope.timeout_us == (-1 if slow.timeout_us is None else slow.timeout_us)
    return True


# -- whole requests ---------------------------------------------------------------------------------------

VALUES: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.FP32: st.one_of(
        st.none(), st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-99, 99)
    ),
    DataType.FP64: st.one_of(
        st.none(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70)
    ),
    DataType.INT32: st.integers(-(2**31), 2**31 - 1),
    DataType.INT64: st.integers(-(2**63), 2**63 - 1),
    DataType.UINT64: st.integers(0, 2**64 - 1),
    DataType.BOOL: st.booleans(),
    DataType.BYTES: st.text(max_size=5),
}


def nest(flat: list[Any], shape: tuple[int, ...]) -> Any:
    """Nest row-major values like `shape`."""
    if len(shape) == 1:
        return flat
    step = math.prod(shape[1:])
    return [nest(flat[i : i + step], shape[1:]) for i in range(0, len(flat), step)]


def packed(flat: list[Any], datatype: DataType) -> bytes:
    if datatype is DataType.BYTES:
        return b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in flat)
    return np.array([float("nan") if v is None else v for v in flat], datatype.dtype).tobytes()


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, int | None, Signature]:
    """Draw a good request: any form of every part, keys in any order."""
    names = draw(st.lists(st.sampled_from(sorted(SPECS)), min_size=1, max_size=3, unique=True))
    rows = draw(st.integers(1, 3))
    entries, tail = [], b""
    for name in draw(st.permutations(names)):
        spec = SPECS[name]
        shape = (rows, *spec.shape[1:])
        size = math.prod(shape)
        flat = draw(st.lists(VALUES[spec.datatype], min_size=size, max_size=size))
        entry: dict[str, Any] = {"name": name, "shape": list(shape), "datatype": str(spec.datatype)}
        if draw(st.integers(0, 3)) == 0:
            data = packed(flat, spec.datatype)
            entry["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            entry["data"] = nest(flat, shape) if draw(st.booleans()) else flat
        entries.append(dict(draw(st.permutations(list(entry.items())))))
    document: dict[str, Any] = {"inputs": entries}
    if draw(st.booleans()):
        document["id"] = draw(st.text(max_size=4))
    if draw(st.booleans()):
        flags = {"timeout": st.integers(0, 2**40), "binary_data_output": st.booleans()}
        other = {"content_type": st.text(max_size=3), "priority": st.integers() | st.floats(0, 1)}
        document["parameters"] = draw(st.fixed_dictionaries({}, optional={**flags, **other}))
    if draw(st.booleans()):
        chosen = draw(st.lists(st.sampled_from("yz"), unique=True))
        options = st.fixed_dictionaries({}, optional={"binary_data": st.booleans()})
        document["outputs"] = [{"name": name, "parameters": draw(options)} for name in chosen]
    document = dict(draw(st.permutations(list(document.items()))))
    text = json.dumps(
        document, indent=draw(st.sampled_from([None, 1])), ensure_ascii=draw(st.booleans())
    ).encode()
    signature = Signature(tuple(SPECS[name] for name in names), OUTPUTS, batched=True)
    needs_length = bool(tail) or draw(st.booleans())
    return text + tail, len(text) if needs_length else None, signature


@given(requests())
def test_good_requests(request: tuple[bytes, int | None, Signature]) -> None:
    body, json_length, signature = request
    assert ordinary(body, json_length, signature) is not None
    assert_agree(body, json_length, signature)


@settings(max_examples=300)
@given(requests(), st.data())
def test_spoilt_requests(request: tuple[bytes, int | None, Signature], data: st.DataObject) -> None:
    body, json_length, signature = request
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        cut = data.draw(st.integers(0, 3))
        new = data.draw(
            st.sampled_from([b"", b"0", b"-", b".", b"e", b",", b'"', b"[", b"]", b"{", b"}", b"\\", b"\xff"])
        )
        body = body[:at] + new + body[at + cut :]
    if json_length is not None:
        json_length = max(0, json_length + data.draw(st.integers(-2, 2)))
    assert_agree(body, json_length, signature)


def test_plain_requests_do_take_the_fast_way() -> None:
    """Otherwise everything above would hold without saying anything."""
    signature = Signature(tuple(SPECS.values()), OUTPUTS, batched=True)
    data = {"f": [1, 2.5], "d": [None], "i": [[1, -2]], "l": [3], "u": [4], "b": [True], "s": ["é"]}
    entries = [
        {
            "name": n,
            "shape": [1, *SPECS[n].shape[1:]],
            "datatype": str(SPECS[n].datatype),
            "data": [d] if n != "u" else d,
        }
        for n, d in data.items()
    ]
    body = json.dumps({"id": "7", "inputs": entries}, ensure_ascii=False).encode()
    assert assert_agree(body, None, signature)


# -- single numbers ---------------------------------------------------------------------------------------

digits = st.text("0123456789", min_size=1, max_size=30)
number_texts = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    st.sampled_from(["", "-"]),
    st.one_of(st.just("0"), digits),
    st.one_of(st.just(""), digits.map(lambda text: "." + text)),
    st.one_of(
        st.just(""),
        st.builds(
            lambda e, sign, power: f"{e}{sign}{power}",
            st.sampled_from("eE"),
            st.sampled_from(["", "+", "-"]),
            st.integers(0, 400),
        ),
    ),
)
PLACES = {
    "FP32": Signature((TensorSpec("x", DataType.FP32, (-1,)),), OUTPUTS, batched=True),
    "FP64": Signature((TensorSpec("x", DataType.FP64, (-1,)),), OUTPUTS, batched=True),
    "FP16": Signature((TensorSpec("x", DataType.FP16, (-1,)),), OUTPUTS, batched=True),
    "INT64": Signature((TensorSpec("x", DataType.INT64, (-1,)),), OUTPUTS, batched=True),
    "UINT64": Signature((TensorSpec("x", DataType.UINT64, (-1,)),), OUTPUTS, batched=True),
    "INT8": Signature((TensorSpec("x", DataType.INT8, (-1,)),), OUTPUTS, batched=True),
    "BOOL": Signature((TensorSpec("x", DataType.BOOL, (-1,)),), OUTPUTS, batched=True),
}


def single(datatype: str, text: str) -> bytes:
    return f'{{"inputs":[{{"name":"x","shape":[1],"datatype":"{datatype}","data":[{text}]}}]}}'.encode()


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@settings(max_examples=300)
@given(text=number_texts)
@example(text=f"1.{5**53:053}{0:0800}")  # half-way between two doubles, and nothing behind it
def test_a_number_is_the_nearest_double_cast_to_the_type(datatype: str, text: str) -> None:
    body, signature = single(datatype, text), PLACES[datatype]
    with np.errstate(over="ignore", under="ignore"):
        expected = np.array(float(text)).astype(DataType(datatype).dtype)
    read = ordinary(body, None, signature)
    if not is_json(text) or not np.isfinite(expected):
        assert read is None
    else:
        assert read is not None
        assert read.inputs["x"][0] == expected
    if datatype != "FP16":
        assert_agree(body, None, signature)


@pytest.mark.parametrize("datatype", ["INT8", "INT64", "UINT64"])
@settings(max_examples=300)
@given(text=st.one_of(number_texts, st.integers(-(2**64), 2**65).map(str)))
def test_integers_are_exact_or_refused(datatype: str, text: str) -> None:
    body, signature = single(datatype, text), PLACES[datatype]
    read = ordinary(body, None, signature)
    limits = np.iinfo(DataType(datatype).dtype)
    if is_json(text) and isinstance(json.loads(text), int):
        value = int(text)
        if limits.min <= value <= limits.max:
            assert read is not None
            assert int(read.inputs["x"][0]) == value
        else:
            assert read is None
    elif read is not None:
        assert float(text) == int(read.inputs["x"][0])
    assert_agree(body, None, signature)


LITERALS = [
    "-0",
    "-0.0",
    "0e9",
    "true",
    "false",
    "null",
    "1",
    "0",
    "+1",
    "01",
    "-",
    ".5",
    "1.",
    "1e",
    "NaN",
    '"1"',
    "[1]",
    "{}",
    "2",
    "9007199254740993",
    "9007199254740993.0",
    "1e400",
    "-1e-400",
    "18446744073709551616",
    "-9223372036854775809.0",
]


@pytest.mark.parametrize("datatype", [name for name in PLACES if name != "FP16"])
@pytest.mark.parametrize("text", LITERALS)
def test_literals(datatype: str, text: str) -> None:
    assert_agree(single(datatype, text), None, PLACES[datatype])
