"""The process that holds one tool: `python -m benchmarks.drift.child QUESTION MODULE CONTESTANT`, to JSON."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from benchmarks.drift.contestants import (
    ROWS,
    WINDOW_ROWS,
    Contestant,
    Tool,
    normal,
    reference,
    samples,
    windows,
)

BUDGET_S = 2.0
SINGLY_S = 8.0
WINDOWS_S = 60.0
FULL_ROWS = 100
"""Rows taken singly before the clock starts: KSWIN tests nothing before it has as many."""
COMPANIONS = ("numpy", "scipy", "pandas")


def rate(contestant: Contestant) -> dict[str, float]:
    """Rows and rows a second: of the best whole call after a first one, or of as many single rows as fit."""
    rows = normal(FULL_ROWS + ROWS)
    take = contestant.feed(rows[FULL_ROWS:])
    if contestant.singly:
        return taken_singly(take, rows.astype(float).tolist())
    block = np.ascontiguousarray(rows[FULL_ROWS:])
    take(block)
    best_s, end_s = float("inf"), time.perf_counter() + BUDGET_S
    while True:
        started_s = time.perf_counter()
        take(block)
        now_s = time.perf_counter()
        best_s = min(best_s, now_s - started_s)
        if now_s > end_s:
            return {"rows": ROWS, "rate": ROWS / best_s}


def taken_singly(take: Callable[[Any], Any], rows: list[list[float]]) -> dict[str, float]:
    for row in rows[:FULL_ROWS]:
        take(row)
    done, started_s = FULL_ROWS, time.perf_counter()
    while done < len(rows) and time.perf_counter() - started_s < SINGLY_S:
        take(rows[done])
        done += 1
    return {"rows": done - FULL_ROWS, "rate": (done - FULL_ROWS) / (time.perf_counter() - started_s)}


def outlier(contestant: Contestant) -> dict[str, list[dict[str, Any]]]:
    assert contestant.read is not None
    before, cases = samples()
    return {name: [asdict(each) for each in contestant.read(before, live)] for name, live in cases.items()}


def clean(contestant: Contestant) -> dict[str, dict[str, float]]:
    """By rows a window: windows looked at in time, and which shares of them and of their features alarm."""
    assert contestant.alarms is not None
    result = {}
    for rows in WINDOW_ROWS:
        found, end_s = [], time.perf_counter() + WINDOWS_S
        for flags in contestant.alarms(reference(), windows(rows)):
            found.append(flags)
            if time.perf_counter() > end_s:
                break
        table = np.array(found)
        result[str(rows)] = {
            "windows": len(table),
            "any": float(table.any(axis=1).mean()),
            "feature": float(table.mean()),
            "half": float((table.mean(axis=1) >= 0.5).mean()),
        }
    return result


def versions(tool: Tool) -> dict[str, str]:
    """Give what is installed here: the tool first, then what it computes with."""
    found = {}
    for distribution in dict.fromkeys([tool.distribution, *COMPANIONS]):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    question, module, name = sys.argv[1:]
    tool: Tool = import_module(module).TOOL
    answers: dict[str, Callable[[Contestant], Any]] = {"rate": rate, "outlier": outlier, "clean": clean}
    if question == "versions":
        result: Any = versions(tool)
    else:
        result = answers[question](next(each for each in tool.contestants if each.name == name))
    print("\n" + json.dumps(result, default=lambda number: number.item()))


if __name__ == "__main__":
    main()
