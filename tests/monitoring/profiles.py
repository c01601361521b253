"""Small profiles for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime

from fastserve.monitoring import CategoryFeature, NumberFeature, Profile, TensorProfile
from fastserve.types import DataType, Signature, TensorSpec

MADE_AT = datetime(2026, 1, 2, tzinfo=UTC)


def tensor(name: str = "x", role: str = "input", datatype: str = "FP32", width: int = 3) -> TensorProfile:
    """Numbers from 0 to 16, of which 10 rows lie in each of 16 bins."""
    features = tuple(
        NumberFeature(
            name=f"{name}{i}",
            edges=tuple(map(float, range(17))),
            counts=(0, *[10] * 16, 0),
            missing=0,
            mean=8.0,
            m2=100.0,
            minimum=0.0,
            maximum=16.0,
        )
        for i in range(width)
    )
    return TensorProfile(tensor=name, role=role, datatype=datatype, features=features)  # type: ignore[arg-type]


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
