"""A data file feeds a model's inputs by name or by order; what does not fit is told by column and row."""

import gzip
import importlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastserve.errors import FastserveError, InvalidProfile
from fastserve.monitoring.cells import all_numbers, is_category
from fastserve.monitoring.columns import map_columns, read_blocks
from fastserve.monitoring.datafile import DataFile
from fastserve.types import DataType, TensorSpec

arrow: Any = pytest.importorskip("pyarrow", reason="data files are read by pyarrow")
parquet: Any = importlib.import_module("pyarrow.parquet")
feather: Any = importlib.import_module("pyarrow.feather")
text_format: Any = importlib.import_module("pyarrow.csv")

BY_NAME = [
    TensorSpec("carrier", DataType.BYTES, (-1, 1)),
    TensorSpec("distance", DataType.FP32, (-1, 1)),
    TensorSpec("hour", DataType.INT64, (-1,)),
    TensorSpec("late", DataType.BOOL, (-1, 1)),
]
COLUMNS = {
    "late": [True, False, True],
    "ignored": [9.0, 9.0, 9.0],
    "hour": [5, 6, 7],
    "distance": [1.5, None, 2.5],
    "carrier": ["UA", None, 'naïve, "quoted"'],
}


def written(folder: Path, kind: str, columns: dict[str, Any]) -> Path:
    table = arrow.table(columns)
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path, row_group_size=2)
    elif kind == "arrow":
        with arrow.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, 2)
    elif kind == "feather":
        feather.write_feather(table, str(path))
    else:
        text_format.write_csv(table, str(path))
        if kind == "csv.gz":
            path.write_bytes(gzip.compress(path.read_bytes()))
    return path


def csv(folder: Path, text: str, name: str = "rows.csv", **options: Any) -> DataFile:
    path = folder / name
    path.write_text(text)
    return DataFile(path, **options)


def read(
    file: DataFile, inputs: Sequence[TensorSpec], wanted: Sequence[str] | None = None
) -> list[NDArray[Any]]:
    blocks = list(read_blocks(file, map_columns(file, inputs, wanted)))
    return [np.concatenate(arrays) for arrays in zip(*blocks, strict=True)]


def one(datatype: DataType, width: int = 1, name: str = "x") -> list[TensorSpec]:
    return [TensorSpec(name, datatype, (-1, width))]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather", "csv", "csv.gz"])
def test_inputs_are_found_by_their_names(tmp_path: Path, kind: str) -> None:
    file = DataFile(written(tmp_path, kind, COLUMNS))
    carrier, distance, hour, late = read(file, BY_NAME)
    assert carrier.tolist() == [["UA"], [None], ['naïve, "quoted"']]
    assert distance.dtype == np.float32
    np.testing.assert_array_equal(distance[:, 0], [1.5, np.nan, 2.5])
    assert hour.dtype == np.int64
    assert hour.tolist() == [5, 6, 7]
    assert late.tolist() == [[True], [False], [True]]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_text_is_read_as_requests_have_it(tmp_path: Path, kind: str) -> None:
    """No tensor of text can hold a missing value: a profile with one would be of rows that cannot be served."""
    texts = ["UA", None, "", "NA", "null", "nan"]
    file = DataFile(written(tmp_path, kind, {"carrier": texts, "hour": [1.5, None, 2.0, 3.0, 4.0, 5.0]}))
    mapped = map_columns(
        file, [TensorSpec("carrier", DataType.BYTES, (-1, 1)), *one(DataType.FP32, 1, "hour")]
    )
    ((carrier, hour),) = read_blocks(file, mapped, served=True)
    assert carrier[:, 0].tolist() == ["UA", "", "", "NA", "null", "nan"]
    np.testing.assert_array_equal(hour[:, 0], [1.5, np.nan, 2.0, 3.0, 4.0, 5.0])
    ((carrier, _),) = read_blocks(file, mapped)
    absent = ["UA", None, "", "NA", "null", "nan"] if kind == "parquet" else ["UA", *[None] * 5]
    assert carrier[:, 0].tolist() == absent


def test_na_is_a_missing_number(tmp_path: Path) -> None:
    file = csv(tmp_path, "x,t\n1,NA\nNA,a\n,b\nnull,c\n")
    mapped = map_columns(file, [*one(DataType.FP64), *one(DataType.BYTES, 1, "t")])
    ((x, t),) = read_blocks(file, mapped, served=True)
    np.testing.assert_array_equal(x[:, 0], [1, np.nan, np.nan, np.nan])
    assert t[:, 0].tolist() == ["NA", "a", "b", "c"]


def test_lines_may_end_within_quotes_in_large_files_too(tmp_path: Path) -> None:
    """Where the blocks that a file is read in meet, above all."""
    texts = ["x" * 50 + "\n" + "y" * 50 + '\nz,""q""'] * 60_000
    file = csv(tmp_path, "x,t\n" + "".join(f'{row},"{text}"\n' for row, text in enumerate(texts)))
    assert file.path.stat().st_size > 6 * 2**20
    from fastserve.monitoring import datafile

    for small in (datafile._CSV_BLOCK_BYTES, 2**20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(datafile, "_CSV_BLOCK_BYTES", small)
            rows, seen = 0, set[str]()
            for numbers, words in file.blocks(["x", "t"], 10_000, verbatim={"t"}):
                assert numbers.to_pylist() == [str(row) for row in range(rows, rows + len(numbers))]
                rows += len(numbers)
                seen |= set(words.unique().to_pylist())
        assert rows == len(texts)
        assert seen == {texts[0].replace('""', '"')}


def test_spaces_are_no_value(tmp_path: Path) -> None:
    file = csv(tmp_path, "x,t\n 1 , a \n  ,\tb\n NA ,  \n")
    (block,) = file.blocks(["x", "t"], 10, verbatim={"t"})
    assert [one.to_pylist() for one in block] == [[" 1 ", None, None], [" a ", "\tb", "  "]]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "csv"])
def test_rows_come_in_blocks_and_in_order(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.monitoring.columns.BLOCK_ROWS", 10)
    file = DataFile(written(tmp_path, kind, {"x": list(range(95))}))
    mapped = map_columns(file, one(DataType.FP64))
    for _ in range(2):
        blocks = [block[0][:, 0] for block in read_blocks(file, mapped)]
        assert max(map(len, blocks)) == 10 or kind == "arrow"
        assert np.concatenate(blocks).tolist() == list(range(95))


def test_blocks_of_wide_files_have_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = csv(tmp_path, "a,b,c\n" + "1,2,3\n" * 10)
    for values, rows in ((12, [4, 4, 2]), (1, [1] * 10)):
        monkeypatch.setattr("fastserve.monitoring.columns._BLOCK_VALUES", values)
        assert [
            len(block) for (block,) in read_blocks(file, map_columns(file, one(DataType.FP32, 3)))
        ] == rows


def test_blocks_of_text_have_fewer_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.monitoring.columns._TEXT_ROWS", 4)
    file = DataFile(written(tmp_path, "parquet", {"x": ["1"] * 10}))
    for datatype, rows in ((DataType.BYTES, [4, 4, 2]), (DataType.FP32, [10])):
        blocks = read_blocks(file, map_columns(file, one(datatype)))
        assert [len(block) for (block,) in blocks] == rows


def test_a_single_input_takes_the_columns_in_their_order(tmp_path: Path) -> None:
    file = csv(tmp_path, "a,b,c\n1,2,3\n4,5,6\n")
    assert read(file, one(DataType.FP32, 3))[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert read(file, one(DataType.FP32, 2), ["c", "a"])[0].tolist() == [[3, 1], [6, 4]]
    assert read(file, one(DataType.FP32, 2), ["a", "a"])[0].tolist() == [[1, 1], [4, 4]]
    assert read(file, one(DataType.FP32, 3, "a"))[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    first, second = read(file, [*one(DataType.FP32), *one(DataType.INT64, 2, "y")], ["c", "a", "b"])
    assert (first.tolist(), second.tolist()) == ([[3], [6]], [[1, 2], [4, 5]])
    image = [TensorSpec("x", DataType.FP32, (-1, 1, 3))]
    assert read(file, image)[0].shape == (2, 1, 3)


def test_the_index_of_pandas_is_no_column(tmp_path: Path) -> None:
    file = csv(tmp_path, ",b,c\n0,2,3\n1,5,6\n")
    assert read(file, one(DataType.FP32, 2))[0].tolist() == [[2, 3], [5, 6]]
    with pytest.raises(FastserveError, match="0 characters"):
        map_columns(file, one(DataType.FP32, 3))
    with pytest.raises(FastserveError, match="the file has '', b, c"):
        map_columns(file, one(DataType.FP32, 4))


def test_a_file_without_names(tmp_path: Path) -> None:
    file = csv(tmp_path, "1 2 3\n4 5 6\n", "rows.dat", delimiter=" ", header=False)
    assert file.names == ["c0", "c1", "c2"]
    assert read(file, one(DataType.FP64, 2), ["c2", "c0"])[0].tolist() == [[3, 1], [6, 4]]
    assert csv(tmp_path, "a\tb\n1\t2\n", "rows.tsv").names == ["a", "b"]
    assert csv(tmp_path, "a,b\n1,2\n", "rows.tsv.csv").names == ["a", "b"]


@pytest.mark.parametrize(
    ("inputs", "wanted", "words"),
    [
        (one(DataType.FP32, 2), None, ["has 3 columns", "input 'x' takes 2", "--columns"]),
        (one(DataType.FP32, 4), None, ["has 3 columns", "input 'x' takes 4", "a, b, c"]),
        (one(DataType.FP32, 1, "d"), None, ["has 3 columns", "input 'd' takes 1"]),
        (one(DataType.FP32, 1, "a") + one(DataType.FP32, 1, "d"), None, ["no column 'd'", "a, b, c"]),
        (one(DataType.FP32, 2) + one(DataType.FP32, 2, "y"), None, ["the 4 columns", "--columns"]),
        (one(DataType.FP32, 3) + one(DataType.FP32, 1, "y"), None, ["the 4 columns", "--columns"]),
        (one(DataType.FP32, 2), ["a"], ["names 1 columns", "takes 2 values a row", "'x' 2"]),
        (one(DataType.FP32, 2), ["a", "b", "c"], ["names 3 columns", "takes 2 values a row"]),
        (one(DataType.FP32, 2), ["a", "z"], ["no column 'z'", "a, b, c"]),
        ([TensorSpec("x", DataType.FP32, (-1, -1))], None, ["input 'x'", "no fixed number of values"]),
    ],
)
def test_a_file_of_another_shape_is_refused(
    tmp_path: Path, inputs: list[TensorSpec], wanted: list[str] | None, words: list[str]
) -> None:
    file = csv(tmp_path, "a,b,c\n1,2,3\n")
    with pytest.raises(FastserveError) as refused:
        map_columns(file, inputs, wanted)
    for word in words:
        assert word in str(refused.value)


def test_columns_that_cannot_be_told_apart_or_shown(tmp_path: Path) -> None:
    file = csv(tmp_path, f"a,a,,{'n' * 257}\n1,2,3,4\n")
    for name, words in (("a", "2 columns named 'a'"), ("", "0 characters"), ("n" * 257, "257 characters")):
        with pytest.raises(FastserveError, match=words):
            map_columns(file, one(DataType.FP32), [name])


@pytest.mark.parametrize(
    ("datatype", "cells", "row", "why"),
    [
        (DataType.FP32, ["1", "2", "high"], 3, "'high' is not a number"),
        (DataType.FP32, ["1", "1e39"], 2, "out of the range of FP32"),
        (DataType.FP16, ["65504", "1e5"], 2, "out of the range of FP16"),
        (DataType.INT64, ["1", "", "3"], 2, "is missing, which INT64 cannot be"),
        (DataType.INT64, ["1", "2", "2.5"], 3, "'2.5' is not a whole number"),
        (DataType.INT64, ["9223372036854775808"], 1, "out of the range of INT64"),
        (DataType.UINT64, ["18446744073709551615", "-1"], 2, "out of the range of UINT64"),
        (DataType.INT8, ["127", "128"], 2, "out of the range of INT8"),
        (DataType.UINT8, ["-1"], 1, "out of the range of UINT8"),
        (DataType.INT32, ["ten"], 1, "'ten' is not a number"),
        (DataType.INT32, ["1_000"], 1, "'1_000' is not a number"),
        (DataType.INT64, ["1.0", "inf"], 2, "'inf' is out of the range of INT64"),
        (DataType.FP32, ["x" * 41], 1, f"'{'x' * 40}' is not a number"),
        (DataType.BOOL, ["true", "0", "maybe"], 3, "'maybe' is neither true nor false"),
        (DataType.BOOL, ["true", ""], 2, "is missing, which BOOL cannot be"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(
    tmp_path: Path, datatype: DataType, cells: list[str], row: int, why: str
) -> None:
    file = csv(tmp_path, "x,other\n" + "".join(f"{cell},1\n" for cell in cells))
    with pytest.raises(FastserveError) as refused:
        read(file, one(datatype))
    assert str(refused.value).startswith(f"rows.csv: column 'x', row {row}: ")
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("datatype", "cells", "why"),
    [
        (DataType.FP32, ["1.0", "two"], "row 2: 'two' is not a number"),
        (DataType.INT64, [1.0, 2.5], "row 2: '2.5' is not a whole number"),
        (DataType.INT64, [1.0, float("inf")], "row 2: 'inf' is out of the range"),
        (DataType.FP64, ["inf", "-Infinity", " 1e400"], "row 3: '1e400' is out of the range of FP64"),
        (DataType.INT64, [1.0, 2.0**53 + 2], "too large for a float to say"),
        (DataType.INT64, [1.0, -(2.0**53) - 2], "too large for a float to say"),
        (DataType.UINT8, [255.0, 256.0], "row 2: '256.0' is out of the range of UINT8"),
        (DataType.UINT8, [-1.0], "row 1: '-1.0' is out of the range of UINT8"),
        (DataType.INT32, [1, None], "row 2: is missing"),
        (DataType.INT64, arrow.array([2**64 - 1], arrow.uint64()), "out of the range of INT64"),
        (DataType.BOOL, [0, 1, 2], "row 3: '2' is neither 0 nor 1"),
        (DataType.BYTES, [1.5], "is of type double, where text is taken"),
        (DataType.FP32, [[1.0], [2.0]], "is of type list<.*>, which no tensor has"),
        (DataType.FP64, arrow.array([0], arrow.timestamp("s")), "is of type timestamp"),
    ],
)
def test_a_typed_cell_that_does_not_fit_is_named(
    tmp_path: Path, datatype: DataType, cells: Any, why: str
) -> None:
    file = DataFile(written(tmp_path, "parquet", {"x": cells}))
    with pytest.raises(FastserveError, match=why) as refused:
        read(file, one(datatype))
    assert "column 'x'" in str(refused.value)


def test_rows_are_numbered_through_all_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.monitoring.columns.BLOCK_ROWS", 10)
    file = csv(tmp_path, "x\n" + "1\n" * 33 + "bad\n" + "worse\n" * 30)
    with pytest.raises(FastserveError, match="row 34: 'bad'"):
        read(file, one(DataType.FP32))


@pytest.mark.parametrize(
    ("datatype", "cells", "values"),
    [
        (DataType.FP32, ["0.1", " 2 ", "nan", "-inf"], [np.float32(0.1), 2.0, np.nan, -np.inf]),
        (DataType.FP64, [True, False, None], [1.0, 0.0, np.nan]),
        (DataType.FP64, arrow.array([1, None, 3], arrow.uint8()), [1.0, np.nan, 3.0]),
        (DataType.FP64, arrow.array(["1", "2", "1"]).dictionary_encode(), [1.0, 2.0, 1.0]),
        (DataType.FP64, arrow.array([Decimal("6369.61"), None]), [6369.61, np.nan]),
        (DataType.FP64, arrow.array([Decimal("-0.0029")], arrow.decimal256(50, 10)), [-0.0029]),
        (DataType.INT64, arrow.array([Decimal("9007199254740991.00")]), [2**53 - 1]),
        (DataType.FP64, arrow.nulls(2), [np.nan, np.nan]),
        (DataType.FP64, arrow.array(["inf", None], arrow.large_string()), [np.inf, np.nan]),
        (DataType.INT8, ["1.0", "-128", " 5"], [1, -128, 5]),
        (DataType.INT64, arrow.array([2**63 - 1, -(2**63)], arrow.int64()), [2**63 - 1, -(2**63)]),
        (DataType.UINT64, arrow.array([2**64 - 1], arrow.uint64()), [2**64 - 1]),
        (DataType.UINT8, [255.0, 0.0], [255, 0]),
        (DataType.INT64, [2.0**53, -(2.0**53)], [2**53, -(2**53)]),
        (DataType.FP64, arrow.array([2**60 + 1, None], arrow.int64()), [2.0**60, np.nan]),
        (DataType.INT64, [True, False], [1, 0]),
        (DataType.BOOL, ["True", "0", "false"], [True, False, False]),
        (DataType.BOOL, [1.0, 0.0], [True, False]),
        (DataType.BYTES, arrow.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        (DataType.BYTES, [7, 8], ["7", "8"]),
        (DataType.BYTES, [True, False], ["true", "false"]),
        (DataType.BYTES, arrow.nulls(1), [None]),
    ],
)
def test_cells_that_fit(tmp_path: Path, datatype: DataType, cells: Any, values: list[Any]) -> None:
    (found,) = read(DataFile(written(tmp_path, "parquet", {"x": cells})), one(datatype))
    assert found.dtype == datatype.dtype
    assert found.shape == (len(values), 1)
    if datatype is DataType.BYTES:
        assert found[:, 0].tolist() == values
    else:
        np.testing.assert_array_equal(found[:, 0], np.array(values, datatype.dtype))


def test_kinds_of_columns() -> None:
    assert all_numbers(arrow.array([" 1", None, "2.5 "])) and not all_numbers(arrow.array(["1", "x"]))
    kinds = [is_category(arrow.array(cells).dictionary_encode().type) for cells in (["a"], [1.5])]
    assert kinds == [True, False]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FastserveError, match=r"rows.xlsx must be .parquet, .arrow"):
        csv(tmp_path, "a\n", "rows.xlsx")
    with pytest.raises(FastserveError, match=r"must be .parquet"):
        csv(tmp_path, "a\n", "rows.parquet.gz")
    with pytest.raises(FastserveError, match=r"rows.parquet cannot be read as Parquet"):
        csv(tmp_path, "no parquet at all, as long as it may be", "rows.parquet")
    with pytest.raises(FastserveError, match=r"rows.arrow cannot be read as Arrow"):
        csv(tmp_path, "no arrow at all, as long as it may be", "rows.arrow")
    with pytest.raises(FastserveError, match=r"rows.csv cannot be read as CSV"):
        csv(tmp_path, "")
    with pytest.raises(FastserveError, match="leave out --no-header"):
        DataFile(written(tmp_path, "parquet", {"x": [1]}), header=False)
    with pytest.raises(FastserveError, match=r"rows.csv .* Expected 2 columns, got 3"):
        csv(tmp_path, "a,b\n1,2\n1,2,3\n")
    (tmp_path / "rows.csv").write_bytes(b"x\n\xff\xfe\n")
    with pytest.raises(FastserveError, match=r"rows.csv cannot be read as CSV"):
        read(DataFile(tmp_path / "rows.csv"), one(DataType.BYTES))
    latin = arrow.array([b"\xe8"]).view(arrow.string())
    for kind in ("parquet", "arrow"):
        with pytest.raises(FastserveError, match=rf"rows.{kind} cannot be read as .*[Ii]nvalid UTF8"):
            read(DataFile(written(tmp_path, kind, {"x": latin})), one(DataType.BYTES))
    cut = gzip.compress(b"x\n" + b"".join(b"%d\n" % i for i in range(9_999)))[:-30]
    (tmp_path / "rows.csv.gz").write_bytes(cut)
    with pytest.raises(FastserveError, match=r"rows.csv.gz cannot be read as CSV"):
        read(DataFile(tmp_path / "rows.csv.gz"), one(DataType.FP32))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_damaged_files_are_told_or_read(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, kind, {"x": ["a", "b", None], "y": [1.0, 2.0, 3.0]})
    sound = path.read_bytes()
    rng = np.random.default_rng(0)
    told = []
    for _ in range(150):
        damaged = bytearray(sound)
        for at in rng.integers(0, len(sound), 3):
            damaged[at] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            file = DataFile(path)
            list(file.blocks(file.names, 10))
        except FastserveError as error:
            told.append(str(error))
    assert len(told) > 20
    assert all(path.name in one for one in told)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("fastserve.monitoring.datafile.importlib.import_module", missing)
    with pytest.raises(FastserveError, match=r"pip install 'fastserve\[data\]'"):
        csv(tmp_path, "a\n1\n")


def test_errors_about_shape_are_about_the_profile(tmp_path: Path) -> None:
    with pytest.raises(InvalidProfile):
        map_columns(csv(tmp_path, "a,b\n1,2\n"), one(DataType.FP32, 3))
