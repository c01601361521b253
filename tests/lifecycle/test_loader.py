"""One version from its directory to a warm session: how its rows will run."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fastserve.batching import BatchingOptions
from fastserve.errors import RegistryError
from fastserve.lifecycle import LifecycleOptions, Loader
from fastserve.registry import Registry
from fastserve.runtime import OnnxRuntime, RuntimeOptions
from tests import models
from tests.registries import publish

WIDTH = 1_000


def loader_of(
    tmp_path: Path,
    model: bytes,
    batching: BatchingOptions | None = None,
    runtime: RuntimeOptions | None = None,
    threads: int = 1,
    **lifecycle: object,
) -> Loader:
    """A loader of a registry that has the model `m`."""
    registry = Registry(tmp_path / "registry")
    publish(registry, "m", model)
    options = runtime or RuntimeOptions(), batching or BatchingOptions()
    return Loader(
        registry, *options, LifecycleOptions.model_validate({"probe": False, **lifecycle}), threads=threads
    )


def test_a_batch_of_wide_rows_is_one_that_the_batch_buffer_may_hold(tmp_path: Path) -> None:
    """The warm-up makes every batch: of rows of 4 MB, 1024 were 4 GB, however small the model."""
    loader = loader_of(tmp_path, models.scaled(width=WIDTH), BatchingOptions(max_queue_bytes=2**16))
    loaded = loader.load("m", 1)
    assert loaded.max_batch_rows == 2**16 // (WIDTH * 4)
    loader.free(loaded)


def test_checksums_are_compared_unless_nobody_wants_it(tmp_path: Path) -> None:
    for verify in (True, False):
        loader = loader_of(tmp_path / str(verify), models.scaled(), verify=verify)
        model = tmp_path / str(verify) / "registry" / "m" / "1" / "model.onnx"
        model.chmod(0o644)
        model.write_bytes(models.scaled(2.5))
        if verify:
            with pytest.raises(RegistryError, match="does not have the checksum"):
                loader.load("m", 1)
        else:
            loader.free(loader.load("m", 1))


def test_a_file_that_is_put_in_the_place_of_the_checked_one_does_not_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = loader_of(tmp_path, models.scaled())
    folder = tmp_path / "registry" / "m" / "1"

    def swap_and_load(path: Path, *more: Any) -> OnnxRuntime:
        (folder / ".other").write_bytes(models.scaled(2.5))
        (folder / ".other").rename(path)
        return OnnxRuntime(path, *more)

    monkeypatch.setattr("fastserve.lifecycle.loader.OnnxRuntime", swap_and_load)
    with pytest.raises(RegistryError, match="m/1 was changed while it was loaded"):
        loader.load("m", 1)
    monkeypatch.undo()
    with pytest.raises(RegistryError, match="does not have the checksum"):
        loader.load("m", 1)


def test_a_model_is_the_one_that_its_manifest_tells_of(tmp_path: Path) -> None:
    loader = loader_of(tmp_path, models.scaled(), verify=False)
    model = tmp_path / "registry" / "m" / "1" / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(models.scaled(width=5))
    with pytest.raises(RegistryError, match=r"has another signature than the model: x, y$"):
        loader.load("m", 1)


def test_a_size_of_an_output_that_is_declared_and_not_so_is_variable(tmp_path: Path) -> None:
    """As an exporter writes the length that it traced with: clients would count on it, and so would watching."""
    loader = loader_of(tmp_path, models.traced_length())
    loaded = loader.load("m", 1)
    assert [spec.shape for spec in loaded.runtime.signature.outputs] == [(-1, -1, 2)]
    assert loaded.runtime.signature.batched and loaded.max_batch_rows > 1
    loader.free(loaded)


def test_an_output_that_has_more_dimensions_than_it_is_declared_with(tmp_path: Path) -> None:
    """As CatBoost's exporter writes a regressor: one number a row, which comes as [rows, 1]."""
    model = onnx.load_from_string(models.gbm())
    del model.graph.output[1].type.tensor_type.shape.dim[1]
    loader = loader_of(tmp_path, model.SerializeToString())
    loaded = loader.load("m", 1)
    assert [spec.shape for spec in loaded.runtime.signature.outputs] == [(-1,), (-1, -1)]
    assert loaded.max_batch_rows > 1
    loader.free(loaded)


def test_an_output_of_which_nothing_is_known_is_looked_at(tmp_path: Path) -> None:
    """As of a loop: without a shape it is no reason to run each request alone and to refuse `instances`."""
    model = onnx.load_from_string(models.gbm())
    model.graph.output[1].type.tensor_type.ClearField("shape")
    loader = loader_of(tmp_path, model.SerializeToString())
    loaded = loader.load("m", 1)
    assert [spec.shape for spec in loaded.runtime.signature.outputs] == [(-1,), (-1, -1)]
    assert loaded.max_batch_rows > 1
    loader.free(loaded)


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_operators_that_an_empty_tensor_would_end_the_process_by(
    tmp_path: Path, operator: str, gates: int
) -> None:
    """onnxruntime aborts in all of them but RNN: one request of no steps, or of no sequences, ended a worker."""
    model = models.model_bytes(
        [onnx.helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=2)],
        [models.tensor("x", onnx.TensorProto.FLOAT, ["length", "batch", 3])],
        [models.tensor("y", onnx.TensorProto.FLOAT, ["length", 1, "batch", 2])],
        [
            onnx.numpy_helper.from_array(np.ones((1, gates * 2, width), np.float32), name)
            for name, width in (("w", 3), ("r", 2))
        ],
    )
    loader = loader_of(tmp_path, model)
    loaded = loader.load("m", 1)
    assert loaded.needs_values is (operator != "RNN")
    loader.free(loaded)


def test_what_is_not_to_be_tested_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loader = loader_of(tmp_path, models.scaled(), probe=False, probe_memory_bytes=1)
    loader.free(loader.load("m", 1))


def test_a_session_has_the_threads_of_its_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def load(path: Path, options: RuntimeOptions, threads: int = 1) -> OnnxRuntime:
        told.append(threads)
        return OnnxRuntime(path, options, threads)

    monkeypatch.setattr("fastserve.lifecycle.loader.OnnxRuntime", load)
    loader = loader_of(tmp_path, models.scaled(), threads=3)
    loader.free(loader.load("m", 1))
    assert told == [3]


def test_a_model_has_settings_of_its_own(tmp_path: Path) -> None:
    loader = loader_of(tmp_path, models.scaled(), BatchingOptions(max_batch_rows=64, max_queue_rows=99))
    settings = tmp_path / "registry" / "m" / "model.yaml"
    settings.write_text("batching: {max_batch_rows: 7}\n")
    loaded = loader.load("m", 1)
    assert (loaded.max_batch_rows, loaded.batching.max_queue_rows) == (7, 99)
    loader.free(loaded)
    settings.write_text("batching: {max_batch_rows: 0}\n")
    with pytest.raises(RegistryError, match=r"model\.yaml of model 'm': batching\.max_batch_rows"):
        loader.load("m", 1)


def test_batches_that_would_run_too_long_are_not_formed(tmp_path: Path) -> None:
    loader = loader_of(tmp_path, models.mlp(64, 256, 2), runtime=RuntimeOptions(max_bucket_ms=1e-6))
    loaded = loader.load("m", 1)
    assert loaded.max_batch_rows == 1
    loader.free(loaded)


@pytest.mark.parametrize(
    ("model", "told"),
    [(models.centred(), True), (models.scaled(), False), (models.fixed_batch(), False)],
    ids=["rows mix", "rows stay apart", "no batch to have"],
)
def test_who_expects_batches_and_gets_none_is_told_why(
    tmp_path: Path, model: bytes, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    loader = loader_of(tmp_path, model)
    loader.free(loader.load("m", 1))
    assert ("model m version 1 is served unbatched: " in caplog.text) is told
    assert ("depends on which rows share its run" in caplog.text) is told


@pytest.mark.parametrize(("threads", "said_us", "us"), [(1, None, 10_000), (2, None, 1_000), (1, 7, 7)])
def test_what_runs_inline_depends_on_the_cores_unless_it_is_said(
    tmp_path: Path, threads: int, said_us: int | None, us: int
) -> None:
    batching = BatchingOptions(inline_max_us=said_us)
    loader = loader_of(tmp_path, models.scaled(), batching, threads=threads)
    loaded = loader.load("m", 1)
    assert loaded.batching.inline_max_us == us
    loader.free(loaded)
