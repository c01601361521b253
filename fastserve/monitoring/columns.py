"""From the columns of a data file to a model's inputs: which column is which value of which tensor."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from fastserve.errors import InvalidProfile
from fastserve.monitoring.cells import read_cells
from fastserve.monitoring.datafile import DataFile
from fastserve.types import Array, DataType, TensorSpec

BLOCK_ROWS = 65_536
_BLOCK_VALUES = 2**22
_TEXT_ROWS = 4_096
"""A text may be a document."""


@dataclass(frozen=True, slots=True)
class InputColumns:
    """One input, and the columns that a row of it is made of."""

    spec: TensorSpec
    columns: tuple[str, ...]


def row_width(spec: TensorSpec, role: str = "input") -> int:
    """Give the values a row of a batched tensor has; InvalidProfile when that is not fixed."""
    row = spec.shape[1:]
    if not spec.shape or any(size < 0 for size in row):
        raise InvalidProfile(
            f"{role} '{spec.name}' has the shape {list(spec.shape)}: no fixed number of values a row"
        )
    return math.prod(row)


def value_names(spec: TensorSpec) -> tuple[str, ...]:
    """Name the values of a row, a fixed number of them: by their places, a lone one by its tensor."""
    places = list(np.ndindex(*spec.shape[1:]))
    if len(places) == 1:
        return (spec.name,)
    return tuple(f"{spec.name}[{','.join(map(str, place))}]" for place in places)


def map_columns(
    file: DataFile, inputs: Sequence[TensorSpec], wanted: Sequence[str] | None = None
) -> list[InputColumns]:
    """Find the columns that feed a model's inputs.

    Parameters
    ----------
    file
        Only its names are read.
    inputs
        All batched.
    wanted
        Columns in the order of the inputs' values. Without them each input must be a column of its own name,
        other columns being ignored, or the file must have just the columns of a single input, in their order.

    Raises
    ------
    InvalidProfile
        The file has not what the model takes; names the column or says what to do.
    FastserveError
        A column that is not there or there twice.
    """
    widths = [row_width(spec) for spec in inputs]
    if wanted is None:
        wanted = _found(file, inputs, widths)
    if len(wanted) != sum(widths):
        takes = ", ".join(f"'{spec.name}' {width}" for spec, width in zip(inputs, widths, strict=True))
        raise InvalidProfile(
            f"--columns names {len(wanted)} columns, the model takes {sum(widths)} values a row: {takes}"
        )
    file.check(wanted)
    names, pairs = iter(wanted), zip(inputs, widths, strict=True)
    return [InputColumns(spec, tuple(islice(names, width))) for spec, width in pairs]


def read_blocks(
    file: DataFile, mapped: Sequence[InputColumns], *, served: bool = False
) -> Iterator[list[Array]]:
    """Read the file once, block by block.

    Parameters
    ----------
    file
        Any.
    mapped
        Which of its columns, and as what.
    served
        Text as requests have it: an empty cell and a missing one are empty text, and NA is those two letters.

    Returns
    -------
    iterator of lists of arrays
        An array [rows, ...] for each input, of its dtype; text is `str`, and None where it is missing, a
        number NaN where it is.

    Raises
    ------
    FastserveError
        The file is broken, or a cell is not what the input takes; names column and row.
    """
    names = list(dict.fromkeys(name for one in mapped for name in one.columns))
    texts = {name for one in mapped if one.spec.datatype is DataType.BYTES for name in one.columns}
    most = min(BLOCK_ROWS, _TEXT_ROWS) if texts else BLOCK_ROWS
    rows_a_block = max(1, min(most, _BLOCK_VALUES // max(1, len(names))))
    first = 1
    for arrays in file.blocks(names, rows_a_block, texts if served else ()):
        cells = dict(zip(names, arrays, strict=True))
        rows = len(arrays[0])
        made = [_input(file, one, cells, rows, first) for one in mapped]
        yield _without_missing(made) if served else made
        first += rows


def _without_missing(arrays: Sequence[Array]) -> list[Array]:
    """Put empty text in the place of missing text, which no request can send."""
    return [np.where(array == None, "", array) if array.dtype == object else array for array in arrays]  # noqa: E711


def _input(file: DataFile, one: InputColumns, cells: dict[str, object], rows: int, first: int) -> Array:
    made = np.empty((rows, len(one.columns)), one.spec.datatype.dtype)
    for i, name in enumerate(one.columns):
        made[:, i] = read_cells(cells[name], one.spec.datatype, f"{file.path.name}: column '{name}'", first)
    return made.reshape(rows, *one.spec.shape[1:])


def _found(file: DataFile, inputs: Sequence[TensorSpec], widths: Sequence[int]) -> list[str]:
    names = [spec.name for spec in inputs]
    missing = [name for name in names if name not in file.names]
    single = len(inputs) == 1
    if not missing and all(width == 1 for width in widths):
        return names
    for found in (list(file.names), [name for name in file.names if name]):  # pandas gives its index no name
        if single and len(found) == widths[0]:
            return found
    if single:
        raise InvalidProfile(
            f"{file.path.name} has {len(file.names)} columns, input '{names[0]}' takes {widths[0]}: "
            f"name them in their order with --columns A,B,…; the file has {file.listed()}"
        )
    if all(width == 1 for width in widths):
        raise InvalidProfile(
            f"{file.path.name} has no column '{missing[0]}', which the model takes; it has {file.listed()}"
        )
    raise InvalidProfile(
        f"the model's inputs are not one column each: name the {sum(widths)} columns of all of them "
        "in their order with --columns A,B,…"
    )
