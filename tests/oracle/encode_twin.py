"""An answer of the Open Inference Protocol by way of the json module: the oracle of the compiled encoder."""

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray


def shown(text: str | bytes) -> str:
    """A BYTES element as it stands in JSON: what is not Unicode is U+FFFD."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return "".join("\ufffd" if 0xD800 <= ord(c) < 0xE000 else c for c in text)


def plain(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return shown(value)
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def binary(array: NDArray[Any]) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    parts = [item if isinstance(item, bytes) else shown(item).encode() for item in array.reshape(-1)]
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def answer(
    model: tuple[str, str],
    outputs: list[tuple[str, str]],
    arrays: list[NDArray[Any]],
    rows: slice | None,
    id_json: bytes | None,
    selection: tuple[tuple[int, bool], ...] | None,
) -> tuple[dict[str, Any], bytes]:
    """The answer's JSON part as Python objects, and its binary tail."""
    document: dict[str, Any] = {"model_name": shown(model[0]), "model_version": shown(model[1])}
    if id_json is not None:
        document["id"] = json.loads(id_json)
    document["outputs"], tail = [], b""
    for index, as_bytes in selection if selection is not None else [(i, False) for i in range(len(outputs))]:
        array = arrays[index] if rows is None else arrays[index][rows]
        name, datatype = outputs[index]
        entry: dict[str, Any] = {"name": shown(name), "datatype": datatype, "shape": list(array.shape)}
        if as_bytes:
            part = binary(array)
            entry["parameters"] = {"binary_data_size": len(part)}
            tail += part
        else:
            flat = array.reshape(-1)
            entry["data"] = [plain(value) for value in flat.tolist()]
        document["outputs"].append(entry)
    return document, tail
