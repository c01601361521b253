"""Rows a second of whatever can follow 32 features for drift here, and whether one outlier hides a shift.

    python -m benchmarks.drift.rivals [--core N] [--only TEXT]

Every contestant runs in a process of its own, pinned to one core, one thread, for a bounded time; what is not
installed or does not import is listed with its reason. Nothing is downloaded and nobody is told.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.drift.contestants import CONTESTANTS, FEATURES, SEED, Contestant, normal
from benchmarks.drift.outlier import OUTLIER, ROWS, THRESHOLD, WAYS, look

BUDGET_S = 2.0
LIMIT_S = 120.0
WINDOW_ROWS = 100  # KSWIN's, which tests nothing before it is full
WIDTH = 130
QUIET = {
    **dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"], "1"),
    "DO_NOT_TRACK": "1",
    "NML_DISABLE_USAGE_LOGGING": "1",
    "WHYLOGS_NO_ANALYTICS": "True",
}


def block_rate(contestant: Contestant) -> tuple[int, float]:
    """Rows a call and the seconds of the best call: one to warm up, then as many as fit the budget."""
    assert contestant.block is not None
    run = contestant.block(normal(contestant.rows))
    run()
    best_s, end_s = float("inf"), time.perf_counter() + BUDGET_S
    while True:
        started_s = time.perf_counter()
        run()
        now_s = time.perf_counter()
        best_s = min(best_s, now_s - started_s)
        if now_s > end_s:
            return contestant.rows, best_s


def row_rate(contestant: Contestant) -> tuple[int, float]:
    """Rows taken singly until they or the budget are used up, and their seconds; windows are full by then."""
    assert contestant.row is not None
    take, rows = contestant.row(), normal(WINDOW_ROWS + contestant.rows).astype(float).tolist()
    for row in rows[:WINDOW_ROWS]:
        take(row)
    del rows[:WINDOW_ROWS]
    done, started_s = 0, time.perf_counter()
    while done < len(rows) and time.perf_counter() - started_s < 2 * BUDGET_S:
        take(rows[done])
        done += 1
    return done, time.perf_counter() - started_s


def child(kind: str, name: str) -> None:
    """What the child process does: measure one, print JSON."""
    if kind == "rate":
        contestant = next(each for each in CONTESTANTS if each.name == name)
        rows, seconds = block_rate(contestant) if contestant.block else row_rate(contestant)
        result: Any = {"rows": rows, "rate": rows / seconds}
    else:
        result = [asdict(seen) for seen in look(name)]
    print(json.dumps(result))


def ask(core: int, kind: str, name: str, package: str, distribution: str) -> Any:
    """What the child found, or the reason in words why it found nothing."""
    if find_spec(package) is None:
        return f"not installed: pip install {distribution}"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.drift.rivals", "--child", kind, name]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=os.environ | QUIET,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {LIMIT_S:.0f} s"
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = lines[-1] if lines else f"exit code {done.returncode}"
    if done.returncode == 0:
        return json.loads(last)
    imports = last.startswith(("ImportError", "ModuleNotFoundError", "AttributeError"))
    return f"{'does not import' if imports else 'fails'}: {last}"


def installed(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "-"


def grid(title: str, words: list[str], numbers: list[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in words:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def show(console: Console, table: Table, absent: list[str]) -> None:
    if table.row_count:
        console.print(table)
    for line in absent:
        console.print(line, highlight=False, markup=False)


def rates(console: Console, core: int, only: str) -> None:
    """First table: rows a second."""
    title = f"Rows a second, {FEATURES} float32 features, one core"
    table = grid(title, ["", "version", "what it does"], ["rows", "rows/s", "fastserve is faster by"])
    ours: float | None = None
    absent = []
    for each in CONTESTANTS:
        if only.lower() not in each.name.lower():
            continue
        found = ask(core, "rate", each.name, each.package, each.distribution)
        if isinstance(found, str):
            absent.append(f"{each.name} {installed(each.distribution)}: {found}")
            continue
        rate = found["rate"]
        ours = rate if each.package == "fastserve_core" else ours
        numbers = [f"{found['rows']:,}", f"{rate:,.0f}", f"{ours / rate:,.1f}x" if ours else "-"]
        table.add_row(each.name, installed(each.distribution), each.does, *numbers)
    show(console, table, absent)


def outliers(console: Console, core: int) -> None:
    """Second table: one value of 1e3 beside a shift of one standard deviation."""
    title = f"A shift of 1 sd in {ROWS:,} rows, without and with one value of {OUTLIER:g} more"
    table = grid(title, ["", "measure"], ["without", "with", "seen without", "seen with"])
    absent = []
    for who in WAYS:
        package = "evidently" if who == "Evidently" else "numpy"
        found = ask(core, "outlier", who, package, package)
        if isinstance(found, str):
            absent.append(f"{who} {installed(package)}: {found}")
            continue
        for seen in found:
            values = (seen["clean"], seen["hidden"])
            drift = ["yes" if value >= THRESHOLD else "no" for value in values]
            table.add_row(who, seen["measure"], *[f"{value:.3f}" for value in values], *drift)
    show(console, table, absent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--core", type=int, help="the core to pin to (the last this process may use)")
    parser.add_argument("--only", default="", help="contestants whose names hold this")
    parser.add_argument("--child", nargs=2, metavar=("KIND", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    core = max(os.sched_getaffinity(0)) if options.core is None else options.core
    console = Console(width=WIDTH)
    rates(console, core, options.only)
    if not options.only:
        outliers(console, core)
    where = f"core {core} of {os.cpu_count()}, {platform.machine()}, Python {platform.python_version()}"
    console.print(f"{where}, seed {SEED}; best call of 2 s after one to warm up; row by row: 4 s at most")


if __name__ == "__main__":
    main()
