"""The bins that distances are taken over, and the distances of two sides' counts in them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastserve.monitoring.profile import CategoryFeature, NumberFeature, Sketch, TensorProfile
from fastserve.monitoring.rare import is_more, known_by_chance, pooled
from fastserve_core.distance import Distances, distances
from fastserve_core.sketch import CategorySketch, NumberSketch


class Folding:
    """The bins that the distances of a tensor's numbers are taken over. Safe from any number of threads.

    A row out of range counts in the outermost bin in range, and so the first and the last edge bound nothing.
    A feature with less than two bins in range, such as a constant, keeps all its counts apart.

    Parameters
    ----------
    edges
        Of every feature, m of them, as a number sketch has them.
    """

    def __init__(self, edges: Sequence[Sequence[float]]) -> None:
        into = [
            np.clip(np.arange(-1, len(one)), 0, len(one) - 2) if is_folded(one) else np.arange(len(one) + 1)
            for one in edges
        ]
        self.offsets = np.cumsum([0, *(int(one[-1]) + 1 for one in into)], dtype=np.int64)
        """Feature f owns the bins [offsets[f], offsets[f + 1]): int64 [features + 1]."""
        self._into = np.concatenate([one + start for one, start in zip(into, self.offsets[:-1], strict=True)])

    def __call__(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the bins of a sketch's counts: int64 [m - 1] of m edges, [m + 1] where kept apart."""
        bins = np.zeros(int(self.offsets[-1]), np.int64)
        np.add.at(bins, self._into, counts)
        return bins


def is_folded(edges: Sequence[float]) -> bool:
    """Whether there are bins enough in range for what is out of range to count in one of them."""
    return len(edges) > 2


def with_unseen(sketch: CategorySketch) -> NDArray[np.int64]:
    """Give the counts of every feature's categories and then of what is unseen: one bin more a feature."""
    return np.insert(sketch.counts, sketch.offsets[1:], sketch.unseen)


class Bins:
    """The bins that a tensor's distances are taken over, with the reference rows of its profile in them.

    Of numbers those of `Folding`, of categories one each and one of what is unseen. Safe from any number of
    threads.
    """

    def __init__(self, profile: TensorProfile) -> None:
        numbers = [one for one in profile.features if isinstance(one, NumberFeature)]
        self._folding = Folding([one.edges for one in numbers]) if numbers else None
        if self._folding is not None:
            self._offsets = self._folding.offsets
            self._reference = self._folding(
                np.concatenate([np.array(one.counts, np.int64) for one in numbers])
            )
        else:
            categories = [one for one in profile.features if isinstance(one, CategoryFeature)]
            counts = [np.array([*one.counts, one.unseen], np.int64) for one in categories]
            self._offsets = np.cumsum([0, *map(len, counts)], dtype=np.int64)
            self._reference = np.concatenate(counts)
            self._rows = categories[0].rows
            self._unseen = [
                one.unseen + known_by_chance(one.counts, one.unseen, one.phi) for one in categories
            ]
            self._phi = [one.phi for one in categories]

    def measure(self, sketch: Sketch, edges: NDArray[np.float64] | None = None) -> Distances:
        """Give the distances of `fastserve_core.distance` of what a sketch of the profile has counted.

        But psi of categories is that of `pooled`. Its bias is of the bins that hold anything: one without a
        row on either side adds nothing to PSI by chance.
        """
        if isinstance(sketch, NumberSketch):
            assert self._folding is not None
            found = graded = distances(self._reference, self._folding(sketch.counts), self._offsets, edges)
        else:
            live = with_unseen(sketch)
            apart = is_more(self._unseen, self._rows, sketch.unseen, sketch.rows, self._phi)
            found = distances(self._reference, live, self._offsets, edges)
            graded = pooled(self._reference, live, self._offsets, apart)
        bias = (graded.psi_raw - graded.psi) / np.maximum(np.diff(self._offsets) - 1, 1)
        return found._replace(psi=graded.psi_raw - bias * graded.degrees)
