"""A model run over rows of data: what it takes, what it gives, block by block."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fastserve.cli.common import note
from fastserve.errors import ConfigError, InvalidProfile, ModelFailed

if TYPE_CHECKING:
    from fastserve.monitoring.building import Described
    from fastserve.monitoring.columns import InputColumns
    from fastserve.runtime import Runtime
    from fastserve.types import Array, Signature, TensorSpec

MAX_OUTPUT_WIDTH = 4_096
"""Values a row of an output that is described; live rows of a wider one are not watched either."""

_RUN_ROWS = 4_096
_RUN_VALUES = 2**20


def describe_tensors(
    signature: "Signature", mapped: "Sequence[InputColumns]", codes: Sequence[str], *, outputs: bool
) -> "tuple[list[Described], list[int]]":
    """Say what of a model is described, and the places of those outputs that are.

    ConfigError when `codes` names what the model has not, or floats.
    """
    from fastserve.monitoring.building import Described

    specs = signature.inputs + signature.outputs
    unknown = next((name for name in codes if all(name != spec.name for spec in specs)), None)
    if unknown is not None:
        raise ConfigError(f"--codes: the model has no input or output '{unknown[:128]}'")
    wrong = next((spec for spec in specs if spec.name in codes and spec.datatype.is_float), None)
    if wrong is not None:
        raise ConfigError(f"--codes: '{wrong.name}' is {wrong.datatype}, whose values are no codes")
    tensors = [Described(one.spec, "input", one.columns, one.spec.name in codes) for one in mapped]
    chosen = []
    for place, spec in enumerate(signature.outputs if outputs else ()):
        names = _output_names(spec)
        if names is not None:
            tensors.append(Described(spec, "output", names, spec.name in codes))
            chosen.append(place)
    return tensors, chosen


def predict(runtime: "Runtime", inputs: "Sequence[Array]", chosen: Sequence[int]) -> "Iterator[list[Array]]":
    """Run a model over a block of any number of rows; give its inputs and chosen outputs in parts.

    A part fits into memory, and so does what the model gives for it that is not chosen.

    Raises
    ------
    ModelFailed
        It does not run, or loses rows.
    """
    for part in _parts(inputs, runtime.signature.outputs):
        outputs = _run(runtime, part)
        yield [*part, *(outputs[place] for place in chosen)]


def _run(runtime: "Runtime", inputs: "list[Array]") -> "list[Array]":
    rows = len(inputs[0])
    outputs = runtime.run(inputs)
    for spec, array in zip(runtime.signature.outputs, outputs, strict=True):
        if array.ndim == 0 or len(array) != rows:
            raise ModelFailed(
                f"output '{spec.name}' has {list(array.shape)[:1]} rows for {rows} rows of input"
            )
    return outputs


def _parts(inputs: "Sequence[Array]", outputs: "Sequence[TensorSpec]") -> "Iterator[list[Array]]":
    rows = len(inputs[0])
    taken = sum(array.size for array in inputs) // max(1, rows)
    # What is not fixed counts as one.
    given = sum(math.prod(map(abs, spec.shape[1:])) for spec in outputs)
    size = max(1, min(_RUN_ROWS, _RUN_VALUES // max(1, taken, given)))
    for start in range(0, rows, size):
        yield [array[start : start + size] for array in inputs]


def _output_names(spec: "TensorSpec") -> tuple[str, ...] | None:
    """Name an output's values, or say why they are not described."""
    from fastserve.monitoring.columns import row_width, value_names

    try:
        width = row_width(spec, "output")
    except InvalidProfile as error:
        note(f"{error}; it is left out")
        return None
    if not 1 <= width <= MAX_OUTPUT_WIDTH:
        note(f"output '{spec.name}' has {width} values a row, more than {MAX_OUTPUT_WIDTH}; it is left out")
        return None
    return value_names(spec)
