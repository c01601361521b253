from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

class Distances(NamedTuple):
    psi: NDArray[np.float64]
    psi_raw: NDArray[np.float64]
    jensen_shannon: NDArray[np.float64]
    hellinger: NDArray[np.float64]
    total_variation: NDArray[np.float64]
    kolmogorov_smirnov: NDArray[np.float64]
    wasserstein: NDArray[np.float64]
    chi_square: NDArray[np.float64]
    degrees: NDArray[np.int64]

def distances(
    reference: NDArray[np.int64],
    live: NDArray[np.int64],
    offsets: NDArray[np.int64],
    edges: NDArray[np.float64] | None = None,
    *,
    steps: bool = False,
    epsilon: float = 1e-4,
) -> Distances: ...
