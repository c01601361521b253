"""`fastserve monitor compare` of small files: columns of every kind, and of kinds that do not go together."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Run, fails
from tests.cli.test_monitor import csv, told

pytest.importorskip("pyarrow", reason="data files are read by pyarrow")


def test_compare_of_unlike_columns(call: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    reference = {"still": rng.standard_normal(2_000), "moved": rng.standard_normal(2_000)}
    csv(tmp_path / "a.csv", {**reference, "name": ["x", "y"] * 1_000})
    csv(
        tmp_path / "b.csv",
        {"name": ["z", "y"] * 50, "moved": np.full(100, 9.0), "still": reference["still"][:100]},
    )
    done = call("monitor", "compare", "a.csv", "b.csv")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][:4] == ["FEATURE", "KIND", "PSI", "JS"]
    assert [line[0] for line in lines[1:4]] == ["moved", "name", "still"]
    assert lines[4] == ["2000", "reference", "rows,", "100", "live", "rows"]
    name = told(call("monitor", "compare", "a.csv", "b.csv", "--columns", "name", "--exact", "--json"))
    (only,) = name["features"]
    assert (only["categories"], only["live"]["counts"], only["live"]["outside"]) == (["x", "y"], [0, 50], 50)
    assert only["distances"]["kolmogorov_smirnov"] is None


def test_compare_of_other_columns(call: Run, tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", {"x": [1, 2, 3], "y": [1, 2, 3]})
    csv(tmp_path / "b.csv", {"x": [1, 2, "three"], "z": [1, 2, 3]})
    fails(call("monitor", "compare", "a.csv", "b.csv"), 1, "b.csv has no column 'y'")
    fails(call("monitor", "compare", "a.csv", "b.csv", "--columns", "x"), 1, "column 'x', row 3: 'three'")
    fails(call("monitor", "compare", "a.csv", "b.csv", "--columns", "q"), 1, "a.csv has no column 'q'")
    (tmp_path / "none.csv").write_text("x,y\n")
    fails(call("monitor", "compare", "none.csv", "a.csv"), 1, "none.csv has no rows")
    fails(call("monitor", "compare", "a.csv", "none.csv"), 1, "none.csv has no rows")
    fails(call("monitor", "compare", "a.csv", "b.csv", "--delimiter", ";;"), 2, "delimiter must be one")
    assert call("monitor", "compare", "a.csv", "b.csv", "--bins", 0).returncode == 2


def test_compare_leaves_out_the_index_of_pandas(call: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",x\n0,1\n1,2\n2,3\n")
    done = call("monitor", "compare", "a.csv", "a.csv", "--json")
    assert [one["feature"] for one in json.loads(done.stdout)["features"]] == ["x"]
    assert done.stderr == "fastserve: left out, having no name: column ''\n"


def test_compare_leaves_out_what_cannot_be_compared(call: Run, tmp_path: Path) -> None:
    arrow: Any = importlib.import_module("pyarrow")
    write = importlib.import_module("pyarrow.parquet").write_table
    times = arrow.array([1, 2, 3], arrow.timestamp("us"))
    write(arrow.table({"at": times, "x": [1.0, 2.0, 3.0], "raw": [b"a", b"b", b"c"]}), tmp_path / "a.parquet")
    done = call("monitor", "compare", "a.parquet", "a.parquet", "--json")
    assert done.returncode == 0
    assert [one["feature"] for one in json.loads(done.stdout)["features"]] == ["x"]
    assert done.stderr.splitlines() == [
        "fastserve: left out, being of type timestamp[us]: column 'at'",
        "fastserve: left out, being of type binary: column 'raw'",
    ]
    fails(
        call("monitor", "compare", "a.parquet", "a.parquet", "--columns", "at"),
        1,
        "'at' is of type timestamp",
    )
    write(arrow.table({"x": [1.0] * 3, **{f"t{n}": times for n in range(10)}}), tmp_path / "b.parquet")
    told_of = call("monitor", "compare", "b.parquet", "b.parquet").stderr.splitlines()
    assert (len(told_of), told_of[-1]) == (9, "fastserve: left out likewise: 2 more columns")
    write(arrow.table({"at": times}), tmp_path / "b.parquet")
    fails(call("monitor", "compare", "b.parquet", "b.parquet"), 1, "no column of numbers, text or bools")


def test_compare_spells_bools_alike(call: Run, tmp_path: Path) -> None:
    arrow: Any = importlib.import_module("pyarrow")
    importlib.import_module("pyarrow.parquet").write_table(
        arrow.table({"on": [True, False, None, True]}), tmp_path / "a.parquet"
    )
    csv(tmp_path / "b.csv", {"on": ["True", "FALSE", "", "true"], "more": range(4)})
    for pair in (("a.parquet", "b.csv"), ("b.csv", "a.parquet")):
        (only,) = told(call("monitor", "compare", *pair, "--columns", "on", "--json"))["features"]
        assert sorted(only["categories"]) == ["false", "true"]
        assert only["reference"]["counts"] == only["live"]["counts"]
        assert (only["live"]["outside"], only["live"]["missing"], only["reference"]["missing"]) == (0, 1, 1)


def test_compare_puts_what_is_gone_first(call: Run, tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", {"moved": range(50), "gone": range(50)})
    csv(tmp_path / "b.csv", {"moved": [99] * 50, "gone": ["NA"] * 50})
    report = told(call("monitor", "compare", "a.csv", "b.csv", "--json"))
    assert [one["feature"] for one in report["features"]] == ["gone", "moved"]


def test_parquet_and_csv_side_by_side(call: Run, tmp_path: Path) -> None:
    arrow: Any = importlib.import_module("pyarrow")
    importlib.import_module("pyarrow.parquet").write_table(
        arrow.table({"x": [1.0, 2.0, None], "on": [True, False, True], "code": ["a", "b", None]}),
        tmp_path / "a.parquet",
    )
    csv(tmp_path / "b.csv", {"x": [1, 2, ""], "on": ["true", "false", "true"], "code": ["a", "b", ""]})
    report = told(call("monitor", "compare", "a.parquet", "b.csv", "--json", "--exact"))
    for one in report["features"]:
        assert one["distances"]["total_variation"] == 0.0
        assert one["live"]["missing"] == one["reference"]["missing"]
