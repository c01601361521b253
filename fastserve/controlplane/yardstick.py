"""How far many windows of one profile are from it, in two figures a feature: the points of a timeline."""

from collections.abc import Sequence

from fastserve.monitoring.bins import Bins, measure
from fastserve.monitoring.comparing import finite_or_none
from fastserve.monitoring.profile import Profile, Sketch

Figures = tuple[float | None, ...]


class Yardstick:
    """The references of a profile, folded once; gives the same psi as `compare`. Safe from any thread."""

    def __init__(self, profile: Profile) -> None:
        self._bins = [Bins(tensor) for tensor in profile.tensors]

    def measure(self, sketches: Sequence[Sketch]) -> tuple[Figures, Figures]:
        """Give psi and the share of missing values of every feature, in the profile's order.

        None where there are no rows.
        """
        psi: list[float | None] = []
        missing: list[float | None] = []
        for bins, sketch in zip(self._bins, sketches, strict=True):
            found = measure(bins.reference, bins.of(sketch), bins.offsets)
            psi += map(finite_or_none, found.psi.tolist())
            rows = sketch.rows
            missing += [count / rows if rows else None for count in sketch.missing.tolist()]
        return tuple(psi), tuple(missing)
