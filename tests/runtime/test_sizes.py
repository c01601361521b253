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
    ("inputs", "places"),
    [
        ([["n", "length"], ["m", "length"]], {"length": [(0, 1), (1, 1)]}),
        ([["n", "side", "side"], ["m"]], {"side": [(0, 1), (0, 2)]}),
        ([["n", "length"], ["m", 3, "length"]], {"length": [(0, 1), (1, 2)]}),
        ([["nodes", 3], ["nodes", "nodes"]], {"nodes": [(0, 0), (1, 0), (1, 1)]}),
        ([["n", "length"], ["m", "width"]], {}),
        ([["n", None], ["m", None]], {}),
        ([["n", ""], ["m", ""]], {}),
        ([["n", "?"], ["m", "?"]], {}),
        ([["n", "None"], ["m", "None"]], {}),
        ([["n", "past + 1"], ["m", "past + 1"]], {}),
    ],
)
def test_where_a_name_stands_twice(inputs: list[Shape], places: object) -> None:
    assert SharedSizes([Node(shape) for shape in inputs]).places == places


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
    with pytest.raises(InvalidRequest, match=r"^input 'b' has 3 .* where input 'a' has 4"):
        run(4, 3)


def test_rows_may_have_to_be_as_many_as_columns(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.squared())
    runtime = OnnxRuntime(path)
    (y,) = runtime.run([np.full((2, 2), 1, np.float32)])
    assert y.tolist() == [[2, 2], [2, 2]]
    with pytest.raises(InvalidRequest, match=r"^input 'x' has 3 in dimension 1 where input 'x' has 2"):
        runtime.run([np.zeros((2, 3), np.float32)])


def test_any_other_failure_is_the_models(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(models.failing_on_negative())
    with pytest.raises(ModelFailed):
        OnnxRuntime(path).run([np.full((1, 1), 99)])
