"""Tensors that exist, set beside what a model takes: whole, in its order, as many rows of each."""

import numpy as np
import pytest
from numpy.typing import DTypeLike

from fastserve.dataplane.check import check_inputs
from fastserve.errors import InvalidRequest
from fastserve.types import Array, DataType, Signature, TensorSpec

BATCHED = Signature(
    (
        TensorSpec("a", DataType.FP32, (-1, 2)),
        TensorSpec("b", DataType.FP32, (-1, -1, 3)),
        TensorSpec("c", DataType.BYTES, (-1,)),
    ),
    (),
    batched=True,
)
ALONE = Signature(
    (TensorSpec("x", DataType.FP32, ()), TensorSpec("y", DataType.INT64, (2, -1))), (), batched=False
)


def zeros(*shape: int, dtype: DTypeLike = np.float32) -> Array:
    return np.zeros(shape, dtype)


def given(**changed: Array) -> dict[str, Array]:
    """Five rows that fit, in another order than the model's, but for what is changed."""
    return {"c": zeros(5, dtype=object), "b": zeros(5, 7, 3), "a": zeros(5, 2)} | changed


def test_arrays_come_in_the_models_order_and_in_one_piece() -> None:
    across = np.asfortranarray(np.arange(10.0, dtype=np.float32).reshape(5, 2))
    inputs = given(a=across)
    arrays, rows = check_inputs(BATCHED, inputs)
    assert rows == 5
    assert arrays[0].flags.c_contiguous and arrays[0].tolist() == across.tolist()
    assert arrays[1] is inputs["b"] and arrays[2] is inputs["c"]


def test_without_a_batch_there_is_one_row_whatever_the_shapes() -> None:
    arrays, rows = check_inputs(ALONE, {"x": zeros(), "y": zeros(2, 9, dtype=np.int64)})
    assert rows == 1 and [array.shape for array in arrays] == [(), (2, 9)]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (given(d=zeros(5)), "input 'd' is not an input of the model"),
        ({"a": zeros(5, 2), "c": zeros(5, dtype=object)}, "input 'b' is missing"),
        (given(a=zeros(5, 2, dtype=np.float64)), "input 'a' must be FP32, not float64"),
        (given(a=zeros(5, 3)), r"input 'a' must have shape \[-1, 2\], not \[5, 3\]"),
        (given(a=zeros(10)), r"input 'a' must have shape \[-1, 2\], not \[10\]"),
        (given(a=zeros(5, 2, 1)), r"input 'a' must have shape \[-1, 2\], not \[5, 2, 1\]"),
        (given(b=zeros(4, 7, 3)), "input 'b' has 4 rows where the inputs before it have 5"),
        (given(c=zeros(6, dtype=object)), "input 'c' has 6 rows where the inputs before it have 5"),
        (given(a=zeros(0, 2)), "input 'a' has no rows"),
    ],
)
def test_what_does_not_fit_is_named(inputs: dict[str, Array], message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{message}$") as refused:
        check_inputs(BATCHED, inputs)
    assert refused.value.field == message.split(" ", 2)[0] + " " + message.split(" ", 2)[1]


def test_an_empty_tensor_is_refused_where_an_operator_needs_values() -> None:
    empty = {"x": zeros(), "y": zeros(2, 0, dtype=np.int64)}
    check_inputs(ALONE, empty)
    with pytest.raises(InvalidRequest, match=r"input 'y' has shape \[2, 0\], which is empty"):
        check_inputs(ALONE, empty, needs_values=True)


def test_a_scalar_is_no_vector() -> None:
    with pytest.raises(InvalidRequest, match=r"input 'x' must have shape \[\], not \[1\]"):
        check_inputs(ALONE, {"x": zeros(1), "y": zeros(2, 1, dtype=np.int64)})
