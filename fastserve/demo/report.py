"""How the demo shows rows, answers and timings."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fastserve.types import Array


def answers(rows: Sequence[dict[str, Any]], v2: Array, v1: Array, late: Array) -> Table:
    """Rows [rows], the probability of being late by either endpoint, and what really happened."""
    table = _table("flight", "leaves", "miles", "wind", "rain", "pressure", "late /v2", "late /v1", "arrived")
    for row, by_v2, by_v1, truth in zip(rows, v2, v1, late, strict=True):
        table.add_row(
            f"{row['carrier']} {row['origin']}→{row['dest']}",
            f"{row['hour']:02.0f}:{row['minute']:02.0f}",
            f"{row['distance']:,.0f}",
            _number(row["wind_speed"], 1),
            _number(row["precip"], 2),
            _number(row["pressure"], 0),
            f"{by_v2:.1%}",
            f"{by_v1:.1%}",
            Text("late", style="red") if truth else Text("on time", style="green"),
        )
    return table


def timings(rows: Sequence[tuple[str, float, float]]) -> Table:
    """Median and 99th percentile in milliseconds, by endpoint."""
    table = _table("endpoint", "median ms", "p99 ms")
    for name, median_ms, p99_ms in rows:
        table.add_row(name, f"{median_ms:.2f}", f"{p99_ms:.2f}")
    return table


def commands(port: int, control_port: int, folder: Path) -> Text:
    """Commands to copy: what the model takes, the same row both ways, and what the control plane says."""
    control = f"http://127.0.0.1:{control_port}"
    base = f"http://127.0.0.1:{port}"
    lines = [
        f"curl {base}/v2/models/flights",
        f"curl {base}/v2/models/flights/infer -d @{shlex.quote(str(folder / 'v2.json'))}",
        f"curl {base}/v1/models/flights:predict -d @{shlex.quote(str(folder / 'v1.json'))}",
        f"curl {control}/metrics",
        f"fastserve monitor report flights --control {control}",
        f"fastserve monitor watch flights --control {control}",
    ]
    return Text("\nTry it:\n  " + "\n  ".join(lines), no_wrap=True, overflow="ignore")


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value == value else "missing"
