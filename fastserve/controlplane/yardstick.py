"""How far many windows of one profile are from it, in two figures a feature: the points of a timeline."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastserve.monitoring.comparing import Folding, measure, with_unseen
from fastserve.monitoring.profile import CategoryFeature, NumberFeature, Profile, Sketch, TensorProfile
from fastserve_core.sketch import NumberSketch

Figures = tuple[float | None, ...]


class Yardstick:
    """The references of a profile, folded once; gives the same psi as `compare`. Safe from any thread."""

    def __init__(self, profile: Profile) -> None:
        self._tensors = [_Tensor(tensor) for tensor in profile.tensors]

    def measure(self, sketches: Sequence[Sketch]) -> tuple[Figures, Figures]:
        """Give psi and the share of missing values of every feature, in the profile's order.

        None where there are no rows.
        """
        psi: list[float | None] = []
        missing: list[float | None] = []
        for tensor, sketch in zip(self._tensors, sketches, strict=True):
            psi += tensor.psi(sketch)
            rows = sketch.rows
            missing += [count / rows if rows else None for count in sketch.missing.tolist()]
        return tuple(psi), tuple(missing)


class _Tensor:
    """One tensor's reference."""

    def __init__(self, tensor: TensorProfile) -> None:
        numbers = [one for one in tensor.features if isinstance(one, NumberFeature)]
        self._folding = Folding([one.edges for one in numbers]) if numbers else None
        if self._folding is not None:
            self._offsets = self._folding.offsets
            counts = [np.array(one.counts, np.int64) for one in numbers]
            self._reference = self._folding(np.concatenate(counts))
        else:
            categories = [one for one in tensor.features if isinstance(one, CategoryFeature)]
            counts = [np.array([*one.counts, one.unseen], np.int64) for one in categories]
            self._offsets = np.cumsum([0, *map(len, counts)], dtype=np.int64)
            self._reference = np.concatenate(counts)

    def psi(self, sketch: Sketch) -> list[float | None]:
        """Of every feature."""
        found = measure(self._reference, self._bins(sketch), self._offsets)
        return [
            value if some else None
            for value, some in zip(found.psi.tolist(), np.isfinite(found.psi_raw).tolist(), strict=True)
        ]

    def _bins(self, sketch: Sketch) -> NDArray[np.int64]:
        if isinstance(sketch, NumberSketch):
            assert self._folding is not None
            return self._folding(sketch.counts)
        return with_unseen(sketch)
