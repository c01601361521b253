"""The demo on its real data, step by step and as a whole."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.pipeline import Pipeline

from fastserve.config.options import ServerOptions
from fastserve.demo import check_extras, flights, monitoring, training
from fastserve.demo.run import _start_again
from fastserve.demo.server import Server
from fastserve.errors import FastserveError
from fastserve.monitoring import CategoryFeature, NumberFeature
from fastserve.registry import Registry
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data() -> flights.Dataset:
    return flights.load()


@pytest.fixture(scope="module")
def trained(data: flights.Dataset) -> Pipeline:
    return training.train(data.train)


def test_the_data_is_what_the_demo_says(data: flights.Dataset) -> None:
    assert (len(data.train), len(data.test), data.cancelled) == (50_009, 27_902, 2_878)
    assert list(data.train.rows.columns) == list(flights.COLUMNS)
    assert set(data.train.late) == set(data.test.late) == {0, 1}
    assert data.test.rows["pressure"].isna().any()
    assert not data.test.rows[[*flights.NAMES, "hour", "minute", "distance"]].isna().any(axis=None)


def test_bodies_hold_the_numbers_as_they_are_and_null_for_what_is_missing(data: flights.Dataset) -> None:
    rows = data.test.rows[data.test.rows["pressure"].isna()].iloc[:2]
    predict = json.loads(flights.predict_body(rows))["instances"]
    infer = {tensor["name"]: tensor for tensor in json.loads(flights.infer_body(rows))["inputs"]}
    assert [list(row) for row in predict] == [list(flights.COLUMNS)] * 2
    for name in flights.COLUMNS:
        assert infer[name]["shape"] == [2, 1]
        assert infer[name]["datatype"] == ("BYTES" if name in flights.NAMES else "FP32")
        assert infer[name]["data"] == [row[name] for row in predict]
    assert infer["pressure"]["data"] == [None, None]
    assert np.float32(infer["temp"]["data"][0]) == rows["temp"].iloc[0]


def test_onnx_answers_as_the_pipeline_does(data: flights.Dataset, trained: Pipeline) -> None:
    expected = training.probabilities(trained, data.test)
    assert training.auc(data.test, expected) > 0.7
    model = training.export(trained)
    assert training.largest_difference(model, data.test, expected) < training.TOLERANCE
    with pytest.raises(
        FastserveError, match=r"ONNX and scikit-learn disagree by 0\.1, over the limit of 1e-05"
    ):
        training.largest_difference(model, data.test, expected + 0.1)
    session = onnxruntime.InferenceSession(model)
    assert [tensor.name for tensor in session.get_inputs()] == list(flights.COLUMNS)
    assert [tensor.name for tensor in session.get_outputs()] == ["label", "probabilities"]


def test_a_category_and_a_gap_it_has_never_seen_are_no_error(
    data: flights.Dataset, trained: Pipeline
) -> None:
    rows = data.test.rows.iloc[:1].copy()
    rows["dest"] = "XXX"
    rows["temp"] = np.float32("nan")
    odd = flights.Flights(rows, data.test.late[:1])
    expected = training.probabilities(trained, odd)
    assert training.largest_difference(training.export(trained), odd, expected) < training.TOLERANCE


def test_missing_extras_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    check_extras()
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("sklearn", "pandas") else found(name)
    )
    with pytest.raises(FastserveError) as caught:
        check_extras()
    assert str(caught.value) == (
        "the demo needs pandas, scikit-learn, not installed here: pip install 'fastserve[demo,cpu]'"
    )


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(
            FastserveError, match=r"the server ended with code 1: fastserve: the registry '.*none' is not"
        ),
        Server(tmp_path / "none", tmp_path / "state", tmp_path / "serve.log") as server,
    ):
        server.wait_ready("flights", 1)


def test_who_serves_again_has_what_the_demo_counted(tmp_path: Path) -> None:
    for registry in (tmp_path / "d/registry", tmp_path / "d/../d/registry"):
        assert _start_again("fastserve serve", registry, tmp_path / "d", "sqlite:///x") == "fastserve serve"
    again = _start_again("fastserve serve", tmp_path / "own", tmp_path / "d", "sqlite:////a d/control.db")
    assert again == "FASTSERVE_CONTROL__DATABASE='sqlite:////a d/control.db' fastserve serve"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_ended_leaves_no_server_behind(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fastserve.cli", "demo", "--dir", "d"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    log = tmp_path / "d/serve.log"
    with subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True) as demo:
        until(lambda: log.exists() and "ready: " in log.read_text())
        demo.send_signal(number)
        assert demo.wait(30) == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):  # the demo's server was the last of its group
            os.killpg(demo.pid, 0)


def test_the_reference_is_what_was_trained_on(
    data: flights.Dataset, trained: Pipeline, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(training.export(trained))
    profile = monitoring.describe(path, data.train)
    found = {feature.name: feature for tensor in profile.tensors for feature in tensor.features}
    assert list(found) == [*flights.COLUMNS, "label", "probabilities[0]", "probabilities[1]"]
    assert [tensor.role for tensor in profile.tensors] == ["input"] * 13 + ["output"] * 2
    assert profile.rows == len(data.train)
    for name in flights.NUMBERS:
        feature, column = found[name], data.train.rows[name].astype(np.float64)
        assert isinstance(feature, NumberFeature)
        assert feature.mean == pytest.approx(column.mean())
        assert feature.missing == column.isna().sum()
    carrier = found["carrier"]
    assert isinstance(carrier, CategoryFeature)
    counted = data.train.rows["carrier"].value_counts().to_dict()
    assert dict(zip(carrier.categories, carrier.counts, strict=True)) == counted
    late = found["probabilities[1]"]
    assert isinstance(late, NumberFeature)
    expected = training.probabilities(trained, data.train)
    assert late.mean == pytest.approx(expected.mean(), abs=training.TOLERANCE)


@pytest.fixture
def default_control_port() -> Iterator[None]:
    """See to it that somebody else listens where a control plane listens by default."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # it is taken already
            taken.bind(("127.0.0.1", ServerOptions().control_port))
            taken.listen()
        yield


def check_drift(data: flights.Dataset, shown: str, page: str) -> None:
    """Hold that what the weather of March differs in is shown, the worst first, and nothing else."""
    lines = shown.splitlines()
    heads = next(number for number, line in enumerate(lines) if line.startswith("FEATURE"))
    # All of March, eight flights by both endpoints, two hundred times one flight by both.
    rows = len(data.test) + 2 * 8 + 2 * 200
    assert f"{rows:,} live rows, " in lines[heads - 1]
    assert lines[heads - 1].endswith(f"; {len(data.train):,} reference rows")
    table = [line.split() for line in lines[heads + 1 : heads + 9]]
    psi = {cells[0]: float(cells[2]) for cells in table}
    assert list(psi.values()) == sorted(psi.values(), reverse=True)
    assert list(psi)[:2] == ["temp", "pressure"]
    assert psi["temp"] > 1
    assert psi["wind_speed"] > 0.1
    assert psi["dest"] < 0.1
    assert lines[heads + 9].startswith("… 16 features in all")
    means = [data.train.rows["temp"].mean(), data.test.rows["temp"].mean()]
    at = table[0].index("→", 11)
    told = [float(table[0][at - 1]), float(table[0][at + 1])]
    assert told == pytest.approx(means, abs=0.3)
    assert means[1] > means[0] + 4  # it gets warmer
    assert "<svg" in page
    assert "//" not in page.replace("http://www.w3.org/2000/svg", "")


def test_the_whole_demo(data: flights.Dataset, tmp_path: Path, default_control_port: None) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FASTSERVE_")}
    done = subprocess.run(
        [sys.executable, "-m", "fastserve.cli", "demo", "--dir", "d"],
        cwd=tmp_path,
        # Settings of another server must not reach the demo's own.
        env={
            **environment,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "120",
            "FASTSERVE_SERVER__WORKERS": "7",
            "FASTSERVE_CONTROL__DATABASE": f"sqlite:///{tmp_path / 'other.db'}",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "50,009 training rows and the answers to them: 16 features",
        "flights version 1 with its profile in d/registry",
        "ready on http://127.0.0.1:",
        "AUC of the served answers 0.70",
        "late /v2",
        "/v1 :predict",
        "curl http://127.0.0.1:8000/v2/models/flights/infer -d @d/v2.json",
        "With plots, as one file: d/report.html",
        "curl http://127.0.0.1:8002/metrics",
        "fastserve monitor report flights --control http://127.0.0.1:8002",
        "fastserve serve --registry d/registry",
    ):
        assert words in done.stdout
    check_drift(data, done.stdout, (tmp_path / "d/report.html").read_text())
    left = {path.name for path in tmp_path.iterdir()}, {path.name for path in (tmp_path / "d").iterdir()}
    files = {"model.onnx", "report.html", "serve.log", "v1.json", "v2.json"}
    assert left == ({"d"}, {*files, "registry", "registry.control"})
    manifest = Registry(tmp_path / "d/registry").verify("flights", 1).manifest
    assert manifest is not None
    assert Registry(tmp_path / "d/registry").profile("flights", 1) is not None
    assert manifest.provenance["metrics"]["auc_march"] > 0.7
    assert len(manifest.provenance["data"]["sha256"]) == 64
    assert "scikit-learn" in manifest.provenance["packages"]
    assert len(json.loads((tmp_path / "d/v1.json").read_text())["instances"]) == 1
