"""What the reference rows of a version looked like: the profile that its live rows are compared with.

Made once from training data (or pinned from the first live rows), small, without any row in it.
"""

import hashlib
import math
from collections.abc import Collection, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

from fastserve.errors import InvalidProfile
from fastserve.overriding import place_and_problem
from fastserve.types import DataType, Signature
from fastserve_core.sketch import CategorySketch, NumberSketch

MAX_PROFILE_BYTES = 64 * 2**20
MAX_TENSORS = 10_000
"""A pipeline may take every column as an input of its own."""
MAX_FEATURES = 65_536
"""Features of all tensors together."""

Sketch = NumberSketch | CategorySketch
Count = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1, max_length=256)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class _Feature(_Strict):
    name: Name
    counts: tuple[Count, ...]
    """Reference rows in each bin or category."""
    missing: Count
    phi: Annotated[float, Field(gt=0)] = 1.0
    """Overdispersion: mean over reference windows of chi-square / degrees; 1 where rows are independent."""
    windows: Annotated[int, Field(ge=0)] = 0
    """Reference windows that `phi` was taken over; 0: it was not."""


class NumberFeature(_Feature):
    """A number: `counts[i]` rows lie in edges[i - 1] < x <= edges[i]; the first and last are out of range."""

    kind: Literal["number"] = "number"
    edges: Annotated[tuple[float, ...], Field(min_length=1, max_length=65_535)]
    """Finite, strictly rising; the reference's range is edges[0] < x <= edges[-1]."""
    negative_infinite: Count = 0
    positive_infinite: Count = 0
    mean: float | None
    """Of finite values; None where there was none."""
    m2: Annotated[float, Field(ge=0)] | None
    """Sum of squared distances from the mean; None where no double holds or tells it."""
    minimum: float | None
    maximum: float | None

    @model_validator(mode="after")
    def _fits(self) -> "NumberFeature":
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges need {len(self.edges) + 1} counts")
        if any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("edges must rise")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError("the minimum is above the maximum")
        return self

    @property
    def rows(self) -> int:
        """Rows that it says something of."""
        return sum(self.counts) + self.missing

    @property
    def sd(self) -> float | None:
        """Of finite values; None where there was one at most, or where `m2` is."""
        finite = sum(self.counts) - self.negative_infinite - self.positive_infinite
        return math.sqrt(self.m2 / (finite - 1)) if finite > 1 and self.m2 is not None else None


class CategoryFeature(_Feature):
    """A category: `counts[i]` rows were categories[i]; what is in none of them is `unseen`."""

    kind: Literal["category"] = "category"
    categories: tuple[StrictStr, ...] | tuple[StrictBool, ...] | tuple[StrictInt, ...]
    unseen: Count = 0
    """Reference rows beyond the cap of categories."""

    @model_validator(mode="after")
    def _fits(self) -> "CategoryFeature":
        if len(self.counts) != len(self.categories):
            raise ValueError(f"{len(self.categories)} categories need as many counts")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("categories must differ")
        return self

    @property
    def rows(self) -> int:
        """Rows that it says something of."""
        return sum(self.counts) + self.unseen + self.missing


Feature = Annotated[NumberFeature | CategoryFeature, Field(discriminator="kind")]


class TensorProfile(_Strict):
    """One input or output: its features in the order of a row's values, all of one kind."""

    tensor: Name
    role: Literal["input", "output"]
    datatype: Name
    """As the Open Inference Protocol names it."""
    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MAX_FEATURES)]

    @model_validator(mode="after")
    def _of_one_kind(self) -> "TensorProfile":
        if len({feature.kind for feature in self.features}) > 1:
            raise ValueError("the features of a tensor must be of one kind")
        return self

    @property
    def kind(self) -> Literal["number", "category"]:
        """What all its features are."""
        return self.features[0].kind

    def sketch(self) -> Sketch:
        """Make an empty sketch that counts live rows in the reference's bins."""
        numbers = [feature for feature in self.features if isinstance(feature, NumberFeature)]
        if numbers:
            return number_sketch([one.edges for one in numbers])
        return CategorySketch([one.categories for one in self.features if isinstance(one, CategoryFeature)])  # type: ignore[arg-type]


class Profile(_Strict):
    """The reference of one version."""

    schema_version: Literal[1] = 1
    source: Literal["data", "live"]
    """data: rows that somebody gave; live: the first rows that were served, pinned."""
    description: Annotated[str, Field(max_length=1_000)] = ""
    """Where the rows came from, for people."""
    rows: Count
    created_at: datetime
    tensors: Annotated[tuple[TensorProfile, ...], Field(min_length=1, max_length=MAX_TENSORS)]

    @model_validator(mode="after")
    def _apart(self) -> "Profile":
        keys = [(one.role, one.tensor) for one in self.tensors]
        if len(set(keys)) != len(keys):
            raise ValueError("a tensor is described twice")
        if sum(len(one.features) for one in self.tensors) > MAX_FEATURES:
            raise ValueError(f"more than {MAX_FEATURES} features")
        for tensor in self.tensors:
            for feature in tensor.features:
                if feature.rows != self.rows:
                    raise ValueError(
                        f"the counts of '{feature.name}' make {feature.rows} rows, "
                        f"the profile has {self.rows}"
                    )
        return self

    def to_bytes(self) -> bytes:
        """Give the file's content; the same profile gives the same bytes."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    def digest(self) -> str:
        """Hexadecimal sha256 of the content: what snapshots and windows name a profile by."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def check(self, signature: Signature, besides: Collection[TensorProfile] = ()) -> None:
        """Raise InvalidProfile, naming tensor and column, when it is, `besides`, of another model's shape."""
        for one in self.tensors:
            if one not in besides:
                _check_tensor(one, signature)


def number_sketch(edges: Sequence[Sequence[float]]) -> NumberSketch:
    """Make an empty sketch of numbers, of the edges of every feature.

    It sums around each middle edge, so that little is lost where values lie far from 0. A mean would lie far
    from all of them after one reference value of 10^18.
    """
    return NumberSketch(edges, [one[len(one) // 2] for one in edges])


def read_profile(data: bytes, label: str = "profile.json") -> Profile:
    """Parse a profile that rows can be counted against; `label` names it in errors.

    Raises
    ------
    InvalidProfile
    """
    if len(data) > MAX_PROFILE_BYTES:
        raise InvalidProfile(f"{label} is larger than {MAX_PROFILE_BYTES} bytes")
    try:
        made = Profile.model_validate_json(data)
        for tensor in made.tensors:
            tensor.sketch()  # which knows how many categories, and of which kinds, there can be
    except ValidationError as error:
        raise InvalidProfile(f"{label} is not a profile: {place_and_problem(error)}") from error
    except (ValueError, TypeError) as error:
        raise InvalidProfile(f"{label} cannot be counted against: {error}") from error
    return made


def _check_tensor(profile: TensorProfile, signature: Signature) -> None:
    specs = signature.inputs if profile.role == "input" else signature.outputs
    spec = next((one for one in specs if one.name == profile.tensor), None)
    label = f"{profile.role} '{profile.tensor}' of the profile"
    if spec is None:
        known = ", ".join(one.name for one in specs)
        raise InvalidProfile(f"{label} is not an {profile.role} of the model, which has {known}")
    if str(spec.datatype) != profile.datatype:
        raise InvalidProfile(f"{label} is {profile.datatype}; the model's is {spec.datatype}")
    if not signature.batched:
        raise InvalidProfile(
            f"{label} cannot be told row from row: not all inputs and outputs of the model begin with "
            "the same variable dimension"
        )
    row = spec.shape[1:]
    if any(size < 0 for size in row):
        raise InvalidProfile(f"{label} has no fixed number of values a row in the model")
    width = math.prod(row)
    if width != len(profile.features):
        names = [feature.name for feature in profile.features]
        hint = f"'{names[width]}' is one too many" if width < len(names) else f"'{names[-1]}' is the last"
        raise InvalidProfile(f"{label} has {len(names)} columns, the model takes {width}: {hint}")
    if profile.kind == "number" and spec.datatype in (DataType.BYTES, DataType.BOOL):
        raise InvalidProfile(
            f"{label} has number columns such as '{profile.features[0].name}'; "
            f"{spec.datatype} needs categories"
        )
    if profile.kind == "category" and spec.datatype.is_float:
        raise InvalidProfile(
            f"{label} has category columns such as '{profile.features[0].name}'; "
            f"{spec.datatype} needs numbers"
        )
    wanted = {DataType.BYTES: str, DataType.BOOL: bool}.get(spec.datatype, int)
    for feature in profile.features:
        if isinstance(feature, CategoryFeature) and any(
            type(one) is not wanted for one in feature.categories
        ):
            raise InvalidProfile(
                f"{label}: column '{feature.name}' has categories that are not {spec.datatype}"
            )
