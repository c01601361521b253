"""What the verbs that read data files share: their options, and how these are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastserve.errors import ConfigError

if TYPE_CHECKING:
    from fastserve.monitoring.datafile import DataFile

Columns = Annotated[
    str | None,
    typer.Option("--columns", metavar="A,B,…", help="Columns of the file, in the order of a row's values."),
]
Bins = Annotated[
    int, typer.Option("--bins", metavar="N", min=1, max=1_024, help="Bins of a number, by quantiles.")
]
MaxCategories = Annotated[
    int,
    typer.Option(
        "--max-categories",
        metavar="N",
        min=1,
        max=1_000_000,
        help="The most frequent categories that are kept; others count as unseen.",
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option("--delimiter", metavar="CHARACTER", help="Between the values of a CSV file, such as ';'."),
]
NoHeader = Annotated[
    bool,
    typer.Option("--no-header", help="The first line of a CSV file has values: columns are c0, c1, …"),
]


def open_data(path: Path, delimiter: str | None, no_header: bool) -> "DataFile":
    """Open a data file; FastserveError when it cannot be read."""
    from fastserve.monitoring.datafile import DataFile

    return DataFile(path, delimiter=delimiter, header=not no_header)


def split_names(given: str | None, option: str) -> list[str] | None:
    """Part A,B,C; ConfigError for an empty name or one that comes twice."""
    if given is None:
        return None
    names = given.split(",")
    if "" in names:
        raise ConfigError(f"{option}: a name between the commas is empty")
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise ConfigError(f"{option}: '{twice[:128]}' comes twice")
    return names
