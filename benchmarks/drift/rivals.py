"""What watches 32 features: rows a second, what one outlier does to it, and how often it cries wolf.

    python -m benchmarks.drift.rivals --install [--core N] [--only TEXT] [--markdown FILE]

--install makes an environment for each rival under .benchmarks/rivals (4 GB in all; 12 GB must be free) and
keeps it. Every measurement is a process of its own, pinned to one core, one thread, for a bounded time; what
does not install, import or end is listed with its reason. Rivals are told to tell nobody.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.drift.child import BUDGET_S, SINGLY_S
from benchmarks.drift.contestants import (
    FEATURES,
    OUTLIER,
    REFERENCE_ROWS,
    ROWS,
    SEED,
    WINDOW_ROWS,
    WINDOWS,
    Contestant,
    Tool,
)
from benchmarks.drift.environments import Unavailable, ask, install, pinned
from benchmarks.drift.tools import arrays, evidently, ks, nannyml, ours, river, whylogs
from benchmarks.serving.machine import commit, hardware
from benchmarks.serving.report import Grid

TOOLS = (ours.TOOL, arrays.TOOL, ks.TOOL, river.TOOL, whylogs.TOOL, evidently.TOOL, nannyml.TOOL)
WIDTH = 190
CASES = {"clean": "neither", "outlier": "outlier", "shift": "shift", "both": "shift and outlier"}


class Session:
    """One run: which tools are there, where they are pinned, and what each of them answered."""

    def __init__(self, console: Console, core: int, only: str) -> None:
        self._console = console
        self._core = core
        self._only = only.lower()
        self._ready: list[tuple[Tool, dict[str, str]]] = []
        self.missing: list[str] = []
        """A line for everything that could not be measured."""

    def prepare(self, wanted: bool) -> None:
        """Find the tools' versions; install what is missing if `wanted`."""
        for tool in TOOLS:
            if not any(self._picked(each) for each in tool.contestants):
                continue
            try:
                if wanted:
                    install(tool, self._say)
                self._ready.append((tool, ask(tool, self._core, "versions")))
            except Unavailable as reason:
                self.missing.append(f"{tool.name} ({' '.join(tool.requirements)}): {reason}")

    def answers(self, question: str, what: str) -> Iterator[tuple[Contestant, list[str], Any]]:
        """Give every contestant, its name and version, and what it answers to a question that it takes."""
        for tool, versions in self._ready:
            for each in tool.contestants:
                if not self._picked(each) or getattr(each, what) is None:
                    continue
                self._say(f"{question}: {each.name}")
                try:
                    found = ask(tool, self._core, question, each.name)
                except Unavailable as reason:
                    self.missing.append(f"{each.name}, {question}: {reason}")
                else:
                    yield each, [each.name, versions[tool.distribution]], found

    def facts(self) -> list[str]:
        """Machine, versions and command, a line each."""
        pin = f"pinned to core {self._core}" if pinned(self._core) else "not pinned: there is no taskset"
        packages = [
            f"{tool.name} ({', '.join(f'{name} {number}' for name, number in versions.items())})"
            for tool, versions in self._ready
        ]
        return [
            hardware(),
            f"fastserve: commit {commit()}",
            f"Python {platform.python_version()}, one process a measurement, {pin}, one thread, seed {SEED}",
            f"environments: {'; '.join(packages)}",
            f"command: python -m benchmarks.drift.rivals {' '.join(sys.argv[1:])}".rstrip(),
        ]

    def _picked(self, contestant: Contestant) -> bool:
        return self._only in contestant.name.lower()

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim", highlight=False, markup=False)


def rates(session: Session) -> Grid:
    """First table: rows a second."""
    own: float | None = None
    rows = []
    for each, name, found in session.answers("rate", "feed"):
        rate = found["rate"]
        own = rate if each is ours.OURS else own
        times = f"{own / rate:,.{0 if own / rate >= 100 else 1}f}" if own else "–"
        rows.append([*name, each.does, f"{found['rows']:,}", f"{rate:,.0f}", times])
    title = (
        f"Rows a second, {FEATURES} float32 features, the same {ROWS:,} rows: best call in {BUDGET_S:.0f} s "
        f"after one to warm up; row by row, as many as {SINGLY_S:.0f} s take"
    )
    return Grid(title, ["tool", "version", "what it computes", ">rows", ">rows/s", ">fastserve ÷ this"], rows)


def outliers(session: Session) -> Grid:
    """Second table: one absurd value beside a shift of one standard deviation, and alone."""
    rows: list[list[str]] = []
    for _, name, found in session.answers("outlier", "read"):
        measures = zip(*(found[case] for case in CASES), strict=True)
        rows.extend([*name, cases[0]["measure"], *map(reading, cases)] for cases in measures)
    live = f"{REFERENCE_ROWS + 1:,} rows"
    title = (
        f"A shift of 1 sd in {REFERENCE_ROWS:,} rows, and one value of {OUTLIER:g} that comes first of {live}"
    )
    return Grid(title, ["tool", "version", "measure", *(f">{said}" for said in CASES.values())], rows)


def reading(one: dict[str, Any]) -> str:
    value = f"{one['value']:,.0f}" if one["measure"].startswith("row") else f"{one['value']:.3f}"
    return value if one["alarm"] is None else f"{value} {'ALARM' if one['alarm'] else 'silent'}"


def false_alarms(session: Session) -> Grid:
    """Third table: windows in which nothing has happened."""
    rows = []
    for each, name, found in session.answers("clean", "alarms"):
        cells = []
        for one in (found[str(count)] for count in WINDOW_ROWS):
            seen = "" if one["windows"] == WINDOWS else f" (of {one['windows']})"
            cells += [f"{one['any']:.1%}{seen}", f"{one['feature']:.2%}", f"{one['half']:.1%}"]
        rows.append([*name, each.rule, *cells])
    columns = ["tool", "version", "it alarms at"]
    for count in WINDOW_ROWS:
        columns += [f">{count:,} rows: any alarm", ">a feature", ">half of them"]
    title = (
        f"False alarms: share of {WINDOWS} windows without any drift, {FEATURES} features, reference of "
        f"{REFERENCE_ROWS:,} rows"
    )
    return Grid(title, columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--install", action="store_true", help="install the rivals that are not there yet")
    parser.add_argument("--core", type=int, help="the core to pin to (the last this process may use)")
    parser.add_argument("--only", default="", help="contestants whose names hold this")
    parser.add_argument("--markdown", type=Path, help="write the tables there too")
    options = parser.parse_args()
    console = Console(stderr=False)
    if not console.is_terminal:
        console.width = WIDTH
    core = max(os.sched_getaffinity(0)) if options.core is None else options.core
    session = Session(console, core, options.only)
    session.prepare(options.install)
    grids = [grid for grid in (rates(session), outliers(session), false_alarms(session)) if grid.rows]
    for grid in grids:
        console.print(grid.rich())
    lines = [*session.missing, *session.facts()]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if options.markdown:
        tables = "\n".join(grid.markdown() for grid in grids)
        options.markdown.write_text(tables + "\n" + "".join(f"- {line}\n" for line in lines))


if __name__ == "__main__":
    main()
