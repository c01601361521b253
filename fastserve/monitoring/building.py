"""From reference rows to a profile, in two passes: the first finds bins and categories, the second counts.

Memory depends on the features and not on the rows: of more rows than fit, a sample says where the bins lie,
and still every row is counted.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from fastserve.errors import InvalidProfile
from fastserve.monitoring.bins import Folding, with_unseen
from fastserve.monitoring.comparing import finite_or_none
from fastserve.monitoring.dispersion import Dispersion
from fastserve.monitoring.profile import (
    MAX_PROFILE_BYTES,
    CategoryFeature,
    NumberFeature,
    Profile,
    TensorProfile,
    number_sketch,
)
from fastserve.monitoring.sampling import CommonValues, NumberRanges
from fastserve.overriding import place_and_problem
from fastserve.types import Array, DataType, TensorSpec
from fastserve_core.sketch import CategorySketch
from fastserve_core.sketch.category import MAX_CATEGORIES

Blocks = Callable[[], Iterable[Sequence[Array]]]
"""Gives the rows from the first on each time it is called: one array [rows, ...] a tensor, in their order."""

MAX_BINS = 1_024
WINDOWS = 20
MIN_WINDOW_ROWS = 500
MAX_CODES = 64
"""Distinct whole numbers up to which an output is taken for labels."""

_EXACT_ROWS = 1_000_000
_SAMPLED_VALUES = 2**25
"""Of all number tensors together."""
_COMMON_VALUES = 1_000_000
"""Of all category tensors together, before the most frequent are chosen."""
_SLACK = 16
"""Last bits that edges keep away from a model's answers: sums end in others with other threads, batches or
processors, and of a forest half the rows may give one answer."""
_WHOLE = frozenset(one for one in DataType if one.startswith(("INT", "UINT")))


@dataclass(frozen=True, slots=True)
class Described:
    """One input or output whose rows are to be described."""

    spec: TensorSpec
    role: Literal["input", "output"]
    columns: tuple[str, ...]
    """Names of a row's values, in their order."""
    codes: bool = False
    """Its whole numbers are categories."""


def build_profile(
    tensors: Sequence[Described],
    blocks: Blocks,
    *,
    bins: int = 16,
    max_categories: int = 1_000,
    window_rows: int | None = None,
    source: Literal["data", "live"] = "data",
    description: str = "",
) -> Profile:
    """Describe reference rows.

    Parameters
    ----------
    tensors
        What comes in each block.
    blocks
        Called twice.
    bins
        Of a number, at most: as many rows in each as quantiles allow.
    max_categories
        Of a feature; the most frequent are kept, and others are unseen.
    window_rows
        Consecutive rows that the overdispersion is taken over, a day's or a week's. None: a twentieth of the
        rows where that is 500 rows at least; else it is not taken. 0: it is not taken.

    Raises
    ------
    InvalidProfile
        No rows, other rows in the second pass, or more features or categories than a profile may have.
    ValueError
        Settings out of range, or arrays of another shape than described.
    """
    builder = ProfileBuilder(tensors, bins=bins, max_categories=max_categories, window_rows=window_rows)
    for block in blocks():
        builder.look(block)
    for block in blocks():
        builder.count(block)
    return builder.profile(source=source, description=description)


class ProfileBuilder:
    """`build_profile` step by step: `look` at every block, `count` every block, make the profile."""

    def __init__(
        self,
        tensors: Sequence[Described],
        *,
        bins: int = 16,
        max_categories: int = 1_000,
        window_rows: int | None = None,
    ) -> None:
        if not 1 <= bins <= MAX_BINS:
            raise ValueError(f"bins must be 1 to {MAX_BINS}, not {bins}")
        if not 1 <= max_categories <= MAX_CATEGORIES:
            raise ValueError(f"categories must be 1 to {MAX_CATEGORIES}, not {max_categories}")
        features = max(1, sum(len(one.columns) for one in tensors))
        kept = max(1, min(max_categories, MAX_CATEGORIES // features))
        limits = _Limits(
            bins=bins,
            sampled_rows=max(1, min(_EXACT_ROWS, _SAMPLED_VALUES // features)),
            kept=kept,
            common=max(2 * kept, _COMMON_VALUES // features),
        )
        self._tensors = [_Tensor(one, limits) for one in tensors]
        self._wish = window_rows
        self._window = 0
        self._filled = 0
        self._settled = False
        self.rows = 0
        """Seen by `look`."""
        self.counted = 0
        """Seen by `count`."""

    def look(self, block: Sequence[Array]) -> None:
        """Take in a block of the first pass: an array [rows, ...] for each tensor."""
        for tensor, array in zip(self._tensors, block, strict=True):
            tensor.look(tensor.flat(array))
        self.rows += len(block[0])

    def count(self, block: Sequence[Array]) -> None:
        """Take in a block of the second pass; the first is over then."""
        if not self._settled:
            self._settle()
        arrays = [tensor.flat(array) for tensor, array in zip(self._tensors, block, strict=True)]
        rows, at = len(arrays[0]), 0
        while at < rows:
            end = min(rows, at + self._window - self._filled) if self._window else rows
            for tensor, array in zip(self._tensors, arrays, strict=True):
                tensor.count(array[at:end])
            self._filled += end - at
            if self._filled == self._window:
                for tensor in self._tensors:
                    tensor.end_window()
                self._filled = 0
            at = end
        self.counted += rows

    def profile(self, *, source: Literal["data", "live"] = "data", description: str = "") -> Profile:
        """Make the profile of what was counted; InvalidProfile when it cannot be one."""
        if not self.counted:
            raise InvalidProfile("there are no rows to make a profile of")
        if self.counted != self.rows:
            raise InvalidProfile(
                f"the data changed while they were read: {self.rows} rows at first, then {self.counted}"
            )
        try:
            made = Profile(
                source=source,
                description=description,
                rows=self.rows,
                created_at=datetime.now(UTC),
                tensors=tuple(tensor.profile() for tensor in self._tensors),
            )
        except ValidationError as error:
            raise InvalidProfile(f"these rows make no profile: {place_and_problem(error)}") from error
        size = len(made.to_bytes())
        if size > MAX_PROFILE_BYTES:
            raise InvalidProfile(
                f"the profile would have {size} bytes, more than {MAX_PROFILE_BYTES}: "
                "take fewer bins, categories or columns"
            )
        return made

    def _settle(self) -> None:
        if self._wish is not None:
            self._window = self._wish
        elif self.rows >= WINDOWS * MIN_WINDOW_ROWS:
            self._window = self.rows // WINDOWS
        for tensor in self._tensors:
            tensor.settle()
        self._settled = True


@dataclass(frozen=True, slots=True)
class _Limits:
    bins: int
    sampled_rows: int
    kept: int
    common: int


class _Tensor:
    """One tensor through both passes."""

    def __init__(self, described: Described, limits: _Limits) -> None:
        self._described = described
        self._limits = limits
        self._features = len(described.columns)
        datatype = described.spec.datatype
        whole = datatype in _WHOLE
        codes = datatype is DataType.BYTES or (whole and described.codes)
        self._maybe_labels = whole and not described.codes and described.role == "output"
        self._ranges: NumberRanges | None = None
        if not codes and datatype is not DataType.BOOL:
            self._ranges = NumberRanges(self._features, limits.sampled_rows)
        self._common: list[CommonValues] = []
        """Of categories, and of what may be."""
        if codes or self._maybe_labels:
            limit = max(limits.common, 4 * MAX_CODES)
            self._common = [CommonValues(limit) for _ in described.columns]
        self._counting: _NumberCounting | _CategoryCounting

    def flat(self, array: Array) -> Array:
        """Give the rows as the sketches take them: [rows, features], in order."""
        if array.dtype == np.float16:
            array = array.astype(np.float32)
        return np.ascontiguousarray(array.reshape(len(array), self._features))

    def look(self, rows: Array) -> None:
        """Learn where values lie."""
        if self._ranges is not None:
            self._ranges.add(rows)
        for f, common in enumerate(self._common):
            common.add(rows[:, f])
        if self._maybe_labels and any(len(common) > MAX_CODES for common in self._common):
            self._common = []

    def settle(self) -> None:
        """Fix bins or categories, and let go of what they were learnt from."""
        if self._common:
            most = self._limits.kept
            text = self._described.spec.datatype is DataType.BYTES
            self._counting = _CategoryCounting(
                [one.texts(most) if text else one.numbers(most) for one in self._common]
            )
        elif self._ranges is not None:
            spec, slack = self._described.spec, 0.0
            if self._described.role == "output" and spec.datatype.is_float:
                slack = _SLACK * float(np.finfo(spec.datatype.dtype).eps)
            self._counting = _NumberCounting(self._ranges.edges(self._limits.bins, slack))
        else:
            self._counting = _CategoryCounting([(False, True)] * self._features)
        self._common, self._ranges = [], None

    def count(self, rows: Array) -> None:
        """Count rows."""
        self._counting.window.update(rows)

    def end_window(self) -> None:
        """What was counted since the last time is a window."""
        self._counting.end_window()

    def profile(self) -> TensorProfile:
        """Make the tensor's part of the profile."""
        spec = self._described.spec
        return TensorProfile(
            tensor=spec.name,
            role=self._described.role,
            datatype=str(spec.datatype),
            features=tuple(self._counting.features(self._described.columns)),
        )


class _NumberCounting:
    """The second pass over numbers."""

    def __init__(self, edges: list[tuple[float, ...]]) -> None:
        self._edges = edges
        self.window, self._all = number_sketch(edges), number_sketch(edges)
        self._folding = Folding(edges)
        self._dispersion = Dispersion(self._folding.offsets)

    def end_window(self) -> None:
        self._dispersion.add(self._folding(self.window.counts))
        self._all.merge_bytes(self.window.take())

    def features(self, names: Sequence[str]) -> Iterator[NumberFeature]:
        self._all.merge_bytes(self.window.take())
        done = self._all
        counts, offsets = done.counts, done.offsets.tolist()
        phi, windows = self._dispersion.phi(self._folding(counts))
        missing, mean, squares = done.missing.tolist(), done.mean.tolist(), done.m2
        m2 = np.where((squares > 0) & np.isnan(done.variance), np.nan, squares).tolist()
        negative, positive = done.negative_infinite.tolist(), done.positive_infinite.tolist()
        minimum, maximum = done.minimum.tolist(), done.maximum.tolist()
        for f, (start, end) in enumerate(pairwise(offsets)):
            yield NumberFeature(
                name=names[f],
                counts=counts[start:end].tolist(),
                missing=missing[f],
                phi=phi[f],
                windows=windows[f],
                edges=self._edges[f],
                negative_infinite=negative[f],
                positive_infinite=positive[f],
                mean=finite_or_none(mean[f]),
                m2=finite_or_none(m2[f]),
                minimum=finite_or_none(minimum[f]),
                maximum=finite_or_none(maximum[f]),
            )


class _CategoryCounting:
    """The second pass over categories."""

    def __init__(self, categories: Sequence[tuple[Any, ...]]) -> None:
        self._categories = categories
        self.window, self._all = CategorySketch(categories), CategorySketch(categories)
        self._dispersion = Dispersion(self.window.offsets + np.arange(len(categories) + 1))

    def end_window(self) -> None:
        self._dispersion.add(with_unseen(self.window))
        self._all.merge_bytes(self.window.take())

    def features(self, names: Sequence[str]) -> Iterator[CategoryFeature]:
        self._all.merge_bytes(self.window.take())
        counts, offsets = self._all.counts, self._all.offsets.tolist()
        phi, windows = self._dispersion.phi(with_unseen(self._all))
        missing, unseen = self._all.missing.tolist(), self._all.unseen.tolist()
        for f, (start, end) in enumerate(pairwise(offsets)):
            yield CategoryFeature(
                name=names[f],
                categories=self._categories[f],
                counts=counts[start:end].tolist(),
                missing=missing[f],
                unseen=unseen[f],
                phi=phi[f],
                windows=windows[f],
            )
