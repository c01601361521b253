"""Values that every room shares: datatypes, tensor specifications, signatures, counters."""

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from fastserve_core.histogram import RunHistograms

Array = npt.NDArray[Any]


class DataType(StrEnum):
    """Tensor datatypes by their Open Inference Protocol names."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype of the tensor; BYTES is an object array of `str`."""
        return _DTYPES[self]

    @property
    def itemsize(self) -> int:
        """Bytes per element on the wire; 0 for BYTES, whose elements carry their own length."""
        return 0 if self is DataType.BYTES else self.dtype.itemsize

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self in (DataType.FP16, DataType.FP32, DataType.FP64)


_DTYPES: dict[DataType, np.dtype[Any]] = {
    DataType.BOOL: np.dtype(np.bool_),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.UINT32: np.dtype(np.uint32),
    DataType.UINT64: np.dtype(np.uint64),
    DataType.INT8: np.dtype(np.int8),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.FP16: np.dtype(np.float16),
    DataType.FP32: np.dtype(np.float32),
    DataType.FP64: np.dtype(np.float64),
    DataType.BYTES: np.dtype(object),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named tensor of a model; `shape` has -1 for every variable dimension, batch included."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of this shape can be this one."""
        return len(shape) == len(self.shape) and all(
            want in (-1, got) for want, got in zip(self.shape, shape, strict=True)
        )

    def described(self) -> dict[str, Any]:
        """Name, datatype and shape as JSON has them."""
        return {"name": self.name, "datatype": str(self.datatype), "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model; `batched` when dimension 0 of each of them is the variable batch."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool

    def described(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "inputs": [spec.described() for spec in self.inputs],
            "outputs": [spec.described() for spec in self.outputs],
            "batched": self.batched,
        }


@dataclass(slots=True)
class Duration:
    """A Triton statistic: how often, and nanoseconds in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Count `count` events that took `ns` nanoseconds together."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class VersionStats:
    """Counters of one served version in one worker; written by the event-loop thread only."""

    inference_count: int = 0
    """Rows answered."""
    execution_count: int = 0
    """Runs of the model."""
    last_inference_ms: int = 0
    """Wall-clock time of the last run, milliseconds since the epoch."""
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    cancelled: int = 0
    """Requests withdrawn before their rows ran."""
    expired: int = 0
    """Requests whose deadline passed before their rows ran."""
    rejected: int = 0
    """Requests refused because the queue was full."""
    queue: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)
    """Runs by number of rows in the batch."""
    failed_runs: int = 0
    """Runs that failed for everybody, since the last one that answered somebody."""
    stopped_runs: int = 0
    """Requests whose run took longer than it may."""
    codes: dict[int, int] = field(default_factory=dict)
    """Requests by HTTP status, but for those that the compiled path answered with 200."""
    histograms: RunHistograms = field(default_factory=RunHistograms)

    def count_code(self, status: int) -> None:
        """Count a request that was answered with a status; 499: its client did not wait."""
        self.codes[status] = self.codes.get(status, 0) + 1

    def count_run(self, rows: int, requests: int, queue_ns: int, run_ns: int, output_ns: int) -> None:
        """Count one run of `rows` rows that completed `requests` requests, which waited `queue_ns` together.

        Every request is charged with the whole of the run that it was part of, as Triton does; one that
        took several runs with the last, before which it waited.
        """
        self.execution_count += 1
        self.inference_count += rows
        self.failed_runs = 0
        self.last_inference_ms = int(time.time() * 1e3)
        self.success.add(queue_ns + (run_ns + output_ns) * requests, requests)
        self.queue.add(queue_ns, requests)
        self.compute_infer.add(run_ns * requests, requests)
        self.compute_output.add(output_ns * requests, requests)
        by_rows = self.batches.get(rows)
        if by_rows is None:
            by_rows = self.batches.setdefault(rows, Duration())
        by_rows.add(run_ns)
