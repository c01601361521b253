"""`fastserve monitor compare`: two data files side by side, without model or server."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastserve.cli.common import AsJson, Debug, note, print_json, say
from fastserve.cli.monitor.reading import (
    Bins,
    Columns,
    Delimiter,
    MaxCategories,
    NoHeader,
    open_data,
    split_names,
)
from fastserve.cli.progress import progress
from fastserve.errors import FastserveError

if TYPE_CHECKING:
    from fastserve.monitoring.columns import InputColumns
    from fastserve.monitoring.comparing import FeatureComparison
    from fastserve.monitoring.datafile import DataFile
    from fastserve.types import Array

EPILOG = (
    "Example: [bold]fastserve monitor compare train.parquet last_week.csv --columns age,income[/bold]"
    "\n\nFor each column, the worst first: PSI less what it comes to without drift, Jensen-Shannon distance, "
    "Hellinger, total variation, Kolmogorov-Smirnov, Wasserstein in the column's unit, chi-square; over bins "
    "of equally many reference rows. --exact takes Kolmogorov-Smirnov and Wasserstein over every value."
)
_HEADERS = ["FEATURE", "KIND", "PSI", "JS", "HELLINGER", "TV", "KS", "W1", "CHI²", "DF", "MISSING", "OUTSIDE"]
_SPARE = ["HELLINGER", "TV", "JS", "KIND", "DF", "CHI²", "W1", "KS", "OUTSIDE", "MISSING"]
_SHOWN = 200
_SHOWN_ODD = 8
_BOOLS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}

_Exact = Annotated[
    bool,
    typer.Option("--exact", help="Kolmogorov-Smirnov and Wasserstein of every value, not of bins."),
]


def compare(
    reference: Annotated[
        Path,
        typer.Argument(metavar="REFERENCE", exists=True, dir_okay=False, help="The rows to compare with."),
    ],
    live: Annotated[
        Path, typer.Argument(metavar="LIVE", exists=True, dir_okay=False, help="The rows that may differ.")
    ],
    *,
    columns: Columns = None,
    bins: Bins = 16,
    max_categories: MaxCategories = 1_000,
    exact: _Exact = False,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Say how far the rows of one data file lie from those of another, column by column."""
    first, second = (open_data(path, delimiter, no_header) for path in (reference, live))
    wanted = split_names(columns, "--columns") or _comparable(first)
    first.check(wanted)
    second.check(wanted)
    mapped = _tensors(first, wanted)
    found = _compared(first, second, mapped, bins, max_categories, exact, as_json)
    found.sort(key=lambda one: -one.severity)
    if as_json:
        print_json(
            {
                "reference": {"file": str(reference), "rows": found[0].reference.rows},
                "live": {"file": str(live), "rows": found[0].live.rows},
                "exact": exact,
                "features": [one.model_dump(mode="json") for one in found],
            }
        )
        return
    _print(found)


def _comparable(reference: "DataFile") -> list[str]:
    """All columns but those without a name and those of dates and the like, which are said to be left out."""
    from fastserve.monitoring.cells import is_category, is_number

    kinds = reference.types
    fit = {name for name in reference.names if name and (is_number(kinds[name]) or is_category(kinds[name]))}
    odd = [name for name in reference.names if name not in fit]
    if len(odd) == len(reference.names):
        raise FastserveError(f"{reference.path.name} has no column of numbers, text or bools to compare")
    for name in odd[:_SHOWN_ODD]:
        why = f"being of type {str(kinds[name])[:64]}" if name else "having no name"
        note(f"left out, {why}: column '{name[:128]}'")
    if len(odd) > _SHOWN_ODD:
        note(f"left out likewise: {len(odd) - _SHOWN_ODD} more columns")
    return [name for name in reference.names if name in fit]


def _tensors(reference: "DataFile", wanted: Sequence[str]) -> "list[InputColumns]":
    """Two tensors, of numbers and of categories: a column is what it is in the reference."""
    from fastserve.monitoring.cells import all_numbers, is_number
    from fastserve.monitoring.columns import BLOCK_ROWS, InputColumns
    from fastserve.types import DataType, TensorSpec

    if reference.kind == "CSV":
        numbers = set(wanted)
        for block in reference.blocks(wanted, BLOCK_ROWS):
            numbers -= {
                name
                for name, cells in zip(wanted, block, strict=True)
                if name in numbers and not all_numbers(cells)
            }
    else:
        numbers = {name for name in wanted if is_number(reference.types[name])}
    sides = {
        ("numbers", DataType.FP64): tuple(name for name in wanted if name in numbers),
        ("categories", DataType.BYTES): tuple(name for name in wanted if name not in numbers),
    }
    return [
        InputColumns(TensorSpec(name, datatype, (-1, len(names))), names)
        for (name, datatype), names in sides.items()
        if names
    ]


def _compared(
    first: "DataFile",
    second: "DataFile",
    mapped: "list[InputColumns]",
    bins: int,
    max_categories: int,
    exact: bool,
    quiet: bool,
) -> "list[FeatureComparison]":
    from fastserve.monitoring.building import Described, ProfileBuilder
    from fastserve.monitoring.comparing import compare as compare_tensor

    described = [Described(one.spec, "input", one.columns) for one in mapped]
    builder = ProfileBuilder(described, bins=bins, max_categories=max_categories)
    for block in _read(first, mapped, first.rows, quiet):
        builder.look(block)
    if not builder.rows:
        raise FastserveError(f"{first.path.name} has no rows")
    for block in _read(first, mapped, builder.rows, quiet):
        builder.count(block)
    profile = builder.profile(description=first.path.name)
    sketches = [tensor.sketch() for tensor in profile.tensors]
    for block in _read(second, mapped, second.rows, quiet):
        for sketch, rows in zip(sketches, block, strict=True):
            sketch.update(rows)
    if not sketches[0].rows:
        raise FastserveError(f"{second.path.name} has no rows")
    pairs = zip(profile.tensors, sketches, strict=True)
    found = [one for tensor, sketch in pairs for one in compare_tensor(tensor, sketch)]
    return _made_exact(found, first, second, mapped, quiet) if exact else found


def _made_exact(
    found: "list[FeatureComparison]",
    first: "DataFile",
    second: "DataFile",
    mapped: "list[InputColumns]",
    quiet: bool,
) -> "list[FeatureComparison]":
    """Put the distances of the samples themselves in the place of those of bins."""
    from fastserve.monitoring.exact import DistinctValues, exact_distances

    numbers = [one for one in mapped if one.spec.name == "numbers"]
    if not numbers:
        return found
    width = len(numbers[0].columns)
    sides = DistinctValues(width), DistinctValues(width)
    for side, file in zip(sides, (first, second), strict=True):
        for block in _read(file, numbers, file.rows, quiet):
            side.add(block[0])
    measured = exact_distances(*sides)
    # The numbers come first, and in their order.
    return [
        one.model_copy(
            update={"distances": {**one.distances, "kolmogorov_smirnov": distance, "wasserstein": moved}}
        )
        for one, (distance, moved) in zip(found[:width], measured, strict=True)
    ] + found[width:]


def _read(
    file: "DataFile", mapped: "Sequence[InputColumns]", rows: int | None, quiet: bool
) -> Iterator[list[Any]]:
    from fastserve.monitoring.columns import read_blocks
    from fastserve.types import DataType

    with progress(file.path.name, rows, "rows", quiet=quiet) as advance:
        for block in read_blocks(file, mapped):
            for one, values in zip(mapped, block, strict=True):
                if one.spec.datatype is DataType.BYTES:
                    _spell_bools(values)
            yield block
            advance(len(block[0]))


def _spell_bools(values: "Array") -> None:
    """Write True and TRUE of a CSV file as true, which is how the bools of other files are read."""
    for spelt, as_read in _BOOLS.items():
        values[values == spelt] = as_read


def _print(found: "Sequence[FeatureComparison]") -> None:
    from fastserve.cli.tables import Fitting, figure, share, show

    names = ["psi", "jensen_shannon", "hellinger", "total_variation", "kolmogorov_smirnov"]
    cells = [
        [
            one.feature,
            one.kind,
            *(figure(one.distances[name], "z.4f") for name in names),
            figure(one.distances["wasserstein"], ".4g"),  # in the column's unit: millionths or millions
            figure(one.distances["chi_square"], ".1f"),
            figure(one.distances["degrees"], ".0f"),
            " → ".join(share(side.missing, side.rows) for side in (one.reference, one.live)),
            " → ".join(share(side.outside, side.rows) for side in (one.reference, one.live)),
        ]
        for one in found[:_SHOWN]
    ]
    show(Fitting(_HEADERS, cells, right=_HEADERS[2:], spare=_SPARE))
    if len(found) > _SHOWN:
        say(f"… {len(found)} columns in all; --json shows them")
    say(f"{found[0].reference.rows} reference rows, {found[0].live.rows} live rows")
