"""Trees that Triton, TF Serving and MLflow keep, as they write them, become versions of this registry."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import RegistryError
from fastserve.registry import Registry, importing
from fastserve.registry.importing import find_models
from tests import models
from tests.registry.conftest import glance

# As mlflow.onnx.log_model writes it: 2.14 with a run, 3.1 with a logged model.
MLMODEL_2 = """\
artifact_path: flights
flavors:
  onnx:
    code: null
    data: model.onnx
    onnx_session_options: null
    onnx_version: 1.16.1
    providers:
    - CUDAExecutionProvider
    - CPUExecutionProvider
  python_function:
    data: model.onnx
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.onnx
    python_version: 3.11.7
mlflow_version: 2.14.1
model_size_bytes: 312
model_uuid: 3d22615565ae4f5f896d3a05072b552f
run_id: 7ee5e476cc964a99beec2f4269f8e811
signature:
  inputs: '[{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
  outputs: '[{"name": "y", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]'
  params: null
utc_time_created: '2024-07-08 04:53:25.446742'
"""
MLMODEL_3 = MLMODEL_2.replace("2.14.1", "3.1.0").replace(
    "artifact_path: flights", "artifact_path: mlflow-artifacts:/1/models/m-5f1/artifacts\nmodel_id: m-5f1"
)
MLMODEL_SKLEARN = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n  python_function:\n    loader_module: mlflow.sklearn\n"


def put(path: Path, content: bytes | str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = models.scaled() if content is None else content
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def mlflow(directory: Path, content: str = MLMODEL_2) -> Path:
    put(directory / "MLmodel", content)
    put(directory / "conda.yaml", "name: mlflow-env\n")
    return put(directory / "model.onnx")


def found(directory: Path) -> list[tuple[str, str]]:
    return [(one.name, str(one.file.relative_to(directory))) for one in find_models(directory)]


def test_a_triton_repository(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for version in ("1", "2", "10"):
        put(tmp_path / "resnet" / version / "model.onnx")
    put(tmp_path / "resnet/config.pbtxt", 'name: "resnet"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\n')
    put(tmp_path / "ant/3/model.onnx/model.onnx")
    put(tmp_path / "ant/3/model.onnx/weights.bin", b"w")
    put(tmp_path / "renamed/1/best.onnx")
    put(
        tmp_path / "renamed/config.pbtxt",
        '# default_model_filename: "old.onnx"\n default_model_filename: "best.onnx"',
    )
    put(tmp_path / "trt/1/model.plan", b"not ours")
    put(tmp_path / ".git/1/model.onnx")
    put(tmp_path / "resnet/.staging-4/model.onnx")
    put(tmp_path / "README.md", "for people")
    assert found(tmp_path) == [
        ("ant", "ant/3/model.onnx/model.onnx"),
        ("renamed", "renamed/1/best.onnx"),
        ("resnet", "resnet/1/model.onnx"),
        ("resnet", "resnet/2/model.onnx"),
        ("resnet", "resnet/10/model.onnx"),
    ]
    assert f"{tmp_path / 'trt'} is not imported: no ONNX model is in it" in caplog.text
    assert "ant is not imported" not in caplog.text
    last = find_models(tmp_path)[-1]
    assert last.provenance == {
        "imported_from": str(tmp_path / "resnet/10/model.onnx"),
        "source_version": 10,
    }


@pytest.mark.parametrize(
    "text",
    [
        'name: "m" backend: "onnxruntime" default_model_filename: "best.onnx"',
        "{name:\"m\",default_model_filename:'best.onnx'}",
        'parameters {key: "default_model_filename: \\"model.onnx\\"" } default_model_filename : "best.onnx"',
        'name: "#" # default_model_filename: "model.onnx"\ndefault_model_filename: "best.onnx"',
        'my_default_model_filename: "model.onnx"\ndefault_model_filename:\n  "best.onnx"',
        b'# caf\xe9\ndefault_model_filename: "best.onnx"',
    ],
)
def test_a_configuration_as_protobuf_reads_it(tmp_path: Path, text: str | bytes) -> None:
    put(tmp_path / "m/1/model.onnx")
    put(tmp_path / "m/1/best.onnx")
    put(tmp_path / "m/config.pbtxt", text)
    assert found(tmp_path) == [("m", "m/1/best.onnx")]


def test_one_model_of_a_repository(tmp_path: Path) -> None:
    put(tmp_path / "resnet/7/model.onnx")
    put(tmp_path / "resnet/9/model.onnx")
    assert found(tmp_path / "resnet") == [("resnet", "7/model.onnx"), ("resnet", "9/model.onnx")]


def test_one_model_keeps_a_name_that_it_cannot_have_here(tmp_path: Path) -> None:
    """Because it may get another with --name, and publishing looks at the name that is meant."""
    put(tmp_path / "my model/1/model.onnx")
    assert found(tmp_path / "my model") == [("my model", "1/model.onnx")]


def test_a_model_with_a_number_for_a_name(tmp_path: Path) -> None:
    put(tmp_path / "42/1/model.onnx")
    assert found(tmp_path) == [("42", "42/1/model.onnx")]


@pytest.mark.parametrize("name", ["my model", "ä", "stats"])
def test_a_name_that_no_model_may_have_holds_up_no_other(tmp_path: Path, name: str) -> None:
    put(tmp_path / "good/1/model.onnx")
    put(tmp_path / name / "1/model.onnx")
    assert sorted(found(tmp_path)) == sorted([("good", "good/1/model.onnx"), (name, f"{name}/1/model.onnx")])


def test_an_mlflow_model(tmp_path: Path) -> None:
    mlflow(tmp_path / "flights")
    (one,) = find_models(tmp_path / "flights")
    assert (one.name, one.file) == ("flights", tmp_path / "flights/model.onnx")
    facts = one.provenance["mlflow"]
    assert one.provenance["source_version"] == facts["run_id"] == "7ee5e476cc964a99beec2f4269f8e811"
    assert facts["mlflow_version"] == "2.14.1"
    assert facts["model_uuid"] == "3d22615565ae4f5f896d3a05072b552f"
    assert facts["utc_time_created"] == "2024-07-08 04:53:25.446742"
    assert json.loads(facts["signature"]["inputs"])[0]["name"] == "x"
    json.dumps(one.provenance)


def test_the_runs_of_mlflow_2_become_versions_in_their_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for run, day in (("aaa", "09"), ("bbb", "07"), ("ccc", "08")):
        content = MLMODEL_2.replace("2024-07-08", f"2024-07-{day}")
        mlflow(tmp_path / "mlruns/1" / run / "artifacts/flights", content)
        put(tmp_path / "mlruns/1" / run / "meta.yaml", "lifecycle_stage: active\n")
    put(tmp_path / "mlruns/1/ddd/artifacts/forest/MLmodel", MLMODEL_SKLEARN)
    assert found(tmp_path / "mlruns") == [
        ("flights", f"1/{run}/artifacts/flights/model.onnx") for run in ("bbb", "ccc", "aaa")
    ]
    mlflow(tmp_path / "mlruns/1/eee/artifacts/models/flights")
    assert len(find_models(tmp_path)) == 4, "in a folder of a run's artifacts, and of the whole store"
    assert caplog.text == ""


def test_the_store_of_mlflow_3(tmp_path: Path) -> None:
    mlflow(tmp_path / "1/models/m-5f1/artifacts", MLMODEL_3)
    put(tmp_path / "1/models/m-5f1/meta.yaml", "model_id: m-5f1\nname: flights\nstatus: READY\n")
    (one,) = find_models(tmp_path)
    assert (one.name, one.provenance["source_version"]) == ("flights", "m-5f1")
    assert one.provenance["mlflow"]["mlflow_version"] == "3.1.0"
    assert found(tmp_path / "1/models/m-5f1") == [("flights", "artifacts/model.onnx")]
    assert found(tmp_path / "1/models/m-5f1/artifacts") == [("artifacts", "model.onnx")]
    put(tmp_path / "1/models/m-5f1/meta.yaml", "name: 7\n")
    assert found(tmp_path) == [("m-5f1", "1/models/m-5f1/artifacts/model.onnx")]


def test_dates_that_yaml_reads_as_such_become_text(tmp_path: Path) -> None:
    mlflow(tmp_path / "m", MLMODEL_2.replace("'2024-07-08 04:53:25.446742'", "2024-07-08 04:53:25"))
    (one,) = find_models(tmp_path)
    assert one.provenance["mlflow"]["utc_time_created"] == "2024-07-08 04:53:25"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (MLMODEL_SKLEARN, "no ONNX flavour; its flavours are: python_function, sklearn"),
        ("flavors: [onnx]", "no ONNX flavour; its flavours are: none"),
        (
            "flavors: {" + ", ".join(f"{letter * 99}: 1" for letter in "abcdefghijkl") + "}",
            f"its flavours are: {', '.join(letter * 64 for letter in 'abcdefghij')}$",
        ),
        ("flavors: [1", "not valid YAML"),
        ("- a\n", "must be a mapping"),
        ("a: &a [x]\nb: [*a, *a]\n", r"aliases \(\*name\) are not allowed"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper than 16 levels"),
        ("x: " + "y" * 1024 * 1024, "larger than 1048576 bytes"),
        (
            MLMODEL_2.replace("data: model.onnx", "data: ../other/model.onnx"),
            "not a path inside the model's directory",
        ),
        (
            MLMODEL_2.replace("data: model.onnx", "data: /etc/passwd"),
            "not a path inside the model's directory",
        ),
        (MLMODEL_2.replace("data: model.onnx", "data: gone.onnx"), "names 'gone.onnx', which is not a file"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_an_mlmodel_file_that_cannot_be_used(tmp_path: Path, content: str, words: str) -> None:
    put(tmp_path / "other/model.onnx")
    mlflow(tmp_path / "m", content)
    with pytest.raises(RegistryError, match=f"MLmodel.*{words}"):
        find_models(tmp_path / "m")


def test_what_is_broken_or_cannot_be_read_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, closed = os.scandir, tmp_path / "lost+found"

    def refused(path: Path) -> Any:
        if path == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    closed.mkdir()
    mlflow(tmp_path / "\x1btorn", "flavors: {onnx: {da")
    put(tmp_path / "good/1/model.onnx")
    assert found(tmp_path) == [("good", "good/1/model.onnx")]
    assert f"{closed} is not imported: Permission denied" in caplog.text
    assert f"{tmp_path}/\\x1btorn is not imported: \\x1btorn/MLmodel is not valid YAML" in caplog.text
    assert caplog.text.count("is not imported") == 2


def test_a_configuration_that_leads_elsewhere(tmp_path: Path) -> None:
    put(tmp_path / "secret.onnx")
    put(tmp_path / "repository/m/1/model.onnx")
    put(tmp_path / "repository/m/config.pbtxt", 'default_model_filename: "../../../secret.onnx"')
    with pytest.raises(RegistryError, match=r"^config.pbtxt: default_model_filename is not a plain file"):
        find_models(tmp_path / "repository/m")


def test_links_out_of_the_directory_are_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "repository"
    put(outside / "m/1/model.onnx")
    put(outside / "config.pbtxt", 'default_model_filename: "other.onnx"')
    mlflow(outside / "flow")
    mlflow(inside / "real")
    mlflow(inside / "sly", MLMODEL_2.replace("data: model.onnx", "data: sub/model.onnx"))
    (inside / "sly/sub").symlink_to(outside / "m/1")
    put(inside / "good/1/model.onnx")
    (inside / "good/2").symlink_to(outside / "m/1")
    (inside / "good/3").mkdir()
    (inside / "good/3/model.onnx").symlink_to(outside / "m/1/model.onnx")
    (inside / "good/4").symlink_to(inside / "good/1")
    (inside / "good/5").mkdir()
    (inside / "good/5/model.onnx").symlink_to(outside / "m/1")
    (inside / "good/config.pbtxt").symlink_to(outside / "config.pbtxt")
    (inside / "whole").symlink_to(outside / "m")
    (inside / "flow").symlink_to(outside / "flow")
    (inside / "circle").symlink_to(inside)
    (inside / "itself").symlink_to(inside / "itself")
    (inside / "newest.onnx").symlink_to("good/1/model.onnx")
    assert found(inside) == [
        ("good", "good/1/model.onnx"),
        ("good", "good/4/model.onnx"),
        ("real", "real/model.onnx"),
    ]
    assert "sly/MLmodel names 'sub/model.onnx', which is not a file inside" in caplog.text
    assert "newest.onnx" not in caplog.text


def test_a_tree_without_end_is_given_up_in_few_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "z/1/model.onnx")
    for number in range(50):
        (tmp_path / f"{number}").mkdir()
    assert found(tmp_path) == [("z", "z/1/model.onnx")]
    assert caplog.text.count("no ONNX model is in it") == 20
    monkeypatch.setattr(importing, "_MAX_DIRECTORIES", 50)
    with pytest.raises(RegistryError, match="has more than 50 directories; name one inside it"):
        find_models(tmp_path)


@pytest.mark.parametrize(
    "made",
    [(), ("m/model.onnx",), ("m/v1/model.onnx",), ("m/1/model.pt",), ("others/m/1/model.onnx",)],
)
def test_nothing_there_says_what_was_looked_for(tmp_path: Path, made: tuple[str, ...]) -> None:
    for name in made:
        put(tmp_path / name)
    with pytest.raises(
        RegistryError, match=r"holds no ONNX model: looked for <model>/<version>/model\.onnx.*MLmodel"
    ):
        find_models(tmp_path)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="cannot be read: No such file"):
        find_models(tmp_path / "gone")


def test_what_is_found_can_be_published(tmp_path: Path, registry: Registry) -> None:
    model, weights = models.external_data()
    put(tmp_path / "triton/m/5/model.onnx/model.onnx", model)
    put(tmp_path / "triton/m/5/model.onnx/weights.bin", weights)
    mlflow(tmp_path / "triton/flights")
    for one in find_models(tmp_path / "triton"):
        registry.publish(one.name, one.file, inspect=glance, provenance=one.provenance)
    manifest = registry.verify("m", 1).manifest
    assert manifest is not None
    assert manifest.provenance["source_version"] == 5
    assert set(manifest.files) == {"model.onnx", "weights.bin"}
    flights = registry.verify("flights", 1).manifest
    assert flights is not None
    assert flights.provenance["mlflow"]["run_id"] == "7ee5e476cc964a99beec2f4269f8e811"
