"""Hypothesis builds request bodies, good and broken; the decoder and its twin accept the same ones and read the same."""

import json
import struct
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve_core.wire.decode import HAND_OVER
from tests.core.decode_case import ROOM, SIGNATURES, decode
from tests.oracle.decode_twin import DTYPES, InputSpec

WIDTHS = {"FP32": 32, "FP64": 64}
SPACES = st.sampled_from(["", "", "", " ", "  ", "\n", "\t \r\n"])


def number(datatype: str) -> st.SearchStrategy[str]:
    """The text of one element that fits."""
    if datatype == "BOOL":
        return st.sampled_from(["true", "false"])
    if datatype == "BYTES":
        letters = st.characters(exclude_characters='"\\', exclude_categories=["Cs", "Cc"])
        plain = st.text(letters, max_size=20).map(lambda text: f'"{text}"')
        any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
        return st.one_of(plain, st.builds(json.dumps, any_text, ensure_ascii=st.booleans()))
    if datatype in WIDTHS:
        plain = st.floats(width=WIDTHS[datatype], allow_nan=False, allow_infinity=False).map(repr)  # type: ignore[arg-type]
        return st.one_of(
            plain, st.integers(-(10**20), 10**20).map(str), st.sampled_from(["null", "-0", "1E2", "0.1"])
        )
    limits = np.iinfo(DTYPES[datatype])
    return st.integers(int(limits.min), int(limits.max)).map(str)


def packed(datatype: str, draw: st.DrawFn, count: int) -> bytes:
    if datatype == "BYTES":
        texts = [draw(st.text(max_size=9)).encode("utf-8", "ignore") for _ in range(count)]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    size = count * DTYPES[datatype].itemsize
    return bytes(draw(st.lists(st.sampled_from(b"\0\1"), min_size=size, max_size=size)))


def nested(elements: list[str], shape: tuple[int, ...], space: str) -> str:
    if not shape:
        return elements[0]
    step = len(elements) // shape[0]
    parts = [nested(elements[at : at + step], shape[1:], space) for at in range(0, len(elements), step)]
    return "[" + f",{space}".join(parts) + space + "]"


def joined(draw: st.DrawFn, members: list[str], brackets: str = "{}") -> str:
    space = draw(SPACES)
    return brackets[0] + space + f"{space},{space}".join(draw(st.permutations(members))) + space + brackets[1]


def tensor(draw: st.DrawFn, spec: InputSpec, rows: int) -> tuple[str, bytes]:
    name, datatype, dims = spec
    shape = (rows, *dims)
    count = int(np.prod(shape))
    space = draw(SPACES)
    members = [
        f'"name":{space}"{name}"',
        f'"datatype": "{datatype}"',
        f'"shape":{space}{json.dumps(list(shape))}',
    ]
    if datatype == "FP16" or count == 0 or draw(st.integers(0, 3)) == 0:
        tail = packed(datatype, draw, count)
        return joined(
            draw, [*members, f'"parameters":{space}{{"binary_data_size":{space}{len(tail)}}}']
        ), tail
    elements = draw(st.lists(number(datatype), min_size=count, max_size=count))
    data = nested(elements, shape if draw(st.booleans()) else (count,), space)
    if draw(st.booleans()):
        # As clients send it: read in one pass.
        return "{" + ",".join([*members, f'"data":{data}']) + "}", b""
    return joined(draw, [*members, f'"data":{space}{data}']), b""


@st.composite
def good(draw: st.DrawFn) -> tuple[list[InputSpec], bytes, int]:
    """A signature and a request of the documented subset."""
    inputs = draw(st.sampled_from(SIGNATURES))
    rows = draw(st.integers(1, ROOM + 1))
    tensors = [tensor(draw, spec, rows) for spec in draw(st.permutations(inputs))]
    members = [f'"inputs":[{",".join(text for text, _ in tensors)}]']
    if draw(st.booleans()):
        members.append(f'"id": "{draw(st.text(st.sampled_from("abc -~{[,0"), max_size=9))}"')
    if draw(st.booleans()):
        asked = draw(st.lists(st.sampled_from("pq"), unique=True))
        binary = [
            draw(st.sampled_from(["", ',"parameters":{"binary_data":true}', ',"parameters": {"a" :"b"}']))
            for _ in asked
        ]
        outputs = [f'{{"name":"{name}"{rest}}}' for name, rest in zip(asked, binary, strict=True)]
        members.append(f'"outputs":[{",".join(outputs)}]')
    parameters = draw(
        st.sampled_from(
            ["", "{}", '{"timeout":7}', '{"binary_data_output" : true,"timeout" :0}', '{"a":true, "a" : 1}']
        )
    )
    if parameters:
        members.append(f'"parameters":{parameters}')
    text = (joined(draw, members) + draw(SPACES)).encode()
    tail = b"".join(data for _, data in tensors)
    return inputs, text + tail, len(text) if tail or draw(st.booleans()) else -1


FRAGMENTS = st.one_of(
    st.binary(max_size=3),
    st.sampled_from(
        b'{ } [ ] , : " \\ 0 1 - . e5 true null NaN 1e999 [] {} "x" "data": [1] ,1 00 "id":"a", \xff \\n \\u00 \\ud83d \\ude00'.split()
    ),
)


@settings(max_examples=500, deadline=None)
@given(case=good(), around=st.tuples(st.binary(max_size=9), st.binary(max_size=9)))
def test_good_requests_are_accepted(
    case: tuple[list[InputSpec], bytes, int], around: tuple[bytes, bytes]
) -> None:
    inputs, body, json_length = case
    outcome = decode(inputs, body, json_length, around=around)
    assert outcome.twin is not None
    assert outcome.code != HAND_OVER


@settings(max_examples=800, deadline=None)
@given(case=good(), data=st.data())
def test_broken_requests_are_judged_alike(case: tuple[list[InputSpec], bytes, int], data: Any) -> None:
    inputs, body, json_length = case
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(body)))
        stop = data.draw(st.integers(at, min(len(body), at + 12)))
        fragment = data.draw(st.one_of(FRAGMENTS, st.just(body[at:stop] * 2)))
        body = body[:at] + fragment + body[stop:]
        if json_length > at:
            json_length = max(1, json_length + len(fragment) - (stop - at))
    decode(inputs, body, data.draw(st.sampled_from([json_length, json_length, -1])))


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=60), json_length=st.integers(-1, 60), inputs=st.sampled_from(SIGNATURES))
def test_noise(body: bytes, json_length: int, inputs: list[InputSpec]) -> None:
    decode(inputs, body, json_length)
