"""The demo on its real data, step by step and as a whole."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from fastserve.demo import check_extras, flights, training
from fastserve.demo.server import Server
from fastserve.errors import FastserveError
from fastserve.registry import Registry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data() -> flights.Dataset:
    return flights.load()


@pytest.fixture(scope="module")
def trained(data: flights.Dataset) -> training.Trained:
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


def test_onnx_answers_as_the_pipeline_does(data: flights.Dataset, trained: training.Trained) -> None:
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
    data: flights.Dataset, trained: training.Trained
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
        Server(tmp_path / "none", tmp_path / "serve.log"),
    ):
        raise AssertionError("it started")


def test_the_whole_demo(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FASTSERVE_")}
    done = subprocess.run(
        [sys.executable, "-m", "fastserve.cli", "demo", "--dir", "d"],
        cwd=tmp_path,
        # Settings of another server must not reach the demo's own.
        env={**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "FASTSERVE_SERVER__WORKERS": "7"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "flights version 1 in d/registry",
        "ready on http://127.0.0.1:",
        "AUC of the served answers 0.70",
        "late /v2",
        "/v1 :predict",
        "curl http://127.0.0.1:8000/v2/models/flights/infer -d @d/v2.json",
        "fastserve serve --registry d/registry",
    ):
        assert words in done.stdout
    manifest = Registry(tmp_path / "d/registry").verify("flights", 1).manifest
    assert manifest is not None
    assert manifest.provenance["metrics"]["auc_march"] > 0.7
    assert len(manifest.provenance["data"]["sha256"]) == 64
    assert "scikit-learn" in manifest.provenance["packages"]
    assert len(json.loads((tmp_path / "d/v1.json").read_text())["instances"]) == 1
