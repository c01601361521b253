"""Calls of the C library that Python does not have."""

import ctypes
from functools import cache
from typing import Any


@cache
def function(name: str) -> Any:
    """Find a function; None where this C library has none of that name."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError):
        return None


def prctl(option: int, value: int) -> bool:
    """Set an attribute of this process (Linux); False where that cannot be done."""
    call = function("prctl")
    return call is not None and bool(call(option, value, 0, 0, 0) == 0)
