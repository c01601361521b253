"""est(n) = a·n + b: how long a batch of n rows will run, seeded by warm-up and corrected by every run."""

_WEIGHT = 0.05
_RELIEF = 0.9
_RECOVERY = 1.05


class LatencyModel:
    """Predicts the duration of a run from its rows. Event-loop thread only.

    Parameters
    ----------
    row_ns, base_ns
        The line through the warm-up's table: nanoseconds a row, nanoseconds a run.
    """

    def __init__(self, row_ns: float, base_ns: float) -> None:
        self._row_ns = max(row_ns, 0.0)
        self._base_ns = max(base_ns, 0.0)
        self._scale = 1.0
        self._trust = 1.0

    def estimate_ns(self, rows: int) -> float:
        """Predicted nanoseconds of a run of `rows` rows."""
        return self._scale * (self._base_ns + self._row_ns * rows)

    def refusal_line(self) -> tuple[float, float]:
        """(row_ns, base_ns) by which a request whose deadline cannot be met is turned away."""
        factor = self._scale * self._trust
        return self._row_ns * factor, self._base_ns * factor

    def observe(self, rows: int, ns: int) -> None:
        """Learn from a run: the whole line moves by an exponentially weighted ratio."""
        predicted = self._base_ns + self._row_ns * rows
        if predicted > 0.0:
            # One stall (a page fault, a busy neighbour) must not condemn the requests behind it.
            ratio = min(ns / predicted, 4.0 * self._scale)
            self._scale += _WEIGHT * (ratio - self._scale)
        self._trust = min(1.0, self._trust * _RECOVERY)

    def relieve(self) -> None:
        """Trust the line less after it turned a request away: without runs nothing else would correct it."""
        self._trust *= _RELIEF
