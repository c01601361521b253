"""What is sent: bodies of 9-digit numbers, several of each kind in turn so that nobody caches an answer."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.serving.models import BenchmarkModel
from benchmarks.serving.rivals.fastapi_app import answer_binary, answer_json, answer_rows, open_session

Wire = Literal["json", "binary", "predict"]
"""/v2 with data as JSON or as bytes, or TensorFlow Serving's `:predict` with rows."""
Floats = npt.NDArray[np.float32]

BODIES = {1: 61, 32: 17, 1024: 5}
"""Different bodies by rows a request; odd, so that they do not fall in step with the connections."""

SEED = 20130101


@dataclass(frozen=True)
class Payload:
    """The requests of one case: a model, rows a request, and the form of the numbers."""

    model: BenchmarkModel
    model_file: Path
    rows: int
    wire: Wire

    @property
    def title(self) -> str:
        """The case in a few letters, as `--only` takes it."""
        return f"{self.model.name}-{self.rows}-{self.wire}"

    @property
    def path(self) -> str:
        """Request target, the same on every server."""
        if self.wire == "predict":
            return f"/v1/models/{self.model.name}:predict"
        return f"/v2/models/{self.model.name}/infer"

    @cached_property
    def texts(self) -> list[list[str]]:
        """The numbers of every body as JSON text with 9 significant digits, row-major."""
        rng = np.random.default_rng(SEED)
        size = self.rows * self.model.features
        return [[f"{number:.9g}" for number in rng.standard_normal(size)] for _ in range(BODIES[self.rows])]

    def rows_of(self, index: int) -> Floats:
        """Body `index` as an array [rows, features], FP32: each number the nearest double, cast."""
        numbers = np.array([float(text) for text in self.texts[index]])
        return numbers.astype(np.float32).reshape(self.rows, self.model.features)

    @cached_property
    def bodies(self) -> list[bytes]:
        """Every body in full, as sent."""
        make = {"json": self.json_body, "binary": self._binary_body, "predict": self._predict_body}[self.wire]
        return [make(index) for index in range(len(self.texts))]

    def json_body(self, index: int, *, nested: bool = False) -> bytes:
        """Body `index` as JSON, its data flat or as a list of rows."""
        data = self._nested(index) if nested else ",".join(self.texts[index])
        shape = f"[{self.rows},{self.model.features}]"
        return f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"FP32","data":[{data}]}}]}}'.encode()

    @cached_property
    def headers(self) -> dict[str, str]:
        """Request headers beside Host and Content-Length."""
        if self.wire != "binary":
            return {"Content-Type": "application/json"}
        return {
            "Content-Type": "application/octet-stream",
            "Inference-Header-Content-Length": str(len(self._binary_head())),
        }

    @cached_property
    def expected(self) -> list[npt.NDArray[Any]]:
        """What the model makes of body 0, computed here without any server."""
        session = open_session(str(self.model_file))
        return list(session.run(None, {"x": self.rows_of(0)}))

    @cached_property
    def answer(self) -> bytes:
        """A whole answer body, for the application that always gives the same one."""
        if self.wire == "json":
            return answer_json(self.model.name, self._names, self.expected)
        if self.wire == "predict":
            return answer_rows(self._names, self.expected)
        return answer_binary(self.model.name, self._names, self.expected)[0]

    def check(self, body: bytes, json_length: int | None) -> None:
        """Raise ValueError unless `body` is a right answer to body 0."""
        outputs = self._predictions(body) if self.wire == "predict" else self._outputs(body, json_length)
        for name, got, expected in zip(self._names, outputs, self.expected, strict=True):
            if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-4, atol=1e-5):
                raise ValueError(f"{self.title}: output {name} differs from onnxruntime's own answer")

    @cached_property
    def _names(self) -> list[str]:
        return [output.name for output in open_session(str(self.model_file)).get_outputs()]

    def _outputs(self, body: bytes, json_length: int | None) -> Iterator[npt.NDArray[Any]]:
        position = json_length or 0
        for tensor, expected in zip(json.loads(body[:json_length])["outputs"], self.expected, strict=True):
            if "data" in tensor:
                got = np.asarray(tensor["data"], expected.dtype)
            else:
                got = np.frombuffer(body, expected.dtype, expected.size, position)
                position += expected.nbytes
            yield got.reshape(tensor["shape"])

    def _predictions(self, body: bytes) -> Iterator[npt.NDArray[Any]]:
        rows = json.loads(body)["predictions"]
        for name in self._names:
            yield np.asarray(rows if len(self._names) == 1 else [row[name] for row in rows])

    def _nested(self, index: int) -> str:
        texts, width = self.texts[index], self.model.features
        rows = [",".join(texts[start : start + width]) for start in range(0, len(texts), width)]
        return ",".join(f"[{row}]" for row in rows)

    def _predict_body(self, index: int) -> bytes:
        return f'{{"instances":[{self._nested(index)}]}}'.encode()

    def _binary_head(self) -> bytes:
        shape = [self.rows, self.model.features]
        size = self.rows * self.model.features * 4
        tensor = {"name": "x", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}
        request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        return json.dumps(request, separators=(",", ":")).encode()

    def _binary_body(self, index: int) -> bytes:
        return self._binary_head() + self.rows_of(index).tobytes()
