"""Rows that nobody has sent: what is made for every shape and datatype, and where that ends."""

from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from fastserve.errors import ModelFailed
from fastserve.runtime import OnnxRuntime, RuntimeOptions, warm
from fastserve.runtime.examples import blank_rows, first_that_runs, varied
from fastserve.types import Array, DataType, Signature, TensorSpec
from tests import models


@pytest.mark.parametrize("width", [1, 2, 3, 9])
@pytest.mark.parametrize("datatype", list(DataType))
def test_a_row_differs_from_the_one_before_it(datatype: DataType, width: int) -> None:
    rows = varied(np.zeros((1, width), datatype.dtype)).tolist()
    assert len(rows) == 3 and rows[0] != rows[1] != rows[2]


@pytest.mark.parametrize("shape", [["n"], ["n", 1], ["n", 2]])
def test_numbers_that_are_added_up_along_the_batch_are_noticed(
    tmp_path: Path, shape: list[str | int]
) -> None:
    x, y = (models.tensor(name, TensorProto.INT64, shape) for name in "xy")
    axis = numpy_helper.from_array(np.array(0), "axis")
    (tmp_path / "model.onnx").write_bytes(
        models.model_bytes([helper.make_node("CumSum", ["x", "axis"], ["y"])], [x], [y], [axis])
    )
    runtime = OnnxRuntime(tmp_path / "model.onnx", RuntimeOptions.model_validate({"provider": "cpu"}))
    assert warm(runtime, 4, 60_000).reason == "output 'y' of a row depends on which rows share its run"


def test_one_row_is_tried_however_large() -> None:
    image, label = TensorSpec("x", DataType.FP32, (-1, 3, 1024, 1024)), TensorSpec("y", DataType.FP32, (-1,))
    ((row,),) = blank_rows(Signature((image,), (label,), batched=True))
    assert row.shape == (1, 3, 1024, 1024)


def test_strings_are_empty() -> None:
    text = TensorSpec("x", DataType.BYTES, (-1, 2))
    assert [row[0].tolist() for row in blank_rows(Signature((text,), (text,), batched=True))] == [[["", ""]]]


@pytest.mark.parametrize("batched", [True, False])
def test_an_end_comes_where_an_output_is_a_scalar(batched: bool) -> None:
    def fails(_: list[Array]) -> NoReturn:
        raise ModelFailed("it always does")

    spec, scalar = TensorSpec("x", DataType.FP32, (-1, 2)), TensorSpec("y", DataType.FP32, ())
    with pytest.raises(ModelFailed, match="it always does"):
        first_that_runs(Signature((spec,), (scalar,), batched), fails)
