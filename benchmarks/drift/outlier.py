"""Who still sees a shift of one standard deviation when one value of 10,001 is 1e3.

Bins over the pooled range, as Evidently makes them, grow so wide that both samples fall into one of them.
Bins fixed on the reference's quantiles do not move.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift.contestants import SEED, library
from fastserve_core.distance import distances

ROWS = 10_000
OUTLIER = 1e3
THRESHOLD = 0.1
BINS = 16

Sample = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seen:
    """A measure of the shift without and with the outlier; drift is a value of at least `THRESHOLD`."""

    who: str
    measure: str
    clean: float
    hidden: float


def samples() -> tuple[Sample, Sample, Sample]:
    """Reference, shifted, and shifted with the outlier."""
    generator = np.random.default_rng(SEED)
    shifted = generator.normal(1.0, 1.0, ROWS)
    return generator.normal(0.0, 1.0, ROWS), shifted, np.append(shifted, OUTLIER)


def quantile_bins(reference: Sample, live: Sample) -> tuple[float, float]:
    """PSI and Jensen-Shannon distance over sixteen bins of equal reference mass."""
    edges = np.unique(np.quantile(reference, np.arange(1, BINS) / BINS))
    bins = edges.size + 1
    before, after = (
        np.bincount(np.searchsorted(edges, side), minlength=bins).astype(np.int64)
        for side in (reference, live)
    )
    found = distances(before, after, np.array([0, bins], np.int64))
    return float(found.psi_raw[0]), float(found.jensen_shannon[0])


def pooled_range(reference: Sample, live: Sample) -> tuple[float, float]:
    """PSI and Jensen-Shannon distance as Evidently 0.7 has them: Sturges' bins over both samples."""
    edges = np.histogram_bin_edges(np.concatenate([reference, live]), "sturges")
    p, q = (np.histogram(side, edges)[0] / side.size for side in (reference, live))
    middle = (p + q) / 2
    js = 0.0
    for shares in (p, q):
        held = shares > 0
        js += np.sum(shares[held] * np.log(shares[held] / middle[held])) / 2
    for shares in (p, q):
        least = shares[shares > 0].min()
        shares[shares == 0] = least / 1e6 if least <= 1e-4 else 1e-4
    return float(np.sum((p - q) * np.log(p / q))), float(np.sqrt(js))


def evidently(reference: Sample, live: Sample) -> tuple[float, float]:
    """The same two from Evidently's own report."""
    report, preset = library("evidently").Report, library("evidently.presets").DataDriftPreset
    frame, found = library("pandas").DataFrame, []
    for method in ("psi", "jensenshannon"):
        done = report([preset(method=method)]).run(frame({"x": live}), frame({"x": reference})).dict()
        drift = [metric for metric in done["metrics"] if str(metric["metric_name"]).startswith("ValueDrift")]
        found.append(float(drift[0]["value"]))
    return found[0], found[1]


WAYS = {
    "fastserve, reference quantiles": quantile_bins,
    "pooled range, Sturges' bins": pooled_range,
    "Evidently": evidently,
}


def look(who: str) -> list[Seen]:
    """PSI and Jensen-Shannon of one way."""
    reference, shifted, hidden = samples()
    clean, spoilt = WAYS[who](reference, shifted), WAYS[who](reference, hidden)
    measures = ("PSI", "Jensen-Shannon")
    return [Seen(who, name, clean[i], spoilt[i]) for i, name in enumerate(measures)]
