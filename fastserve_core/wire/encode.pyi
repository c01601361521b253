"""Answers of infer and predict requests: output arrays to response bytes, rendered once and copied once."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

DATATYPES: tuple[tuple[str, str, int], ...]

class ResponseEncoder:
    def __init__(self, model_name: str, model_version: str, outputs: Sequence[tuple[str, str]]) -> None: ...
    def body(
        self,
        arrays: list[NDArray[Any]],
        start: int,
        rows: int,
        id_json: bytes | None,
        selection: tuple[tuple[int, bool], ...] | None,
    ) -> tuple[bytes, int]: ...
    def http(
        self,
        arrays: list[NDArray[Any]],
        start: int,
        rows: int,
        id_json: bytes | None,
        selection: tuple[tuple[int, bool], ...] | None,
        default_headers: bytes,
    ) -> bytes: ...
    def predict_body(self, arrays: list[NDArray[Any]], columnar: bool) -> bytes: ...
    def predict_http(
        self, arrays: list[NDArray[Any]], start: int, rows: int, columnar: bool, default_headers: bytes
    ) -> bytes: ...
