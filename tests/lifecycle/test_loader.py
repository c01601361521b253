"""One version from its directory to a warm session: what its rows may take."""

from pathlib import Path

from fastserve.batching import BatchingOptions
from fastserve.lifecycle import LifecycleOptions, Loader
from fastserve.registry import Registry
from fastserve.runtime import RuntimeOptions
from tests import models
from tests.registries import publish

WIDTH = 1_000


def test_a_batch_of_wide_rows_is_one_that_the_batch_buffer_may_hold(tmp_path: Path) -> None:
    """The warm-up makes every batch: of rows of 4 MB, 1024 were 4 GB, however small the model."""
    registry = Registry(tmp_path / "registry")
    publish(registry, "wide", models.scaled(width=WIDTH))
    batching = BatchingOptions(max_queue_bytes=2**16)
    loader = Loader(registry, RuntimeOptions(), batching, LifecycleOptions(probe=False), threads=1)
    loaded = loader.load("wide", 1)
    assert loaded.max_batch_rows == 2**16 // (WIDTH * 4)
    loader.free(loaded)


def test_a_size_of_an_output_that_is_declared_and_not_so_is_variable(tmp_path: Path) -> None:
    """As an exporter writes the length that it traced with: clients would count on it, and so would watching."""
    registry = Registry(tmp_path / "registry")
    publish(registry, "lstm", models.traced_length())
    loader = Loader(registry, RuntimeOptions(), BatchingOptions(), LifecycleOptions(probe=False), threads=1)
    loaded = loader.load("lstm", 1)
    assert [spec.shape for spec in loaded.runtime.signature.outputs] == [(-1, -1, 2)]
    assert loaded.runtime.signature.batched and loaded.max_batch_rows > 1
    loader.free(loaded)
