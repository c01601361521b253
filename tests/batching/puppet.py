"""A runtime that a test drives by hand: it runs when told to, fails when told to, and remembers every batch."""

import threading
from collections.abc import Callable, Sequence

import numpy as np

from fastserve.errors import ModelFailed
from fastserve.types import Array, DataType, Signature, TensorSpec


class PuppetRuntime:
    """Doubles its one FP32 input of width 2; a row whose first value is `poison` makes the whole run fail."""

    provider = "cpu"

    def __init__(self, poison: float | None = None) -> None:
        self.signature = Signature(
            (TensorSpec("x", DataType.FP32, (-1, 2)),), (TensorSpec("y", DataType.FP32, (-1, 2)),), True
        )
        self.poison = poison
        self.batches: list[list[float]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        self.entered.set()
        assert self.gate.wait(20)
        (x,) = inputs
        self.batches.append([float(v) for v in x[:, 0]])
        if self.poison is not None and (x[:, 0] == self.poison).any():
            raise ModelFailed("poisoned")
        return [x * 2]

    def bind(self, inputs: Sequence[Array]) -> Callable[[], list[Array]] | None:
        return None

    def interrupt(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass

    @property
    def executed(self) -> list[float]:
        """First values of all rows that ever ran, in order."""
        return [value for batch in self.batches for value in batch]


def rows(*values: float) -> list[Array]:
    """A request: one row per value."""
    return [np.array([[value, -value] for value in values], np.float32)]
