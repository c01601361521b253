"""Which windows make up a span of time: the largest that lie in it and that there still are."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from fastserve.controlplane.options import ControlOptions
from fastserve.errors import InvalidRequest

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
SPAN_MS = {"minute": MINUTE_MS, "hour": HOUR_MS, "day": DAY_MS}
BELOW = {"hour": "minute", "day": "hour"}
"""What an hour and a day are summed up of."""

MAX_POINTS = 60
_STEPS_MS = (
    *(minutes * MINUTE_MS for minutes in (1, 2, 5, 10)),
    *(hours * HOUR_MS for hours in (1, 3, 6, 12)),
)
_SINCE = re.compile(r"([0-9]{1,7})([smhd])", re.ASCII)
_UNIT_MS = {"s": 1_000, "m": MINUTE_MS, "h": HOUR_MS, "d": DAY_MS}


@dataclass(frozen=True, slots=True)
class Span:
    """From `start_ms` to before `end_ms`, in steps; all of them whole multiples of `step_ms` since 1970."""

    start_ms: int
    end_ms: int
    step_ms: int


@dataclass(frozen=True, slots=True, order=True)
class Stored:
    """A window that the database has."""

    start_ms: int
    level: str
    rolled: bool


def parse_since(text: str) -> int:
    """Read 90s, 15m, 24h or 7d as milliseconds; InvalidRequest for anything else."""
    match = _SINCE.fullmatch(text)
    found = int(match[1]) * _UNIT_MS[match[2]] if match else 0
    if not found:
        raise InvalidRequest("since must be a span such as 90s, 15m, 24h or 7d", "since")
    return found


def floor(at_ms: int, span_ms: int) -> int:
    """Give the beginning of the minute, hour or day that a moment lies in."""
    return at_ms - at_ms % span_ms


def span_until(now_ms: int, since_ms: int, options: ControlOptions) -> Span:
    """Give the span that holds the last `since_ms`, and no more than what is left of it needs.

    Its start is that of the minute, hour or day it lies in: the finest of which windows are kept so long.
    """
    since_ms = min(since_ms, int(options.keep_days_d * DAY_MS), now_ms)
    if since_ms > options.keep_hours_d * DAY_MS:
        finest_ms = DAY_MS
    elif since_ms > options.keep_minutes_h * HOUR_MS:
        finest_ms = HOUR_MS
    else:
        finest_ms = MINUTE_MS
    start_ms = floor(now_ms - since_ms, finest_ms)
    end_ms = floor(now_ms, MINUTE_MS) + MINUTE_MS
    return Span(start_ms, end_ms, _step(end_ms - start_ms, finest_ms))


def choose(stored: Iterable[Stored], step_ms: int) -> list[Stored]:
    """Choose windows that hold every row once, none of them larger than a step."""
    covered: set[tuple[str, int]] = set()
    chosen: list[Stored] = []
    by_size = sorted(stored, key=lambda one: (-SPAN_MS[one.level], one.start_ms))
    for one in by_size:
        span_ms = SPAN_MS[one.level]
        if span_ms > step_ms:
            continue
        above = [(level, floor(one.start_ms, size)) for level, size in SPAN_MS.items() if size > span_ms]
        if one.rolled and any(window in covered for window in above):
            continue
        covered.add((one.level, one.start_ms))
        chosen.append(one)
    return sorted(chosen)


def _step(length_ms: int, finest_ms: int) -> int:
    # A step that begins before the span and one that ends after it are two more.
    least_ms = length_ms / (MAX_POINTS - 1)
    for step_ms in _STEPS_MS:
        if step_ms % finest_ms == 0 and step_ms >= least_ms:
            return step_ms
    return math.ceil(least_ms / DAY_MS) * DAY_MS
