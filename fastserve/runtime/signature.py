"""From what onnxruntime says of a model's inputs and outputs to the signature that every room shares."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from fastserve.errors import ModelRejected
from fastserve.types import DataType, Signature, TensorSpec

_DATATYPES: dict[str, DataType] = {
    "bool": DataType.BOOL,
    "uint8": DataType.UINT8,
    "uint16": DataType.UINT16,
    "uint32": DataType.UINT32,
    "uint64": DataType.UINT64,
    "int8": DataType.INT8,
    "int16": DataType.INT16,
    "int32": DataType.INT32,
    "int64": DataType.INT64,
    "float16": DataType.FP16,
    "float": DataType.FP32,
    "double": DataType.FP64,
    "string": DataType.BYTES,
}


class Node(Protocol):
    """An input or output as onnxruntime describes it (its `NodeArg`)."""

    @property
    def name(self) -> str:
        """Its name in the graph."""
        ...

    @property
    def type(self) -> str:
        """Its type as text, such as `tensor(float)` or `seq(map(int64,tensor(float)))`."""
        ...

    @property
    def shape(self) -> Sequence[int | str | None]:
        """Its dimensions: a size, the name of a variable one, or None for a nameless one."""
        ...


def signature_of(inputs: Sequence[Node], outputs: Sequence[Node]) -> Signature:
    """Translate nodes; ModelRejected names what no tensor protocol can carry."""
    asked = tuple(_tensor("input", node) for node in inputs)
    given = tuple(_tensor("output", node) for node in outputs)
    for name, times in Counter(spec.name for spec in given).items():
        if times > 1:
            raise ModelRejected(f"{times} outputs have the name '{name[:128]}', which an answer has once")
    batched = _is_batched(inputs, outputs)
    if batched:
        given = tuple(replace(spec, shape=(-1, *spec.shape[1:]) if spec.shape else ()) for spec in given)
    return Signature(asked, given, batched)


def _tensor(side: str, node: Node) -> TensorSpec:
    where, kind = f"{side} '{node.name[:128]}'", node.type
    if not (kind.startswith("tensor(") and kind.endswith(")")):
        raise ModelRejected(f"{where} has the type {kind[:128]}, which is not a tensor{_hint(side, kind)}")
    element = kind.removeprefix("tensor(").removesuffix(")")
    if element not in _DATATYPES:
        raise ModelRejected(
            f"{where} has elements of type {element}, which no client can send or read; cast them"
        )
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
    return TensorSpec(node.name, _DATATYPES[element], shape)


def _hint(side: str, kind: str) -> str:
    if side == "output" and kind.startswith("seq(map("):
        return (
            "; convert the classifier with options={'zipmap': False} (skl2onnx) or zipmap=False (onnxmltools)"
            " to get a tensor, or take the ZipMap node out of the file (CatBoost always writes one)"
        )
    return ""


def _is_batched(inputs: Sequence[Node], outputs: Sequence[Node]) -> bool:
    """Tell whether dimension 0 is one variable batch: nameless, or of the same name, wherever it stands.

    Where the inputs leave no doubt outputs may call it otherwise, or 1, as converters of trees and
    quantisers do, or have no dimensions, as onnxruntime says where it knows none: the warm-up sees whether
    rows stay rows.
    """
    firsts = [_first(node) for node in (*inputs, *outputs)]
    asked, given = firsts[: len(inputs)], firsts[len(inputs) :]
    if not inputs or any(isinstance(first, int) for first in asked):
        return False
    if len(asked) == 1 or (len(set(asked)) == 1 and asked[0]):
        return all(not node.shape or isinstance(_first(node), str) or _first(node) == 1 for node in outputs)
    named = {first for first in firsts if first}
    return len(named) <= 1 and all(isinstance(first, str) for first in given)


def _first(node: Node) -> int | str:
    """Dimension 0: its size, or its name, empty without one; size 0 where there is no dimension."""
    first = node.shape[0] if len(node.shape) else 0
    if isinstance(first, int) and first >= 0:
        return first
    return first if isinstance(first, str) else ""
