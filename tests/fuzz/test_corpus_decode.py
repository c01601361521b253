"""Replays what the decode fuzzer has found worth keeping through the compiled module, beside the plain twin."""

from pathlib import Path

import numpy as np
import pytest

from fastserve_core.wire.decode import decode_numbers
from tests.core.decode_case import SIGNATURES, decode
from tests.oracle.decode_twin import DTYPES, Refused, from_json, parse

CORPUS = sorted((Path(__file__).parent / "corpus" / "decode").iterdir())
ARRAYS = len(SIGNATURES)
"""The signature number that takes the body as one array of numbers."""


def test_there_is_a_corpus() -> None:
    assert len(CORPUS) > 100


def check_array(body: bytes, datatype: str) -> None:
    try:
        data = parse(body)
        expected = from_json(data, datatype, (len(data),)) if data != [] else np.empty(0, DTYPES[datatype])
    except (Refused, TypeError):
        with pytest.raises(ValueError, match="not a flat JSON array"):
            decode_numbers(body, DTYPES[datatype])
    else:
        assert decode_numbers(body, DTYPES[datatype]).tobytes() == expected.tobytes()


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name[:12])
def test_kept_inputs(path: Path) -> None:
    data = path.read_bytes()
    if len(data) < 4:
        return
    signature, room, body = data[0] & 7, min(data[1] & 15, 10), data[4:]
    if signature == ARRAYS:
        for datatype in ("FP64", "FP32", "BOOL", "INT8", "UINT8", "INT32", "INT64", "UINT64"):
            check_array(body, datatype)
        return
    length = int.from_bytes(data[2:4], "little")
    decode(SIGNATURES[signature], body, -1 if length == 0xFFFF else length, room=room)
