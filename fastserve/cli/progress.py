"""A bar that shows how far a long reading is, on stderr and only to a person."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

from fastserve.text import visible


class Advance(Protocol):
    """What to call after each part that was read."""

    def __call__(self, count: int, label: str | None = None) -> None:
        """Move the bar on; a label takes the place of the one before."""


@contextmanager
def progress(
    label: str, total: int | None, unit: Literal["bytes", "rows"], *, quiet: bool
) -> Iterator[Advance]:
    """Show a bar while the block runs; `total` is None where nobody knows it."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or total == 0 or not console.is_terminal:
        yield lambda count, label=None: None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    measure: list[ProgressColumn] = (
        [DownloadColumn(binary_units=True)] if unit == "bytes" else [MofNCompleteColumn(), TextColumn(unit)]
    )
    columns = TextColumn("{task.description}", markup=False), BarColumn(), *measure, TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(visible(label), total=total)

        def advance(count: int, label: str | None = None) -> None:
            shown.update(task, advance=count, description=None if label is None else visible(label))

        yield advance
