"""Is there an ONNX runtime at all? Asked before anything is started, without the cost of importing it."""

from importlib.util import find_spec

from fastserve.errors import RuntimeMissing


def require_runtime() -> None:
    """Raise RuntimeMissing, which names the two extras, when onnxruntime is not installed."""
    if find_spec("onnxruntime") is None:
        raise RuntimeMissing
