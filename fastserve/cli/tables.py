"""Tables in a terminal; what strangers wrote is shown as it is, never read as markup."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table
from rich.text import Text

from fastserve.text import visible

_PIPE_COLUMNS = 10_000
_MAX_CELL = 2_000
_GAP = 2
_NAME = 24


def show(*parts: RenderableType) -> None:
    """Print tables to standard output; into a pipe they are as wide as they need to be."""
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
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


def figure(value: float | None, form: str) -> str:
    """A number in a format such as `.4f`; a dash for none."""
    return "–" if value is None else f"{value:{form}}"


def share(part: int, rows: int) -> str:
    """Part of the rows, in per cent; a dash where there are none."""
    return f"{part / rows:.1%}" if rows else "–"


def size(count: int | None) -> str:
    """Bytes as a person reads them."""
    if count is None:
        return "–"
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
