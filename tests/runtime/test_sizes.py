"""Sizes that a client chose otherwise than the model's names for dimensions have it."""

from pathlib import Path

import numpy as np
import pytest

from fastserve.errors import InvalidRequest, ModelFailed
from fastserve.runtime import OnnxRuntime
from fastserve.runtime.sizes import SharedSizes
from tests import models
from tests.runtime.nodes import Node, Shape


@pytest.mark.parametrize(
    ("inputs", "batched", "places"),
    [
        ([["n", "length"], ["n", "length"]], True, {"length": [(0, 1), (1, 1)]}),
        ([["n", "side", "side"], ["n"]], True, {"side": [(0, 1), (0, 2)]}),
        ([["n", "length"], ["m", 3, "length"]], False, {"length": [(0, 1), (1, 2)]}),
        ([["n", 3], [2, "n"]], False, {"n": [(0, 0), (1, 1)]}),
        ([["n", "length"], ["n", "width"]], True, {}),
        ([["n", None], ["n", None]], True, {}),
        ([["n", ""], ["n", ""]], True, {}),
        ([["n", "?"], ["n", "?"]], True, {}),
        ([["n", "None"], ["n", "None"]], True, {}),
        ([["n", "past + 1"], ["n", "past + 1"]], True, {}),
    ],
)
def test_where_a_name_stands_twice(inputs: list[Shape], batched: bool, places: object) -> None:
    assert SharedSizes([Node(shape) for shape in inputs], batched).places == places


def test_a_run_that_fails_on_two_sizes_is_the_clients_doing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.pair())
    runtime = OnnxRuntime(path)

    def run(*lengths: int) -> int:
        (y,) = runtime.run([np.zeros((2, length), np.float32) for length in lengths])
        return int(y.shape[1])

    assert run(7, 7) == 7
    assert run(7, 1) == 7
    with pytest.raises(
        InvalidRequest,
        match=r"^input 'b' has 4 in dimension 1 where input 'a' has 3 in dimension 1: the model calls both "
        r"'length', and failed: .+",
    ) as refused:
        run(3, 4)
    assert refused.value.field == "input 'b'"


def test_any_other_failure_is_the_models(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.failing_on_negative())
    with pytest.raises(ModelFailed):
        OnnxRuntime(path).run([np.full((1, 1), 99)])
