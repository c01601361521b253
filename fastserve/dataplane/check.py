"""Tensors against a signature: the last check before the queue, whichever front end they came through."""

from collections.abc import Mapping

import numpy as np

from fastserve.errors import InvalidRequest
from fastserve.types import Array, Signature, TensorSpec


def check_inputs(
    signature: Signature, inputs: Mapping[str, Array], needs_values: bool = False
) -> tuple[list[Array], int]:
    """Put a request's tensors into signature order.

    Parameters
    ----------
    inputs
        One array per input name, dtype `DataType.dtype`, shape as in the signature (-1: any size).
    needs_values
        No array may be empty.

    Returns
    -------
    arrays
        C-contiguous, in signature order.
    rows
        Common size of dimension 0; 1 for a model without batch dimension.

    Raises
    ------
    InvalidRequest
        Names the input that is unknown, missing, or does not fit.
    """
    known = {spec.name for spec in signature.inputs}
    for name in inputs:
        if name not in known:
            raise InvalidRequest(
                f"input '{name[:128]}' is not an input of the model", f"input '{name[:128]}'"
            )
    arrays: list[Array] = []
    rows = -1 if signature.batched else 1
    for spec in signature.inputs:
        array = _one(spec, inputs.get(spec.name), needs_values)
        if signature.batched:
            if rows < 0:
                rows = array.shape[0]
                if rows < 1:
                    raise InvalidRequest(f"input '{spec.name}' has no rows", f"input '{spec.name}'")
            elif array.shape[0] != rows:
                raise InvalidRequest(
                    f"input '{spec.name}' has {array.shape[0]} rows where the inputs before it have {rows}",
                    f"input '{spec.name}'",
                )
        arrays.append(array)
    return arrays, rows


def _one(spec: TensorSpec, array: Array | None, needs_values: bool) -> Array:
    field = f"input '{spec.name}'"
    if array is None:
        raise InvalidRequest(f"{field} is missing", field)
    if array.dtype != spec.datatype.dtype:
        raise InvalidRequest(f"{field} must be {spec.datatype}, not {array.dtype}", field)
    if not spec.fits(array.shape):
        raise InvalidRequest(f"{field} must have shape {list(spec.shape)}, not {list(array.shape)}", field)
    if needs_values and not array.size:
        raise InvalidRequest(
            f"{field} has shape {list(array.shape)}, which is empty: "
            "the model has an operator that cannot run on nothing",
            field,
        )
    return np.asarray(array, order="C")  # ascontiguousarray would give a scalar a dimension
