"""river: detectors that take one value of one feature at a time and test at every one."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.drift.contestants import FEATURES, Contestant, Flags, Matrix, Reading, Sample, Tool, library

MEASURE = "row of the first alarm, or of the end"
PRIME_ROWS = {"KSWIN": 100}  # all that its window holds; the others see the whole reference


def detectors(kind: str) -> list[Any]:
    settings = {"seed": 1} if kind == "KSWIN" else {}
    return [getattr(library("river.drift"), kind)(**settings) for _ in range(FEATURES)]


def watch(mine: list[Any], rows: Matrix) -> Flags:
    """Go on with these rows; gives the features that alarmed."""
    found = np.zeros(FEATURES, bool)
    for f, detector in enumerate(mine):
        for value in rows[:, f].tolist():
            detector.update(value)
            found[f] |= detector.drift_detected
    return found


def contestant(kind: str) -> Contestant:
    def feed(rows: Matrix) -> Callable[[Any], Any]:
        updates = [each.update for each in detectors(kind)]

        def take(row: Any) -> None:
            for update, value in zip(updates, row, strict=True):
                update(value)

        return take

    def read(before: Sample, live: Sample) -> list[Reading]:
        detector = detectors(kind)[0]
        for value in before[-PRIME_ROWS.get(kind, len(before)) :].tolist():
            detector.update(value)
        for row, value in enumerate(live.tolist(), 1):
            detector.update(value)
            if detector.drift_detected:
                return [Reading(MEASURE, row, True)]
        return [Reading(MEASURE, len(live), False)]

    def alarms(before: Matrix, windows: list[Matrix]) -> Iterator[Flags]:
        mine = detectors(kind)
        watch(mine, before[-PRIME_ROWS.get(kind, len(before)) :])
        return (watch(mine, rows) for rows in windows)

    return Contestant(f"river {kind}", "a test at every row", "any alarm in it", feed, read, alarms, True)


CONTESTANTS = tuple(contestant(kind) for kind in ("ADWIN", "PageHinkley", "KSWIN"))
TOOL = Tool("river", "river", __name__, CONTESTANTS, ("river==0.26.1",))
