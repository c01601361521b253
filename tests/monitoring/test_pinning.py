"""The first rows of a version become its reference, whoever brings them and however odd a batch is."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastserve.monitoring import pinning
from fastserve.monitoring.pinning import Pinner
from fastserve.monitoring.profile import CategoryFeature
from fastserve.monitoring.sampling import MAX_TEXT
from fastserve.types import DataType, Signature, TensorSpec
from tests.monitoring import profiles

SHAPE = profiles.signature([("x", "FP32", 2)], [("y", "FP32", 1)])


def test_threads_bring_each_row_once() -> None:
    """Batches of several shapes run on several threads; no row is left unwritten, none is kept twice."""
    full: list[Pinner] = []
    one = Pinner(SHAPE, 40_000, 100, full.append)

    def work(first: int) -> None:
        for at in range(first, first + 12_000, 8):
            x = np.arange(2 * at, 2 * at + 16, dtype=np.float32).reshape(8, 2)
            one.update([x], [x[:, :1]], 8)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(0, 48_000, 12_000)))
    assert one.rows == one.wanted == 40_000
    assert full == [one]
    x = one._kept[0]
    assert (x[:, 1] == x[:, 0] + 1).all()
    assert len(np.unique(x[:, 0])) == 40_000


@pytest.mark.parametrize("output", [np.float32(1.0).reshape(()), np.zeros((0, 1)), np.zeros((3, 5))])
def test_a_batch_that_is_not_what_the_model_says_is_left_out(output: Any) -> None:
    one = Pinner(SHAPE, 10, 100, lambda _: None)
    one.update([np.zeros((3, 2), np.float32)], [output], 3)
    assert one.rows == 0
    one.update([np.zeros((3, 2), np.float32)], [np.zeros((3, 1), np.float32)], 3)
    assert one.rows == 3


def test_tensors_without_a_fixed_number_of_values_or_with_too_many_are_left_out() -> None:
    def spec(name: str, *row: int) -> TensorSpec:
        return TensorSpec(name, DataType.FP32, (-1, *row))

    inputs = (spec("free", -1), spec("none", 0, 2), spec("wide", 2, 3), spec("x", 2, 2))
    shape = Signature(inputs, (spec("odd", -1, 4), spec("y")), batched=True)
    one = Pinner(shape, 2, 4, lambda _: None)
    rows = [np.zeros((2, 7), np.float32), np.zeros((2, 0, 2), np.float32), np.zeros((2, 2, 3), np.float32)]
    one.update([*rows, np.ones((2, 2, 2), np.float32)], [np.zeros((2, 1, 4)), np.array([5.0, 6.0])], 2)
    profile = one.profile()
    assert [(each.role, each.tensor, len(each.features)) for each in profile.tensors] == [
        ("input", "x", 4),
        ("output", "y", 1),
    ]
    assert (profile.source, profile.rows, profile.description) == (
        "live",
        2,
        "the first 2 rows that were served",
    )
    for nothing in (replace(shape, batched=False), replace(shape, inputs=inputs[:2], outputs=())):
        with pytest.raises(ValueError, match="no tensor has a fixed number"):
            Pinner(nothing, 2, 4, lambda _: None)


def test_text_takes_bounded_memory_however_long_it_is() -> None:
    shape = profiles.signature([("x", "BYTES", 1)], [("y", "BYTES", 1)])
    assert Pinner(shape, 10**9, 100, lambda _: None).wanted == pinning._MAX_BYTES // (2 * MAX_TEXT)
    one = Pinner(shape, 3, 100, lambda _: None)
    row = np.array([["é" * MAX_TEXT]], object)
    one.update([row], [row], 1)
    long = np.array([["é" * (MAX_TEXT + 1)], ["é" * 10**6]], object)
    one.update([long], [long], 2)
    assert [len(value) for kept in one._kept for value in kept.flat] == [256, 257, 257] * 2
    (feature,) = one.profile().tensors[0].features
    assert isinstance(feature, CategoryFeature)
    assert (feature.categories, feature.counts, feature.unseen) == (("é" * MAX_TEXT,), (1,), 2)


def test_the_rows_kept_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number takes eight bytes at least."""
    monkeypatch.setattr(pinning, "_MAX_BYTES", 100)
    full: list[Pinner] = []
    one = Pinner(SHAPE, 1_000, 100, full.append)
    assert one.wanted == 100 // (3 * 8)
    for _ in range(3):
        one.update([np.zeros((3, 2), np.float32)], [np.zeros((3, 1), np.float32)], 3)
    assert one.rows == 4 and full == [one]
    monkeypatch.setattr(pinning, "_MAX_BYTES", 1)
    assert Pinner(SHAPE, 1_000, 100, full.append).wanted == 1
