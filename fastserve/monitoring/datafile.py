"""Rows of a Parquet, Arrow or CSV file in blocks, by pyarrow: memory goes by the block, not by the file."""

import importlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fastserve.errors import ConfigError, FastserveError

MAX_COLUMNS = 65_536

_KINDS = {
    **dict.fromkeys((".parquet", ".pq"), "Parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), "Arrow"),
    **dict.fromkeys((".csv", ".tsv"), "CSV"),
}
_CSV_BLOCK_BYTES = 8 * 2**20
_MAX_NAME = 256
_SHOWN = 8


class DataFile:
    """A file of rows with named columns, to be read any number of times; by one thread at a time.

    Parameters
    ----------
    path
        .parquet, .arrow, .feather, .csv, .tsv; CSV gzipped or not, and by any name with a delimiter.
    delimiter
        Of a CSV file, one character; without it a comma, or a tab for .tsv.
    header
        Whether the first line of a CSV file names the columns; else they are c0, c1, and so on.

    Raises
    ------
    FastserveError
        pyarrow is not installed; the file is of another kind, or broken.
    OSError
        The file cannot be read.
    """

    def __init__(self, path: Path, *, delimiter: str | None = None, header: bool = True) -> None:
        self.path = path
        self.kind = _kind_of(path, delimiter)
        """Parquet, Arrow or CSV; the values of CSV are text, whatever they stand for."""
        if self.kind != "CSV" and not header:
            raise ConfigError(f"{path.name} is {self.kind} and names its columns: leave out --no-header")
        if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n'):
            raise ConfigError(f"the delimiter must be one character such as ';', not {delimiter[:20]!r}")
        self._delimiter = delimiter or ("\t" if _suffix(path) == ".tsv" else ",")
        self._header = header
        self.rows: int | None = None
        """Where the file says how many it has."""
        with self._told():
            schema = self._schema()
        self.names: list[str] = schema.names
        self.types: dict[str, Any] = dict(zip(schema.names, schema.types, strict=True))
        """Arrow types by column."""
        if not 1 <= len(self.names) <= MAX_COLUMNS:
            raise FastserveError(f"{path.name} has {len(self.names)} columns; 1 to {MAX_COLUMNS} can be read")

    def check(self, columns: Iterable[str]) -> None:
        """Raise FastserveError unless every column is there, once, and has a name to show."""
        times = Counter(self.names)
        for name in columns:
            if name not in times:
                raise FastserveError(f"{self.path.name} has no column '{name[:128]}'; it has {self.listed()}")
            if times[name] > 1:
                raise FastserveError(f"{self.path.name} has {times[name]} columns named '{name[:128]}'")
            if not 1 <= len(name) <= _MAX_NAME:
                raise FastserveError(
                    f"{self.path.name} has a column with a name of {len(name)} characters; "
                    f"1 to {_MAX_NAME} can be shown"
                )

    def listed(self) -> str:
        """Say which columns there are, shortly."""
        shown = ", ".join(name[:128] or "''" for name in self.names[:_SHOWN])
        return shown + (f", … ({len(self.names)} in all)" if len(self.names) > _SHOWN else "")

    def blocks(
        self, columns: Sequence[str], block_rows: int, verbatim: Collection[str] = ()
    ) -> Iterator[list[Any]]:
        """Give the columns' values, at most `block_rows` rows at a time: one Arrow array a column.

        Empty cells of CSV, and NA, null, nan and the like, spaces around them or not, are missing, but not in
        the columns `verbatim`.

        Raises
        ------
        FastserveError
            The file is broken, or has lines of different lengths.
        """
        read = {"Parquet": self._read_parquet, "Arrow": self._read_arrow, "CSV": self._read_csv}[self.kind]
        with self._told():
            for batch in read(list(columns), block_rows):
                # Offsets, indices and text are read from the file as they stand there.
                batch.validate(full=True)
                for start in range(0, batch.num_rows, block_rows):
                    part = batch.slice(start, block_rows)
                    yield [self._cells(part.column(name), name in verbatim) for name in columns]

    def _cells(self, column: Any, verbatim: bool) -> Any:
        if self.kind != "CSV" or verbatim:
            return column
        compute = pyarrow("compute")
        absent = compute.is_in(compute.utf8_trim_whitespace(column), value_set=_absent())
        return compute.if_else(absent, pyarrow().scalar(None, column.type), column)

    def _schema(self) -> Any:
        if self.kind == "Parquet":
            with pyarrow("parquet").ParquetFile(str(self.path)) as file:
                self.rows = file.metadata.num_rows
                return file.schema_arrow
        if self.kind == "Arrow":
            with self._mapped() as reader:
                return reader.schema
        found = self._open_csv(None, []).schema
        names = found.names if self._header else [f"c{i}" for i in range(len(found))]
        return pyarrow().schema([(name, pyarrow().string()) for name in names])

    def _read_parquet(self, columns: list[str], block_rows: int) -> Iterator[Any]:
        with pyarrow("parquet").ParquetFile(str(self.path)) as file:
            yield from file.iter_batches(batch_size=block_rows, columns=columns)

    def _read_arrow(self, columns: list[str], _block_rows: int) -> Iterator[Any]:
        with self._mapped() as reader:
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i).select(columns)

    @contextmanager
    def _mapped(self) -> Iterator[Any]:
        arrow = pyarrow()
        with arrow.memory_map(str(self.path)) as source, arrow.ipc.open_file(source) as reader:
            yield reader

    def _read_csv(self, columns: list[str], _block_rows: int) -> Iterator[Any]:
        with self._open_csv(None if self._header else self.names, columns) as reader:
            yield from reader

    def _open_csv(self, names: list[str] | None, columns: list[str]) -> Any:
        csv, text = pyarrow("csv"), pyarrow().string()
        # By itself pyarrow takes .GZ for no compression.
        compression = "gzip" if _is_zipped(self.path) else "detect"
        return csv.open_csv(
            pyarrow().input_stream(str(self.path), compression=compression),
            read_options=csv.ReadOptions(block_size=_CSV_BLOCK_BYTES, column_names=names),
            # Without the second, pyarrow splits blocks at any line end, within quotes too.
            parse_options=csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(columns, text), include_columns=columns
            ),
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say of which file it was that pyarrow complained."""
        try:
            yield
        except (pyarrow().ArrowException, UnicodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise FastserveError(f"{self.path.name} cannot be read as {self.kind}: {reason[:500]}") from error


def pyarrow(module: str | None = None) -> Any:
    """Give pyarrow, or a module of it; FastserveError where it is not installed."""
    try:
        return importlib.import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError as error:
        raise FastserveError(
            "reading data files needs pyarrow, which is not installed: pip install 'fastserve[data]'"
        ) from error


@cache
def _absent() -> Any:
    """What stands for a missing value in CSV, as pyarrow has it."""
    return pyarrow().array(pyarrow("csv").ConvertOptions().null_values)


def _is_zipped(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _suffix(path: Path) -> str:
    """Give the suffix that says what a file is: of .csv.gz the first."""
    return Path(path.stem if _is_zipped(path) else path.name).suffix.lower()


def _kind_of(path: Path, delimiter: str | None) -> str:
    kind = _KINDS.get(_suffix(path))
    if kind is None and delimiter is not None:
        return "CSV"
    if kind is None or (_is_zipped(path) and kind != "CSV"):
        raise FastserveError(
            f"{path.name} must be .parquet, .arrow, .feather, .csv, .tsv or .csv.gz; "
            "for text by another name give its --delimiter"
        )
    return kind
