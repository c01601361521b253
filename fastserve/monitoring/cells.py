"""From the cells of one column, an Arrow array, to values of a tensor; what does not fit is told by row."""

import math
from typing import Any, NoReturn

import numpy as np

from fastserve.errors import FastserveError
from fastserve.monitoring.datafile import pyarrow
from fastserve.types import Array, DataType

_SHOWN = 40


def read_cells(column: Any, datatype: DataType, label: str, first_row: int) -> Array:
    """Give a column's values for an input.

    Parameters
    ----------
    column
        An Arrow array. Text stands for a number where the input takes numbers.
    datatype
        What the input takes.
    label
        Names file and column in errors.
    first_row
        The number of the first cell's row, the file's first row being 1.

    Returns
    -------
    array [rows]
        Of the datatype's dtype. Missing: NaN of floats, None of text. Floats are rounded to the datatype.

    Raises
    ------
    FastserveError
        A cell is missing where the input takes integers or bools, is no number, is not whole, is out of the
        datatype's range, or the column is of a type that no tensor has.
    """
    cells = _Cells(column, datatype, label, first_row)
    if datatype is DataType.BYTES:
        return cells.text()
    if datatype.is_float:
        return cells.floats()
    return cells.bools() if datatype is DataType.BOOL else cells.whole()


def is_number(kind: Any) -> bool:
    """Whether an Arrow type is one of numbers; bool is none."""
    types = pyarrow("types")
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def is_category(kind: Any) -> bool:
    """Whether values of an Arrow type can be categories: text, bools, whole numbers, or none at all."""
    types = pyarrow("types")
    if types.is_dictionary(kind):
        kind = kind.value_type
    known = (types.is_string, types.is_large_string, types.is_boolean, types.is_integer, types.is_null)
    return kind == "string_view" or any(check(kind) for check in known)


def all_numbers(column: Any) -> bool:
    """Whether every cell of a column of text stands for a number, or is missing."""
    try:
        _trimmed(column).cast(pyarrow().float64())
    except pyarrow().ArrowInvalid:
        return False
    return True


class _Cells:
    def __init__(self, column: Any, datatype: DataType, label: str, first_row: int) -> None:
        types = pyarrow("types")
        self._column = column.dictionary_decode() if types.is_dictionary(column.type) else column
        kind = self._column.type
        if types.is_null(kind):
            self._column, kind = self._column.cast(pyarrow().string()), pyarrow().string()
        self._is_text = bool(types.is_string(kind) or types.is_large_string(kind) or kind == "string_view")
        self._is_bool = bool(types.is_boolean(kind))
        self._is_whole = bool(types.is_integer(kind))
        if not (self._is_text or self._is_bool or is_number(kind)):
            raise FastserveError(f"{label} is of type {str(kind)[:64]}, which no tensor has")
        self._datatype = datatype
        self._label = label
        self._first_row = first_row

    def text(self) -> Array:
        if not (self._is_text or self._is_bool or self._is_whole):
            raise FastserveError(f"{self._label} is of type {self._column.type}, where text is taken")
        values = np.empty(len(self._column), object)
        values[:] = self._column.cast(pyarrow().string()).to_pylist()
        return values

    def floats(self) -> Array:
        exact = self._doubles()
        with np.errstate(over="ignore"):
            made = exact.astype(self._datatype.dtype)
        self._refuse(np.isinf(made) & np.isfinite(exact), f"is out of the range of {self._datatype}")
        return made

    def whole(self) -> Array:
        self._refuse(self._missing(), f"is missing, which {self._datatype} cannot be")
        dtype, bounds = self._datatype.dtype, np.iinfo(self._datatype.dtype)
        outside = f"is out of the range of {self._datatype}"
        if self._is_whole or self._is_text:
            wide = pyarrow().uint64() if dtype == np.uint64 else pyarrow().int64()
            try:
                values = self._numpy(self._cast(wide))
            except pyarrow().ArrowInvalid:
                if self._is_text:
                    return self._whole_texts()
                self._refuse_uncastable(wide, outside)
            self._refuse((values < bounds.min) | (values > bounds.max), outside)
            return values.astype(dtype)
        exact = self._doubles()
        self._refuse(~(exact == np.trunc(exact)), "is not a whole number")
        # Beyond 2**53 a float that is whole may have been another number once.
        self._refuse(
            (exact < float(bounds.min)) | (exact > min(float(bounds.max), 2.0**53)) | (exact < -(2.0**53)),
            f"{outside}, or too large for a float to say",
        )
        return exact.astype(dtype)

    def _whole_texts(self) -> Array:
        """Whole numbers of text that is not all digits, such as 1.0; or find what is wrong with it."""
        bounds = np.iinfo(self._datatype.dtype)
        values = np.empty(len(self._column), self._datatype.dtype)
        for at, cell in enumerate(self._column.to_pylist()):
            value = _number(cell)
            if value is None:
                self._raise(at, "is not a number")
            elif value != value or (math.isfinite(value) and value != int(value)):
                self._raise(at, "is not a whole number")
            elif not bounds.min <= value <= bounds.max:
                self._raise(at, f"is out of the range of {self._datatype}")
            else:
                values[at] = int(value)
        return values

    def bools(self) -> Array:
        self._refuse(self._missing(), "is missing, which BOOL cannot be")
        if self._is_text:
            try:
                return self._numpy(self._cast(pyarrow().bool_()))
            except pyarrow().ArrowInvalid:
                self._refuse_uncastable(pyarrow().bool_(), "is neither true nor false")
        exact = self._doubles()
        self._refuse((exact != 0) & (exact != 1), "is neither 0 nor 1")
        made: Array = exact != 0
        return made

    def _doubles(self) -> Array:
        """Numbers as float64, NaN where missing."""
        double = pyarrow().float64()
        column = self._column
        if self._is_whole or self._is_bool:
            filled = self._numpy(column.fill_null(False if self._is_bool else 0)).astype(np.float64)
            filled[self._missing()] = np.nan
            return filled
        if pyarrow("types").is_decimal(column.type):
            # Arrow's own cast is beside the nearest double, which a request has: of prices, one in eight.
            return self._numpy(column.cast(pyarrow().string()).cast(double))
        try:
            exact = self._numpy(self._cast(double))
        except pyarrow().ArrowInvalid:
            self._refuse_uncastable(double, "is not a number")
        if self._is_text and np.isinf(exact).any():
            infinite = pyarrow("compute").match_substring(self._column, "inf", ignore_case=True)
            said = self._numpy(infinite.fill_null(False))
            self._refuse(np.isinf(exact) & ~said, f"is out of the range of {self._datatype}")
        return exact

    def _cast(self, kind: Any) -> Any:
        try:
            return self._column.cast(kind)
        except pyarrow().ArrowInvalid:
            if not self._is_text:
                raise
            self._column = _trimmed(self._column)
            return self._column.cast(kind)

    def _missing(self) -> Array:
        return self._numpy(self._column.is_null())

    def _numpy(self, column: Any) -> Array:
        made: Array = column.to_numpy(zero_copy_only=False)
        return made

    def _refuse(self, wrong: Array, why: str) -> None:
        if wrong.any():
            self._raise(int(np.argmax(wrong)), why)

    def _refuse_uncastable(self, kind: Any, why: str) -> NoReturn:
        """Raise, naming the first cell that cannot be cast: it lies in the half that cannot."""
        low, high = 0, len(self._column)
        while high - low > 1:
            middle = (low + high) // 2
            try:
                self._column.slice(low, middle - low).cast(kind)
            except pyarrow().ArrowInvalid:
                high = middle
            else:
                low = middle
        self._raise(low, why)

    def _raise(self, at: int, why: str) -> NoReturn:
        cell = self._column[at]
        said = repr(str(cell.as_py())[:_SHOWN]) + " " if cell.is_valid else ""
        raise FastserveError(f"{self._label}, row {self._first_row + at}: {said}{why}")


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text) if "_" not in text else None
        except ValueError:
            continue
    return None


def _trimmed(column: Any) -> Any:
    return pyarrow("compute").utf8_trim_whitespace(column)
