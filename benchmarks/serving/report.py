"""Results as tables: rich ones for the terminal, Markdown ones for benchmarks/README.md."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.serving.figures import Outcome
from benchmarks.serving.rig import IN_PROCESS, Lane, Race

BUSY = 0.95
"""Above this share of its core the load generator, not the server, may be what is measured."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table before it is drawn; columns that start with `>` are aligned to the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        names = [column.lstrip(">") for column in self.columns]
        rules = ["---:" if column.startswith(">") else "---" for column in self.columns]
        lines = [f"| {' | '.join(cells)} |" for cells in (names, rules, *self.rows)]
        return f"### {self.title}\n\n" + "\n".join(lines) + "\n"

    def rich(self) -> Table:
        """The table for a terminal."""
        table = Table(title=self.title, title_justify="left")
        for column in self.columns:
            table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left")
        for row in self.rows:
            table.add_row(*row)
        return table


def figures_grid(outcomes: Sequence[Outcome]) -> Grid:
    """Promise by promise: measured, required, kept or missed."""
    columns = ["#", "what", ">measured", ">lowest – highest", ">required", "", "note"]
    return Grid(
        "Figures (medians of the ratios within each repetition)",
        columns,
        [_figure(each) for each in outcomes],
    )


def _figure(outcome: Outcome) -> list[str]:
    if outcome.ratio is None:
        return [str(outcome.figure), outcome.what, "–", "–", "–", "MISS", outcome.note]
    ratio = outcome.ratio
    spread = f"{ratio.low:.3g} – {ratio.high:.3g}"
    required = f"{'≥' if outcome.at_least else '≤'} {outcome.required:g}"
    verdict = "pass" if outcome.passed else "MISS"
    return [str(outcome.figure), outcome.what, f"{ratio.median:.3g}", spread, required, verdict, outcome.note]


def races_grid(races: Sequence[Race]) -> Grid:
    """Lane by lane: medians over the repetitions, and fastserve's rows a second divided by this lane's."""
    columns = ["case", "server", ">conn.", ">requests/s", ">rows/s", ">p50 µs", ">p99 µs", ">RSS MiB"]
    columns += [">server busy", ">wrk busy", ">fastserve ÷ this"]
    rows = [_lane(race, lane) for race in races for lane in race.samples]
    return Grid("Measurements (medians)", columns, rows)


def _lane(race: Race, lane: Lane) -> list[str]:
    name, number = lane
    busy = race.median(lane, "load_busy")
    return [
        race.title,
        f"{name}, batch {number}" if name == IN_PROCESS else name,
        "" if name == IN_PROCESS else str(number),
        f"{race.median(lane, 'requests_per_s'):,.0f}",
        f"{race.median(lane, 'rows_per_s'):,.0f}",
        f"{race.median(lane, 'p50_us'):,.1f}",
        f"{race.median(lane, 'p99_us'):,.0f}",
        f"{race.median(lane, 'rss_bytes') / 2**20:.0f}",
        f"{race.median(lane, 'server_busy'):.0%}",
        "" if name == IN_PROCESS else f"{busy:.0%}{' (!)' if busy > BUSY else ''}",
        _against(race, lane),
    ]


def _against(race: Race, lane: Lane) -> str:
    """Rows a second of fastserve (same connections; its best against in-process) divided by this lane's."""
    ours = ("fastserve", lane[1])
    if lane[0] == IN_PROCESS and any(name == "fastserve" for name, _ in race.samples):
        ours = race.best("fastserve")
    if ours not in race.samples or ours == lane:
        return ""
    return f"{race.ratio(ours, lane, 'rows_per_s').median:.2f}"


NOTES = (
    "In-process: the model alone in one process on the server's core, no server; its p50 is one batch.",
    "Busy: share of one core; (!) marks runs where wrk used more than 95 %, so that the server may do more.",
)


def show(facts: Sequence[str], grids: Sequence[Grid]) -> None:
    """Print everything to the terminal, or wide enough for every column where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = 180
    for grid in grids:
        if grid.rows:
            console.print(grid.rich())
    for line in (*NOTES, *facts):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def markdown(facts: Sequence[str], grids: Sequence[Grid]) -> str:
    """Everything as Markdown."""
    tables = [grid.markdown() for grid in grids if grid.rows]
    return "\n".join([*tables, *NOTES, "", *(f"- {fact}" for fact in facts)]) + "\n"
