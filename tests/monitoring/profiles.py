"""Small profiles for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from fastserve.monitoring import CategoryFeature, NumberFeature, Profile, TensorProfile
from fastserve.types import DataType, Signature, TensorSpec

MADE_AT = datetime(2026, 1, 2, tzinfo=UTC)


def numbers(
    names: Sequence[str] = ("a", "b", "c"), low: float = 0.0, high: float = 16.0
) -> list[NumberFeature]:
    """Features with 16 bins of 10 rows each."""
    edges = tuple(float(x) for x in np.linspace(low, high, 17))
    return [
        NumberFeature(
            name=name,
            edges=edges,
            counts=(0, *[10] * 16, 0),
            missing=0,
            mean=(low + high) / 2,
            m2=100.0,
            minimum=low,
            maximum=high,
        )
        for name in names
    ]


def tensor(name: str = "x", role: str = "input", datatype: str = "FP32", width: int = 3) -> TensorProfile:
    names = [f"{name}{i}" for i in range(width)]
    return TensorProfile(tensor=name, role=role, datatype=datatype, features=tuple(numbers(names)))  # type: ignore[arg-type]


def texts(name: str = "carrier", role: str = "input", values: Sequence[str] = ("AA", "UA")) -> TensorProfile:
    feature = CategoryFeature(
        name=name, categories=tuple(values), counts=tuple([80] * len(values)), missing=0
    )
    return TensorProfile(tensor=name, role=role, datatype="BYTES", features=(feature,))  # type: ignore[arg-type]


def profile(*tensors: TensorProfile) -> Profile:
    return Profile(
        source="data", rows=160, created_at=MADE_AT, tensors=tensors or (tensor(), tensor("y", "output"))
    )


def signature(inputs: Sequence[tuple[str, str, int]], outputs: Sequence[tuple[str, str, int]]) -> Signature:
    """Batched tensors given as (name, datatype, values a row)."""

    def specs(tensors: Sequence[tuple[str, str, int]]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(name, DataType(datatype), (-1, width)) for name, datatype, width in tensors)

    return Signature(specs(inputs), specs(outputs), batched=True)
