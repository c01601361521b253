"""Shapes as JSON: what no body could fill is refused before anything is made of it."""

from typing import Any

import pytest

from fastserve.errors import InvalidRequest
from fastserve.frontends.http.tensors import checked_shape


@pytest.mark.parametrize(
    "shape", [[], [0], [3, 0], [0, 65_536], [65_536, 0], [2**60 - 1], [256, 256, 0], [1] * 32]
)
def test_good_shapes(shape: list[int]) -> None:
    assert checked_shape(shape, "shape") == tuple(shape)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([1_000_000_000, 0], r"has no values; its other dimensions may make 65536 at most"),
        ([0, 65_537], "has no values"),
        ([256, 257, 0], "has no values"),
        ([2**63 - 1, 0], "the product of the dimensions is too large"),
        ([2**60], "the product of the dimensions is too large"),
        ([2**31, 2**31, 2], "the product of the dimensions is too large"),
        ([1, -1], "dimension -1 is negative"),
        ([1, 2.0], "is not an integer"),
        ([1, True], "is not an integer"),
        ([1] * 33, "33 dimensions, the limit is 32"),
        ("[1]", "must be a list of integers"),
    ],
)
def test_bad_shapes(shape: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^inputs\\[0\\].shape.*{says}"):
        checked_shape(shape, "inputs[0].shape")
