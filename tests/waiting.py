"""Waiting for what another thread or process does; how long it takes is no test's business."""

import time
from collections.abc import Callable

_LOOK_S = 0.01


def until(condition: Callable[[], object], limit_s: float = 120.0) -> None:
    """Look again and again; AssertionError when it has not come true in time."""
    give_up_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(_LOOK_S)
