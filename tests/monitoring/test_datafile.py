"""What a data file is, by its name and its first bytes; a column that nobody asks for may be anything."""

from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import FastserveError
from fastserve.monitoring.columns import value_names
from fastserve.monitoring.datafile import MAX_COLUMNS, DataFile
from fastserve.types import DataType, TensorSpec

arrow: Any = pytest.importorskip("pyarrow", reason="data files are read by pyarrow")

from tests.monitoring.test_columns import csv, one, read, written  # noqa: E402


@pytest.mark.parametrize("delimiter", ["", "||", "é", '"', "\n"])
def test_what_cannot_part_columns_is_no_delimiter(tmp_path: Path, delimiter: str) -> None:
    with pytest.raises(FastserveError, match="the delimiter must be one character"):
        csv(tmp_path, "a\n", delimiter=delimiter)


def test_a_delimiter_is_of_text_alone_and_wins_over_the_name(tmp_path: Path) -> None:
    assert csv(tmp_path, "a;b\n", "rows.tsv", delimiter=";").names == ["a", "b"]
    assert DataFile(written(tmp_path, "parquet", {"x": [1.0]}), delimiter=";").kind == "Parquet"


@pytest.mark.parametrize(
    ("kind", "name"), [("parquet", "ROWS.PARQUET"), ("csv", "Rows.Csv"), ("csv.gz", "ROWS.CSV.GZ")]
)
def test_names_may_have_capitals(tmp_path: Path, kind: str, name: str) -> None:
    path = written(tmp_path, kind, {"x": [1.0, 2.0]}).rename(tmp_path / name)
    assert read(DataFile(path), one(DataType.FP32))[0].tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_column_that_is_not_read_may_be_damaged(tmp_path: Path, kind: str) -> None:
    columns = {"x": [1.0], "y": arrow.array([b"\xe8"]).view(arrow.string())}
    file = DataFile(written(tmp_path, kind, columns))
    assert read(file, one(DataType.FP32))[0].tolist() == [[1.0]]


def test_a_cell_may_be_a_document(tmp_path: Path) -> None:
    text = "a" * (3 * 2**20)
    assert read(csv(tmp_path, f"x\nshort\n{text}\n"), one(DataType.BYTES))[0][1, 0] == text


def test_latin_letters_in_the_head_are_told(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"\xe8,b\n1,2\n")
    with pytest.raises(FastserveError, match=r"rows.csv cannot be read as CSV"):
        read(DataFile(tmp_path / "rows.csv"), one(DataType.FP32, 2))


def test_how_many_rows_and_columns_there_are(tmp_path: Path) -> None:
    assert DataFile(written(tmp_path, "parquet", {"x": [1.0, 2.0]})).rows == 2
    assert csv(tmp_path, "a,b,c,d,e,f,g,h\n").listed() == "a, b, c, d, e, f, g, h"
    assert csv(tmp_path, "1,2\n", header=False).names == ["c0", "c1"]
    with pytest.raises(FastserveError, match="has 0 columns"):
        DataFile(written(tmp_path, "parquet", {}))
    with pytest.raises(FastserveError, match=f"has {MAX_COLUMNS + 1} columns"):
        csv(tmp_path, ",".join(map(str, range(MAX_COLUMNS + 1))) + "\n")
    with pytest.raises(FileNotFoundError):
        DataFile(tmp_path / "none.csv")


def test_a_lone_value_has_the_name_of_its_tensor() -> None:
    names = [value_names(TensorSpec("x", DataType.FP32, shape)) for shape in ((-1,), (-1, 1), (-1, 2))]
    assert names == [("x",), ("x",), ("x[0]", "x[1]")]
