"""Inputs and outputs as onnxruntime describes them."""

from collections.abc import Sequence
from dataclasses import dataclass

Shape = Sequence[int | str | None]


@dataclass
class Node:
    """A tensor of a model: what `NodeArg` is there."""

    shape: Shape
    name: str = "x"
    type: str = "tensor(float)"
