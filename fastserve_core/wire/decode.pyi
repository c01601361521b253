from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

HAND_OVER: int
NO_ROOM: int

class RowBuffers:
    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]: ...
    @property
    def capacity_rows(self) -> int: ...
    def __init__(self, arrays: Sequence[npt.NDArray[Any]]) -> None: ...

class Envelope:
    @property
    def id_json(self) -> bytes | None: ...
    @property
    def timeout_us(self) -> int: ...
    @property
    def selection(self) -> tuple[tuple[int, bool], ...] | None: ...
    @property
    def rows(self) -> int: ...
    @property
    def columnar(self) -> bool: ...

class RequestDecoder:
    def __init__(
        self, inputs: Sequence[tuple[str, str, tuple[int, ...]]], outputs: Sequence[str]
    ) -> None: ...
    def decode(
        self,
        body: bytes | bytearray | memoryview,
        start: int,
        json_length: int,
        stop: int,
        buffers: RowBuffers,
        row: int,
        room_rows: int,
        envelope: Envelope,
        predict: bool = False,
    ) -> int: ...

def decode_numbers(text: bytes, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]: ...
def set_vector_level(name: str) -> str: ...
