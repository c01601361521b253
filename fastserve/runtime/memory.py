"""Give back to the system what the allocator keeps after large batches and unloaded models."""

import ctypes
from functools import cache
from typing import Any


def give_back() -> None:
    """Return free heap pages to the system where the C library can (glibc); takes about a millisecond.

    Measured: 10 MiB of 27 after one 1024-row batch of a 256-1024-1024-1024-10 MLP.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # not glibc
        return None
