"""The electricity market's first half against its second: drift figures of real data, to 1e-6."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastserve_core.distance import distances

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "elec2_data.dat"
COLUMNS = ["date", "day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"]
FIRST_HALF = 22_656
# KS, W1, PSI of reference deciles, Jensen-Shannon distance (base 2), Hellinger, total variation, bins
GOLDEN: dict[str, tuple[float, float, float, float, float, float, int]] = {
    "day": (0.006356, 0.019068, 0.000188, 0.005828, 0.004852, 0.006356, 8),
    "period": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 10),
    "nswprice": (0.451227, 0.018592, 1.082136, 0.423651, 0.359874, 0.443282, 10),
    "nswdemand": (0.025821, 0.006097, 0.004290, 0.027808, 0.023154, 0.025689, 10),
    "vicprice": (0.542858, 0.001666, 2.227337, 0.601232, 0.513427, 0.676024, 3),
    "vicdemand": (0.429334, 0.100469, 0.598478, 0.320681, 0.270150, 0.339778, 3),
    "transfer": (0.569606, 0.151184, 1.508032, 0.502698, 0.426048, 0.569606, 3),
}


@pytest.fixture(scope="module")
def columns() -> dict[str, NDArray[Any]]:
    if not DATA.exists():
        pytest.skip(f"no {DATA.name} beside the repository: it has no licence, so that it is not kept here")
    return dict(zip(COLUMNS, np.loadtxt(DATA).T, strict=True))


def counted(values: NDArray[Any], edges: NDArray[Any], bins: int) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(edges, values, "left"), minlength=bins).astype(np.int64)


@pytest.mark.parametrize("name", GOLDEN)
def test_figures_of_the_electricity_market(columns: dict[str, NDArray[Any]], name: str) -> None:
    reference, live = columns[name][:FIRST_HALF], columns[name][FIRST_HALF:]
    values = np.unique(columns[name])
    exact = distances(
        counted(reference, values, values.size),
        counted(live, values, values.size),
        np.array([0, values.size], np.int64),
        np.append(values, values[-1]),
        steps=True,
    )
    deciles = np.unique(np.quantile(reference, np.arange(1, 10) / 10))
    bins = deciles.size + 1
    binned = distances(
        counted(reference, deciles, bins), counted(live, deciles, bins), np.array([0, bins], np.int64)
    )
    *golden, golden_bins = GOLDEN[name]
    assert bins == golden_bins
    found = [
        exact.kolmogorov_smirnov,
        exact.wasserstein,
        binned.psi_raw,
        binned.jensen_shannon,
        binned.hellinger,
        binned.total_variation,
    ]
    assert np.concatenate(found) == pytest.approx(golden, abs=1e-6)
