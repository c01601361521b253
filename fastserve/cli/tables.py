"""How models look in a terminal; text from a registry is shown as it is, never read as markup."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fastserve.text import visible

_PIPE_COLUMNS = 200
_MAX_COLUMNS = 10_000
_MAX_CELL = 2_000
_GAP = 2
_NAME = 24


class Check(Protocol):
    """What `check_table` shows of one version that was looked at."""

    model: str
    version: int
    size_bytes: int
    signed: bool
    problem: str | None


def show(*parts: RenderableType) -> None:
    """Print tables to standard output; into a pipe they are as wide as they need to be."""
    console = Console()
    if not console.is_terminal:
        options = console.options.update(width=_MAX_COLUMNS, max_width=_MAX_COLUMNS)
        wanted = (Measurement.get(console, options, part).maximum for part in parts)
        console.width = min(_MAX_COLUMNS, max(_PIPE_COLUMNS, *wanted))
    console.print(*parts, sep="\n")


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str | Text]], *, right: Collection[int] = ()
) -> Table:
    """Make a table of plain text; the columns numbered in `right` are flush right."""
    made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for number, header in enumerate(headers):
        made.add_column(header, overflow="fold", justify="right" if number in right else "left")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    return made


class Fitting:
    """A name and figures a row, for any width: columns are left out, and named; only names are broken."""

    def __init__(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[str | Text]],
        *,
        right: Collection[str],
        spare: Sequence[str],
    ) -> None:
        """Show all that fits; `spare` are the headers that may be left out, in this order."""
        self._columns = dict(zip(headers, zip(*rows, strict=True), strict=True))
        self._right, self._spare = right, spare

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Say how wide the whole is."""
        width = sum(self._widths(self._columns))
        return Measurement(width, width).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Give what there is room for."""
        kept, left_out = dict(self._columns), list[str]()
        for header in self._spare:
            name, *figures = self._widths(kept)
            if min(name, _NAME) + sum(figures) <= options.max_width:
                break
            del kept[header]
            left_out.append(header)
        right = {place for place, header in enumerate(kept) if header in self._right}
        made = table(list(kept), list(zip(*kept.values(), strict=True)), right=right)
        for column in made.columns[1:]:
            column.no_wrap = True
        yield made
        if left_out:
            yield text(f"for {', '.join(left_out)} the terminal is too narrow", style="dim")

    @staticmethod
    def _widths(columns: Mapping[str, Sequence[str | Text]]) -> list[int]:
        """Of each column, with the gap before it."""
        widest = [max(cell_len(str(cell)) for cell in (header, *cells)) for header, cells in columns.items()]
        return [widest[0], *(width + _GAP for width in widest[1:])]


def text(value: str, style: str = "") -> Text:
    """Make a cell of what may come from a stranger's file: no markup, no control characters, no novel."""
    shown = value if len(value) <= _MAX_CELL else f"{value[:_MAX_CELL]}…"
    return Text(visible(shown), style=style)


def model_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line a version."""
    headers = ["MODEL", "VERSION", "ALIASES", "TAGS", "CREATED", "SIZE", "TAKES → GIVES"]
    cells = [
        [
            row["model"],
            "–" if row["version"] is None else str(row["version"]),
            _standing(row),
            _pairs(row["tags"]),
            row["created_at"] or "–",
            size(row["bytes"]),
            _summary(row),
        ]
        for row in rows
    ]
    return table(headers, cells, right={1, 5})


def fact_tables(facts: Mapping[str, Any]) -> list[RenderableType]:
    """Everything about one version: heading, tensors, files, provenance."""
    title = text(f"{facts['model']} version {facts['version']}", style="bold")
    heading = Text("\n").join([title, *(text(f"{word:<12} {value}") for word, value in _about(facts))])
    tensors = [
        [word, tensor["name"], tensor["datatype"], json.dumps(tensor["shape"])]
        for side, word in (("inputs", "takes"), ("outputs", "gives"))
        for tensor in facts["signature"][side]
    ]
    files = [[name, size(file["bytes"]), file["sha256"]] for name, file in facts["files"].items()]
    parts: list[RenderableType] = [
        heading,
        table(["", "TENSOR", "DATATYPE", "SHAPE"], tensors),
        table(["FILE", "SIZE", "SHA-256"], files),
    ]
    if facts["provenance"]:
        provenance = [[key, _value(value)] for key, value in facts["provenance"].items()]
        parts.append(table(["PROVENANCE", ""], provenance))
    return parts


def audit_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each thing that happened."""
    cells = [[str(row["seq"]), row["at"], row["by"], row["event"], _details(row["details"])] for row in rows]
    return table(["SEQ", "AT", "BY", "EVENT", "DETAILS"], cells, right={0})


def import_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each model file that was found."""
    cells: list[list[str | Text]] = []
    for row in rows:
        if row["problem"]:
            became = text(row["problem"], style="red")
        elif row["version"] is None:
            became = text("the next version", style="dim")
        else:
            became = text(f"version {row['version']}")
        cells.append([row["from"], row["model"], row["alias"] or "", became])
    return table(["FROM", "MODEL", "ALIAS", "BECAME"], cells)


def check_table(checks: Sequence[Check]) -> Table:
    """One line for each version that was looked at; what is wrong is told apart, in full."""
    cells = [
        [
            check.model,
            str(check.version),
            size(check.size_bytes),
            "yes" if check.signed else "no",
            text("broken", style="red") if check.problem else text("sound"),
        ]
        for check in checks
    ]
    return table(["MODEL", "VERSION", "SIZE", "SIGNED", "IS"], cells, right={1, 2})


def size(count: int | None) -> str:
    """Bytes as a person reads them."""
    if count is None:
        return "–"
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def _standing(row: Mapping[str, Any]) -> Text:
    """What a version is called, and why it is not served; no alias has parentheses."""
    said = [", ".join(row["aliases"])] if row["aliases"] else []
    if row["archived"]:
        said.append("(archived)")
    if not row["loaded"]:
        said.append("(unloaded)")
    return text(" ".join(said))


def _summary(row: Mapping[str, Any]) -> Text:
    if row["problem"]:
        return text(row["problem"], style="red")
    if row["inputs"] is None:
        return text("not published by fastserve; see `models show`", style="dim")
    return text(f"{_names(row['inputs'])} → {_names(row['outputs'])}")


def _about(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "path", facts["path"]
    for word in ("description", "owner"):
        if facts[word]:
            yield word, facts[word]
    yield "created", facts["created_at"] or "unknown"
    if facts["aliases"]:
        yield "aliases", ", ".join(facts["aliases"])
    if facts["tags"]:
        yield "tags", _pairs(facts["tags"])
    yield "signed", "yes" if facts["signed"] else "no"
    yield "profile", facts["profile"]["sha256"] if facts["profile"] else "none"
    if facts["archived"] or not facts["loaded"]:
        why = "the version is archived" if facts["archived"] else "the model is unloaded"
        yield "not served", why


def _details(details: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {'–' if value is None else _value(value)}" for key, value in details.items())


def _pairs(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={tags[key]}" for key in sorted(tags))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return shown + (f", … ({len(names)} in all)" if len(names) > 4 else "")
