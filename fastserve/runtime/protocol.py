"""What the rooms above know of a loaded model, so that tests and later engines can stand in for ONNX."""

from collections.abc import Callable, Sequence
from typing import Protocol

from fastserve.types import Array, Signature

Bound = Callable[[], list[Array]]
"""A prepared run over fixed arrays; gives the same output arrays each time, overwritten in place."""


class Runtime(Protocol):
    """One loaded model. `run` is safe from several threads at once; a `Bound` belongs to one caller."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs, in the order that `run` takes and gives them."""
        ...

    @property
    def provider(self) -> str:
        """The execution provider that the session really got: `cpu`, `cuda` or `tensorrt`."""
        ...

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run the model once on inputs in signature order; ModelFailed whatever goes wrong."""
        ...

    def bind(self, inputs: Sequence[Array]) -> Bound | None:
        """Prepare a cheaper run over exactly these arrays, or None where that cannot be had."""
        ...

    def interrupt(self) -> None:
        """Stop the runs under way, which fail with RunStopped; later ones are not concerned. Any thread."""
        ...

    def close(self) -> None:
        """Give the session's memory back; `run` afterwards fails."""
        ...
