"""One loaded ONNX session behind a small protocol: what it takes, what it gives, how long it needs."""

from fastserve.runtime._ort import require_runtime
from fastserve.runtime.cores import available_cores, threads_per_worker
from fastserve.runtime.onnx import OnnxRuntime, can_be_forked, inspect
from fastserve.runtime.options import Provider, RuntimeOptions
from fastserve.runtime.protocol import Bound, Runtime
from fastserve.runtime.warmup import observed, warm

__all__ = [
    "Bound",
    "OnnxRuntime",
    "Provider",
    "Runtime",
    "RuntimeOptions",
    "available_cores",
    "can_be_forked",
    "inspect",
    "observed",
    "require_runtime",
    "threads_per_worker",
    "warm",
]
