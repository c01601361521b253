"""`fastserve monitor profile | compare`: from data files to a version's profile, and to figures of drift."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fastserve.cli.monitor.predicting import predict
from fastserve.monitoring import Profile, read_profile
from fastserve.registry import Registry
from fastserve.types import DataType, Signature, TensorSpec
from tests.cli.conftest import Done, Run, fails, publish
from tests.models import (
    fixed_batch,
    identity,
    model_bytes,
    pipeline,
    pipeline_rows,
    scaled,
    tensor,
    unique_rows,
    variable_inner,
)

pytest.importorskip("pyarrow", reason="data files are read by pyarrow")

ELEC2 = Path(__file__).resolve().parents[3] / "shared" / "data" / "elec2_data.dat"
FIRST_HALF = 22_656
# KS, W1, PSI of reference deciles, Jensen-Shannon distance (base 2), Hellinger, total variation
GOLDEN = {
    "c1": (0.006356, 0.019068, 0.000188, 0.005828, 0.004852, 0.006356),
    "c2": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "c3": (0.451227, 0.018592, 1.082136, 0.423651, 0.359874, 0.443282),
    "c4": (0.025821, 0.006097, 0.004290, 0.027808, 0.023154, 0.025689),
    "c5": (0.542858, 0.001666, 2.227337, 0.601232, 0.513427, 0.676024),
    "c6": (0.429334, 0.100469, 0.598478, 0.320681, 0.270150, 0.339778),
    "c7": (0.569606, 0.151184, 1.508032, 0.502698, 0.426048, 0.569606),
}
MEASURES = (
    *("kolmogorov_smirnov", "wasserstein", "psi_raw", "jensen_shannon", "hellinger", "total_variation"),
)


def csv(path: Path, columns: dict[str, Any]) -> Path:
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def told(done: Done) -> Any:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


def stored(store: Registry, model: str, version: int) -> Profile:
    content = store.profile(model, version)
    assert content is not None
    return read_profile(content)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three columns of 40 rows for the model `double`, in the order a, b, c."""
    values = np.arange(120.0).reshape(40, 3)
    return csv(tmp_path / "train.csv", {"a": values[:, 0], "b": values[:, 1], "c": values[:, 2]})


@pytest.fixture
def double(store: Registry, model: Path) -> Registry:
    """The registry with two versions of `double`."""
    publish(store, model, count=2)
    return store


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """The electricity market's rows as two files in the folder of the test."""
    if not ELEC2.exists():
        pytest.skip(f"no {ELEC2.name} beside the repository: it has no licence, so that it is not kept here")
    lines = ELEC2.read_text().splitlines(keepends=True)
    (tmp_path / "first.dat").write_text("".join(lines[:FIRST_HALF]))
    (tmp_path / "second.dat").write_text("".join(lines[FIRST_HALF:]))
    return tmp_path


def test_figures_of_the_electricity_market(run: Run, halves: Path) -> None:
    options = ("--delimiter", " ", "--no-header", "--bins", 10, "--exact", "--json")
    report = told(run("monitor", "compare", "first.dat", "second.dat", *options))
    assert report["reference"] == {"file": "first.dat", "rows": FIRST_HALF}
    assert report["live"] == {"file": "second.dat", "rows": FIRST_HALF}
    found = {one["feature"]: [one["distances"][name] for name in MEASURES] for one in report["features"]}
    # c0 is the date itself.
    assert set(found) == {"c0", *GOLDEN}
    for name, golden in GOLDEN.items():
        assert found[name] == pytest.approx(golden, abs=1e-6), name
    figures = [one["distances"]["psi"] for one in report["features"]]
    assert figures == sorted(figures, reverse=True)


def test_phi_of_the_electricity_market(call: Run, halves: Path, double: Registry) -> None:
    (halves / "weeks.dat").write_text(
        "".join((halves / "first.dat").read_text().splitlines(keepends=True)[: 30 * 336])
    )
    report = told(
        call(
            *("monitor", "profile", "weeks.dat", "--delimiter", " ", "--no-header", "--columns", "c3,c4,c1"),
            *("--model", "double", "--registry", "reg", "--bins", 10, "--window", 336, "--json"),
        )
    )
    phi = [one["phi"] for one in report["features"] if one["role"] == "input"]
    assert phi == [pytest.approx(38.6, rel=0.01), pytest.approx(11.2, rel=0.01), 1.0]


def test_a_profile_is_made_and_kept(run: Run, data: Path, double: Registry) -> None:
    done = run("monitor", "profile", data, "--model", "double@1", "--registry", "reg")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["FEATURE", "KIND", "BINS", "MISSING", "MEAN", "SD", "PHI"]
    assert lines[1][:6] == ["takes", "a", "number", "16", "0.00%", "58.5"]
    assert [line[:2] for line in lines[4:7]] == [["gives", f"y[{i}]"] for i in range(3)]
    assert done.stdout.splitlines()[-1].startswith("40 rows → double version 1, profile ")
    profile = stored(double, "double", 1)
    assert (profile.rows, profile.description, profile.source) == (40, "train.csv", "data")
    profile.check(double.describe("double", 1).manifest.signature)  # type: ignore[union-attr]
    taken, given = profile.tensors
    for x, y in zip(taken.features, given.features, strict=True):
        # The model doubles, and so do the edges and the moments.
        assert x.counts == y.counts
        assert x.kind == y.kind == "number"
        assert y.mean == pytest.approx(2 * x.mean)  # type: ignore[operator]
    assert double.profile("double", 2) is None
    assert double.audit("double")[-1].event == "profile"


def test_a_second_profile_needs_a_word(call: Run, data: Path, double: Registry) -> None:
    arguments = ("monitor", "profile", data, "--model", "double@2", "--registry", "reg", "--json")
    first = told(call(*arguments))
    fails(call(*arguments), 1, "double version 2 has a profile", "--replace")
    second = told(call(*arguments, "--replace", "--bins", 4))
    assert stored(double, "double", 2).digest() == second["sha256"] != first["sha256"]
    assert [one["bins"] for one in second["features"]] == [4] * 6


def test_which_version_is_meant(call: Run, data: Path, double: Registry) -> None:
    def version(name: str) -> int:
        options = ("--registry", "reg", "--out", "p.json", "--json")
        return int(told(call("monitor", "profile", data, "--model", name, *options))["version"])

    assert version("double") == 2
    double.set_alias("double", "champion", 1)
    assert (version("double"), version("double@champion"), version("double@2")) == (1, 1, 2)
    assert double.profile("double", 1) is None
    double.remove_alias("double", "champion")
    double.archive("double", 2, True)
    assert version("double") == 1


def test_a_profile_as_a_file(call: Run, data: Path, double: Registry, tmp_path: Path) -> None:
    report = told(
        call(
            *("monitor", "profile", data, "--model", "double", "--registry", "reg"),
            *("--out", "p.json", "--no-outputs", "--json"),
        )
    )
    profile = read_profile((tmp_path / "p.json").read_bytes())
    assert (profile.digest(), report["out"]) == (report["sha256"], "p.json")
    assert [one.role for one in profile.tensors] == ["input"]
    assert double.profile("double", 2) is None


def test_a_profile_of_a_file_and_both_published_at_once(
    call: Run, data: Path, model: Path, double: Registry, tmp_path: Path
) -> None:
    done = call("monitor", "profile", data, "--model", model.name, "--out", "p.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("40 rows → p.json, profile ")
    made = read_profile((tmp_path / "p.json").read_bytes())
    done = call("monitor", "profile", data, "--model", model.name, "--out", "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_profile(done.stdout.encode()).tensors == made.tensors
    assert not (tmp_path / "-").exists()
    # The same as of the version that this file has become.
    options = ("--model", "double@1", "--registry", "reg", "--out", "version.json")
    assert call("monitor", "profile", data, *options).returncode == 0
    version = read_profile((tmp_path / "version.json").read_bytes())
    assert (made.tensors, made.rows, made.description) == (version.tensors, 40, "train.csv")
    published = call(
        *("models", "publish", "treble", model.name, "--profile", "p.json", "--registry", "reg", "--json")
    )
    assert told(published)["profile"] == made.digest() == stored(double, "treble", 1).digest()


def test_inputs_of_variable_width_are_left_out_with_the_outputs(call: Run, tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("ReduceMean", ["v"], ["w"], axes=[1]),
        onnx.helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    shapes: dict[str, list[int | str | None]] = {
        "x": ["batch", 1],
        "v": ["batch", "length"],
        "y": ["batch", 1],
    }
    x, v, y = (tensor(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items())
    (tmp_path / "mix.onnx").write_bytes(model_bytes(nodes, [x, v], [y]))
    csv(tmp_path / "rows.csv", {"x": range(50)})
    make = ("monitor", "profile", "rows.csv", "--model", "mix.onnx", "--out", "p.json")
    fails(call(*make), 1, "input 'v' has the shape [-1, -1]", "--no-outputs")
    report = told(call(*make, "--no-outputs", "--json"))
    assert [(one["role"], one["feature"]) for one in report["features"]] == [("input", "x")]


def test_a_file_whose_answers_are_not_described_is_not_run(
    call: Run, data: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--model", model, "--out", "p.json", "--json")
    report = told(call("monitor", "profile", data, *options, "--no-outputs"))
    assert (report["model"], report["version"], report["out"]) == (str(model), None, "p.json")
    assert {one["role"] for one in report["features"]} == {"input"}
    monkeypatch.setattr("fastserve.runtime.OnnxRuntime.run", lambda *_: 1 / 0)
    assert told(call("monitor", "profile", data, *options, "--no-outputs"))["rows"] == 40
    failed = call("monitor", "profile", data, *options)
    assert "ZeroDivisionError" in failed.stderr


def test_what_makes_no_sense_with_a_file(call: Run, data: Path, model: Path, tmp_path: Path) -> None:
    def profile(name: str, *more: object, **extra: str) -> Done:
        return call("monitor", "profile", data, "--model", name, *more, **extra)

    fails(profile(model.name), 2, "write it with --out profile.json", f"publish NAME {model.name} --profile")
    out = ("--out", "p.json")
    fails(profile(model.name, "--out", "-", "--json"), 2, "--out - and --json both write to standard output")
    fails(profile(model.name, *out, "--replace"), 2, "--replace is about a version in a registry")
    fails(profile(model.name, *out, "--registry", "reg"), 2, "--registry is about a version in a registry")
    fails(profile("none.onnx", *out), 1, "there is no file 'none.onnx'", "none.onnx@1")
    (tmp_path / "text.onnx").write_text("no model")
    fails(profile("text.onnx", *out), 1, "text.onnx")
    (tmp_path / "fixed.onnx").write_bytes(fixed_batch(2))
    fails(profile("fixed.onnx", *out), 1, "model 'fixed.onnx' has no variable batch dimension")
    assert not (tmp_path / "p.json").exists()
    # A registry that the environment names is there for others.
    assert profile(model.name, *out, FASTSERVE_REGISTRY="reg").returncode == 0


def test_a_version_of_a_model_that_is_called_like_a_file(
    call: Run, data: Path, model: Path, store: Registry
) -> None:
    publish(store, model, name="net.onnx")
    report = told(call("monitor", "profile", data, "--model", "net.onnx@1", "--registry", "reg", "--json"))
    assert stored(store, "net.onnx", 1).digest() == report["sha256"]


def test_a_pipeline_finds_its_columns_by_name(call: Run, store: Registry, tmp_path: Path) -> None:
    (tmp_path / "pipeline.onnx").write_bytes(pipeline(string_labels=True))
    publish(store, tmp_path / "pipeline.onnx", name="flights")
    rows = pipeline_rows(200)
    rows["carrier"][3] = ""
    csv(tmp_path / "train.csv", {"unknown": range(200), **dict(reversed(rows.items()))})
    arguments = ("monitor", "profile", "train.csv", "--model", "flights", "--registry", "reg", "--json")
    report = told(call(*arguments))
    kinds = [(one["role"], one["feature"], one["kind"]) for one in report["features"]]
    assert kinds == [
        ("input", "carrier", "category"),
        ("input", "origin", "category"),
        ("input", "distance", "number"),
        ("input", "hour", "number"),
        ("output", "label", "category"),
        ("output", "probabilities[0]", "number"),
        ("output", "probabilities[1]", "number"),
    ]
    carrier, label = (stored(store, "flights", 1).tensors[i].features[0] for i in (0, 4))
    assert (carrier.missing, sum(carrier.counts)) == (1, 199)
    assert set(label.categories) == {"late", "on time"}  # type: ignore[union-attr]
    coded = told(call(*arguments, "--replace", "--codes", "hour"))
    assert coded["features"][3]["kind"] == "category"
    fails(call(*arguments, "--replace", "--codes", "distance"), 2, "'distance' is FP32")
    fails(call(*arguments, "--replace", "--codes", "minute"), 2, "no input or output 'minute'")


def test_files_that_do_not_fit_the_model(
    call: Run, double: Registry, store: Registry, tmp_path: Path
) -> None:
    def profile(name: str, model: str = "double", *more: object) -> Done:
        return call("monitor", "profile", name, "--model", model, "--registry", "reg", *more)

    csv(tmp_path / "four.csv", {"a": [1], "b": [2], "c": [3], "d": [4]})
    csv(tmp_path / "text.csv", {"a": [1, 2], "b": [2, "two"], "c": [3, 3]})
    csv(tmp_path / "empty.csv", {"a": [], "b": [], "c": []})
    csv(tmp_path / "three.csv", {"carrier": ["UA"], "origin": ["JFK"], "distance": [1.0]})
    fails(profile("four.csv"), 1, "four.csv has 4 columns, input 'x' takes 3", "--columns")
    fails(profile("four.csv", "double", "--columns", "a,b,z"), 1, "four.csv has no column 'z'")
    fails(profile("four.csv", "double", "--columns", "a,b"), 1, "names 2 columns, the model takes 3")
    fails(profile("four.csv", "double", "--columns", "a,b,"), 2, "--columns: a name between the commas")
    fails(profile("four.csv", "double", "--columns", "a,b,a"), 2, "--columns: 'a' comes twice")
    fails(profile("text.csv"), 1, "text.csv: column 'b', row 2: 'two' is not a number")
    fails(profile("empty.csv"), 1, "there are no rows")
    fails(profile("four.csv", "doubel"), 1, "did you mean 'double'?")
    fails(profile("four.csv", "double@9"), 1, "has no version '9'")
    assert profile("none.csv").returncode == 2
    (tmp_path / "pipeline.onnx").write_bytes(pipeline())
    publish(store, tmp_path / "pipeline.onnx", name="flights")
    fails(profile("three.csv", "flights"), 1, "three.csv has no column 'hour', which the model takes")
    assert store.profile("double", 2) is None


def test_models_that_have_no_profile(call: Run, store: Registry, tmp_path: Path) -> None:
    csv(tmp_path / "rows.csv", {"a": [1, 1], "b": [2, 2], "c": [3, 3]})
    for name, content, words in (
        ("fixed", fixed_batch(2), "no variable batch dimension"),
        ("variable", variable_inner(), "input 'x' has the shape"),
        ("unique", unique_rows(), "output 'y' has [1] rows for 2 rows"),
    ):
        (tmp_path / "model.onnx").write_bytes(content)
        publish(store, tmp_path / "model.onnx", name=name)
        fails(call("monitor", "profile", "rows.csv", "--model", name, "--registry", "reg"), 1, words)
        assert store.profile(name, 1) is None


def test_a_scalar_beside_rows_is_told(call: Run, tmp_path: Path) -> None:
    mean = onnx.helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)
    same = onnx.helper.make_node("Identity", ["x"], ["z"])
    x, z = (tensor(name, onnx.TensorProto.FLOAT, ["batch", 3]) for name in "xz")
    scalar = tensor("y", onnx.TensorProto.FLOAT, [])
    (tmp_path / "mean.onnx").write_bytes(model_bytes([mean, same], [x], [scalar, z]))
    csv(tmp_path / "rows.csv", {"a": [1, 1], "b": [2, 2], "c": [3, 3]})
    done = call("monitor", "profile", "rows.csv", "--model", "mean.onnx", "--out", "p.json")
    said = "fastserve: the model failed: output 'y' has [] rows for 2 rows of input"
    assert (done.returncode, done.stderr.splitlines()[-1]) == (1, said)


def test_outputs_that_cannot_be_described_are_left_out(call: Run, store: Registry, tmp_path: Path) -> None:
    (tmp_path / "wide.onnx").write_bytes(identity(onnx.TensorProto.FLOAT, "batch", 5_000))
    publish(store, tmp_path / "wide.onnx", name="wide")
    csv(tmp_path / "rows.csv", {f"c{i}": [1.0, 2.0] for i in range(5_000)})
    done = call("monitor", "profile", "rows.csv", "--model", "wide", "--registry", "reg")
    assert done.returncode == 0
    assert done.stderr == "fastserve: output 'y' has 5000 values a row, more than 4096; it is left out\n"
    assert "… 5000 features in all; --json shows them" in done.stdout
    assert [one.role for one in stored(store, "wide", 1).tensors] == ["input"]


def test_a_model_runs_in_parts(
    call: Run, store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastserve.cli.monitor.predicting._RUN_ROWS", 7)
    (tmp_path / "double.onnx").write_bytes(scaled(2.0, 1))
    publish(store, tmp_path / "double.onnx")
    csv(tmp_path / "rows.csv", {"x": range(50)})
    report = told(call("monitor", "profile", "rows.csv", "--model", "double", "--registry", "reg", "--json"))
    assert [one["mean"] for one in report["features"]] == [24.5, 49.0]


def test_of_what_a_model_gives_a_part_is_held_and_what_is_described() -> None:
    wide, score = (TensorSpec(name, DataType.FP32, (-1, width)) for name, width in (("y", 20_000), ("z", 1)))
    runs: list[int] = []

    class Wide:
        signature = Signature((TensorSpec("x", DataType.FP32, (-1, 1)),), (wide, score), True)

        def run(self, inputs: list[Any]) -> list[Any]:
            runs.append(len(inputs[0]))
            return [np.empty((len(inputs[0]), 20_000), np.float32), inputs[0] * 2]

    rows = np.arange(200, dtype=np.float32).reshape(200, 1)
    parts = list(predict(Wide(), [rows], [1]))  # type: ignore[arg-type]
    assert max(runs) * 20_000 <= 2**20 and sum(runs) == 200
    assert all(doubled.tolist() == (x * 2).tolist() for x, doubled in parts)
    assert np.concatenate([x for x, _ in parts]).tolist() == rows.tolist()


def test_where_a_profile_cannot_be_written(call: Run, double: Registry, tmp_path: Path) -> None:
    csv(tmp_path / "rows.csv", {"a": [1, 2], "b": [3, 4], "c": [5, 6]})
    make = ("monitor", "profile", "rows.csv", "--model", "double", "--registry", "reg", "--out")
    fails(call(*make, "none/p.json"), 2, "--out: there is no directory 'none'")


def test_names_of_strangers_do_not_colour_the_terminal(call: Run, tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", {"\x1b[2Jx": [1, 2, 3]})
    done = call("monitor", "compare", "a.csv", "a.csv")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    failed = call("monitor", "compare", "a.csv", "a.csv", "--columns", "y")
    assert "\x1b" not in failed.stderr
