"""Hypothesis strategies for infer requests, good ones and broken ones, as the bytes that travel."""

import json
import struct
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.paths.workers import post

# model → (input name, datatype, width)
KINDS = {
    "scaled": ("x", "FP32", (3,)),
    "int64": ("x", "INT64", (2,)),
    "int8": ("x", "INT8", (2,)),
    "uint8": ("x", "UINT8", (2,)),
    "uint64": ("x", "UINT64", (2,)),
    "bool": ("x", "BOOL", (2,)),
    "double": ("x", "FP64", (2, 2)),
    "text": ("x", "BYTES", (2,)),
    "ragged": ("x", "FP32", (4,)),
}
RANGES = {"INT8": (-128, 127), "UINT8": (0, 255), "INT64": (-(2**63), 2**63 - 1), "UINT64": (0, 2**64 - 1)}
FORMATS = {
    "FP32": "<f",
    "FP64": "<d",
    "INT8": "<b",
    "UINT8": "<B",
    "INT64": "<q",
    "UINT64": "<Q",
    "BOOL": "<?",
}
PIPELINE = [("carrier", "BYTES"), ("origin", "BYTES"), ("distance", "FP32"), ("hour", "INT64")]

names = st.sampled_from(["UA", "AA", "JFK", "", "é", "日本", 'q"q', "a\\b", "tab\t", "\x7f", "x" * 300, "😀"])


def element(datatype: str) -> st.SearchStrategy[Any]:
    """One value that fits."""
    if datatype in RANGES:
        low, high = RANGES[datatype]
        return st.one_of(st.integers(low, high), st.sampled_from([low, high, 0]))
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return names
    plain = st.floats(allow_nan=False, allow_infinity=False, width=32 if datatype == "FP32" else 64)
    return st.one_of(
        plain, st.integers(-1000, 1000), st.sampled_from([0.1, -0.0, 1e-45, 5e-324, 3.4e38, 1e22])
    )


bad_values: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        "1",
        [],
        {},
        [1],
        1.5,
        -1,
        2**63,
        2**64,
        2**200,
        1e39,
        1e308,
        -129,
        256,
        "x",
        10**30,
        0.1,
    ]
)


@st.composite
def tensor(
    draw: st.DrawFn, name: str, datatype: str, inner: tuple[int, ...], rows: int
) -> tuple[dict[str, Any], bytes]:
    """One good tensor: its JSON object and its binary tail (empty when the data is JSON)."""
    count = rows * int(np.prod(inner))
    values = draw(st.lists(element(datatype), min_size=count, max_size=count))
    fields: dict[str, Any] = {"name": name, "shape": [rows, *inner], "datatype": datatype}
    tail = b""
    if draw(st.integers(0, 3)) == 0:
        tail = packed(datatype, values)
        fields["parameters"] = {"binary_data_size": len(tail)}
    elif draw(st.booleans()):
        fields["data"] = np.array(values, dtype=object).reshape(rows, *inner).tolist()
    else:
        fields["data"] = values
    order = draw(st.permutations(list(fields)))
    return {key: fields[key] for key in order}, tail


def packed(datatype: str, values: list[Any]) -> bytes:
    """The binary form of a tensor's values."""
    if datatype == "BYTES":
        texts = [value.encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    convert = float if datatype in ("FP32", "FP64") else (bool if datatype == "BOOL" else int)
    return b"".join(struct.pack(FORMATS[datatype], convert(value)) for value in values)


@st.composite
def good(draw: st.DrawFn) -> tuple[str, dict[str, Any], bytes]:
    """A request that should be answered with 200: model, JSON document, binary tail."""
    model = draw(st.sampled_from([*KINDS, "scaled", "pipeline", "labels"]))
    rows = draw(st.integers(1, 4))
    if model in KINDS:
        parts = [draw(tensor(*KINDS[model], rows))]
        outputs = ["y"]
    else:
        parts = [
            draw(tensor(name, datatype, (1,), rows)) for name, datatype in draw(st.permutations(PIPELINE))
        ]
        outputs = ["label", "probabilities"]
    document: dict[str, Any] = {"inputs": [fields for fields, _ in parts]}
    if draw(st.booleans()):
        document["id"] = draw(st.sampled_from(["", "abc", "42", "é", 'a"b', "x" * 100, "a/b~\x7f"]))
    if draw(st.integers(0, 3)) == 0:
        document["parameters"] = draw(
            st.sampled_from(
                [{}, {"timeout": 0}, {"timeout": 20_000_000}, {"binary_data_output": True}, {"other": 1}]
            )
        )
    if draw(st.booleans()):
        chosen = draw(st.lists(st.sampled_from(outputs), unique=True))
        document["outputs"] = [
            {
                "name": name,
                **draw(st.sampled_from([{}, {"parameters": {"binary_data": True}}, {"parameters": {}}])),
            }
            for name in chosen
        ]
    order = draw(st.permutations(list(document)))
    return model, {key: document[key] for key in order}, b"".join(tail for _, tail in parts)


def serialise(draw: st.DrawFn, document: Any) -> bytes:
    style = draw(st.integers(0, 3))
    if style == 0:
        return json.dumps(document).encode()
    if style == 1:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    if style == 2:
        return json.dumps(document, indent=2).encode()
    return json.dumps(document, separators=(" ,\t", "\r\n: ")).encode()


def break_document(draw: st.DrawFn, document: dict[str, Any]) -> None:
    """Damage one place of the JSON document."""
    target: Any = document
    if document.get("inputs") and draw(st.integers(0, 3)):
        target = draw(st.sampled_from(document["inputs"]))
        if isinstance(target.get("data"), list) and target["data"] and draw(st.booleans()):
            target = target["data"]
            target[draw(st.integers(0, len(target) - 1))] = draw(bad_values)
            return
    action = draw(st.integers(0, 3))
    key = draw(st.sampled_from(sorted(target)))
    if action == 0:
        del target[key]
    elif action == 1:
        target[key] = draw(bad_values)
    elif action == 2:
        target[draw(st.sampled_from(["extra", "name", "shape", "id", "outputs", "parameters"]))] = draw(
            bad_values
        )
    elif isinstance(target[key], list):
        target[key].append(target[key][0] if target[key] and draw(st.booleans()) else draw(bad_values))


@st.composite
def any_request(draw: st.DrawFn) -> bytes:
    """A request as bytes: mostly good, else broken in one or two places."""
    model, document, tail = draw(good())
    damage = draw(st.integers(0, 5))
    if damage in (1, 2):
        break_document(draw, document)
    text = serialise(draw, document)
    length = len(text)
    if damage == 3:
        at = draw(st.integers(0, len(text)))
        junk = draw(
            st.sampled_from(
                [b"", b"x", b",", b"]", b"}", b'"', b"\x00", b"\xff", b"NaN", b"1", b"-", b"e5", b" "]
            )
        )
        text = text[:at] + junk + text[at + draw(st.integers(0, 3)) :]
        length = len(text)
    if damage == 4:
        tail = tail[:-1] if draw(st.booleans()) else tail + b"\x01"
    headers = []
    if tail or draw(st.integers(0, 4)) == 0:
        shift = draw(st.sampled_from([-1, 1, 7])) if damage == 5 else 0
        headers.append(f"Inference-Header-Content-Length: {max(length + shift, 0)}")
    if draw(st.integers(0, 7)) == 0:
        headers.append(
            draw(
                st.sampled_from(["Accept-Encoding: gzip", "X-Request-Timeout-Ms: 20000", "Content-Type: a/b"])
            )
        )
    path = f"/v2/models/{model}" + draw(
        st.sampled_from(["", "", "/versions/1", "/versions/01", "/versions/2"])
    )
    return post(f"{path}/infer", text + tail, *headers)
