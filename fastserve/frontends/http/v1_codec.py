"""TensorFlow Serving's predict bodies to tensors: rows by column name, or whole columns."""

from dataclasses import dataclass
from typing import Any

from fastserve.errors import InvalidRequest
from fastserve.frontends.http.errors import quoted
from fastserve.frontends.http.json_text import loads
from fastserve.frontends.http.tensors import from_json
from fastserve.types import Array, Signature, TensorSpec


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A predict request as tensors; `columnar` when it came as `inputs` and is answered as `outputs`."""

    inputs: dict[str, Array]
    columnar: bool

    @property
    def rows(self) -> int:
        """How many instances there are; not of a columnar request."""
        return len(next(iter(self.inputs.values())))


def decode(body: bytes, signature: Signature, max_depth: int) -> PredictRequest:
    """Read `{"instances": [row, …]}` or `{"inputs": columns}`; other keys are ignored.

    Raises
    ------
    InvalidRequest
        Names the row and the column that is wrong.
    """
    document = loads(body, max_depth)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object", "body")
    if "instances" in document and "inputs" in document:
        raise InvalidRequest("give instances (rows) or inputs (columns), not both", "inputs")
    if "instances" in document:
        return PredictRequest(_instances(document["instances"], signature), False)
    if "inputs" in document:
        return PredictRequest(_columns(document["inputs"], signature), True)
    raise InvalidRequest("instances (rows) or inputs (columns) is missing", "instances")


def _instances(rows: object, signature: Signature) -> dict[str, Array]:
    if not signature.batched:
        raise InvalidRequest("the model has no batch dimension; send inputs (columns)", "instances")
    if not isinstance(rows, list) or not rows:
        raise InvalidRequest("instances must be a list with at least one row", "instances")
    if not isinstance(rows[0], dict):
        spec = _only_input(signature, "instances")
        return {spec.name: _column(rows, spec, "instances")}
    names = {spec.name for spec in signature.inputs}
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidRequest(
                f"instances[{i}] must be an object of columns like the rows before it", "instances"
            )
        _check_names(row, names, f"instances[{i}]")
    return {
        spec.name: _column([row[spec.name] for row in rows], spec, f"instances: column {quoted(spec.name)}")
        for spec in signature.inputs
    }


def _columns(columns: object, signature: Signature) -> dict[str, Array]:
    if not isinstance(columns, dict):
        columns = {_only_input(signature, "inputs").name: columns}
    _check_names(columns, {spec.name for spec in signature.inputs}, "inputs")
    arrays: dict[str, Array] = {}
    rows = -1
    for spec in signature.inputs:
        field = f"inputs: column {quoted(spec.name)}"
        values = columns[spec.name]
        if not signature.batched:
            arrays[spec.name] = from_json(values, spec.datatype, _fit(values, spec.shape), field)
            continue
        if not isinstance(values, list) or not values:
            raise InvalidRequest(f"{field} must be a list with at least one row", field)
        if rows >= 0 and len(values) != rows:
            raise InvalidRequest(f"{field} has {len(values)} rows, the columns before it have {rows}", field)
        rows = len(values)
        arrays[spec.name] = _column(values, spec, field)
    return arrays


def _only_input(signature: Signature, field: str) -> TensorSpec:
    if len(signature.inputs) > 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidRequest(f"{field} must name the columns, as objects with: {names}", field)
    return signature.inputs[0]


def _check_names(given: dict[str, Any], names: set[str], field: str) -> None:
    if given.keys() == names:
        return
    for name in sorted(names - given.keys()):
        raise InvalidRequest(f"{field}: column {quoted(name)} is missing", field)
    for name in sorted(given.keys() - names):
        raise InvalidRequest(f"{field}: the model has no column {quoted(name)}", field)


def _column(values: list[Any], spec: TensorSpec, field: str) -> Array:
    """Make [rows, *row shape] of one value per row; a row of one element may be a bare value."""
    shape = (len(values), *_fit(values[0], spec.shape[1:]))
    return from_json(values, spec.datatype, shape, field)


def _fit(value: object, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Take variable dimensions from how `value` is nested; 1 where it is not."""
    fitted = []
    for dim in shape:
        size = len(value) if isinstance(value, list) else 1
        fitted.append(size if dim < 0 else dim)
        value = value[0] if isinstance(value, list) and value else None
    return tuple(fitted)


def check_rows(outputs: list[Array], signature: Signature, rows: int) -> None:
    """Raise InvalidRequest when predictions are not one for one the instances'."""
    for array, spec in zip(outputs, signature.outputs, strict=True):
        got = array.shape[0] if array.ndim else 0
        if got != rows:
            raise InvalidRequest(
                f"output {quoted(spec.name)} has {got} rows for {rows} instances; send inputs (columns)",
                "instances",
            )
