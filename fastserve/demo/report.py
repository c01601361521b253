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
    table = Table(title="Flights of March, which the model has never seen", title_justify="left")
    for name in ("flight", "planned", "miles", "wind mph", "rain in", "pressure"):
        table.add_column(name, justify="left" if name == "flight" else "right")
    for name in ("late? /v2", "late? /v1", "arrived"):
        table.add_column(name, justify="right", style="bold" if name != "arrived" else "")
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


def timings(rows: Sequence[tuple[str, float, float]], requests: int) -> Table:
    """Median and 99th percentile in milliseconds, by endpoint."""
    table = Table(title=f"One row a request, {requests} requests on one connection", title_justify="left")
    for name in ("endpoint", "median ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "endpoint" else "right")
    for name, median_ms, p99_ms in rows:
        table.add_row(name, f"{median_ms:.2f}", f"{p99_ms:.2f}")
    return table


def curl_lines(port: int, folder: Path) -> Text:
    """Commands to copy: the same row both ways, and what the model takes."""
    base = f"http://127.0.0.1:{port}"
    lines = [
        f"curl {base}/v2/models/flights",
        f"curl {base}/v2/models/flights/infer -d @{shlex.quote(str(folder / 'v2.json'))}",
        f"curl {base}/v1/models/flights:predict -d @{shlex.quote(str(folder / 'v1.json'))}",
    ]
    return Text("\nTry it:\n  " + "\n  ".join(lines), no_wrap=True, overflow="ignore")


def _number(value: float | None, digits: int) -> str:
    return "missing" if value is None else f"{value:.{digits}f}"
