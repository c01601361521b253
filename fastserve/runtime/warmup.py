"""Run every batch size once before the first request does, and learn from it what a batch costs.

onnxruntime lays out memory and picks kernels on a shape's first run; whoever comes first would pay. The same
runs say how long n rows take, est(n) = a·n + b, how large a batch may get, and whether rows stay apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from fastserve.clock import Clock, monotonic_ns
from fastserve.errors import InvalidRequest, ModelFailed
from fastserve.runtime.examples import PROBE_ROWS, first_that_runs, strange_company, varied
from fastserve.runtime.memory import give_back
from fastserve.runtime.protocol import Runtime
from fastserve.types import Array, Signature, TensorSpec

_RUNS = 5
_TOLERANCE = 0.05
"""Share of an output's range by which batch-mates may move it."""
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What the warm-up of one version learnt."""

    reason: str
    """Why not, when not batchable; else what keeps `max_rows` below the wish, or empty."""
    max_rows: int
    """Most rows that a batch may have; 0 when not batchable."""
    buckets: tuple[tuple[int, int], ...]
    """(rows, median nanoseconds) of every bucket that ran, ascending; one only when not batchable."""
    row_ns: float
    """Nanoseconds per row."""
    base_ns: float
    """Nanoseconds per run."""

    @property
    def batchable(self) -> bool:
        """Rows of several requests may share a run."""
        return self.max_rows > 0


def warm(
    runtime: Runtime,
    max_batch_rows: int,
    budget_ms: float = 2_000,
    *,
    max_bucket_ms: float = 100,
    example: Sequence[Array] | None = None,
    clock: Clock = monotonic_ns,
) -> LatencyTable:
    """Run the buckets 1, 2, 4, … `max_batch_rows` and tabulate their times.

    Parameters
    ----------
    runtime
        The loaded model.
    max_batch_rows
        Rows of the largest batch wished for, at least 1.
    budget_ms
        After this much time no further bucket is begun, and none is run more often than it has to be.
    max_bucket_ms
        Batches that take longer are not allowed; the first such bucket is the last one run.
    example
        One array per input, of which the first row serves; else zeros and empty strings, see `blank_rows`.
    clock
        Nanoseconds; for tests.

    Returns
    -------
    LatencyTable
        Not batchable without a variable batch, or when rows are lost or answer differently together.

    Raises
    ------
    ModelFailed
        The model does not run.
    """
    row = first_that_runs(runtime.signature, runtime.run)[0] if example is None else list(example)
    stop_ns, limit_ns = clock() + round(budget_ms * _NS_PER_MS), round(max_bucket_ms * _NS_PER_MS)
    if not runtime.signature.batched:
        return _alone("the model has no variable batch dimension", _measure(runtime, row, stop_ns, clock))
    buckets, mixed = _climb(runtime, row, max_batch_rows, stop_ns, limit_ns, clock)
    if not mixed and buckets[-1][0] > 1:
        mixed = _mixed_rows(runtime, row)
    give_back()
    if mixed:
        return _alone(mixed, buckets[0][1])
    row_ns, base_ns = fit(buckets)
    limit, reason = _limit(buckets, max_batch_rows, limit_ns, row_ns, base_ns)
    return LatencyTable(reason, limit, tuple(buckets), row_ns, base_ns)


def observed(runtime: Runtime) -> tuple[Signature, list[Array]]:
    """Run a blank row: give the signature, in which what a file says of outputs and is not so is variable.

    PyTorch's exporter writes the length that an LSTM was traced with into its output, whatever the input's
    may be; onnxruntime takes it for a hint. There is no batch where an output is a scalar, or where the model
    does not run a single row.

    Returns
    -------
    Signature, list of arrays
        The row comes with it, an example for `warm`.

    Raises
    ------
    ModelFailed
        The model does not run.
    """
    signature = runtime.signature
    row, outputs = first_that_runs(signature, runtime.run)
    told = list(zip(signature.outputs, outputs, strict=True))
    has_scalar = any(spec.shape == array.shape == () for spec, array in told)
    batched = signature.batched and not has_scalar and all(len(array) == 1 for array in row)
    as_they_came = tuple(_as_it_came(spec, array.shape) for spec, array in told)
    return replace(signature, outputs=as_they_came, batched=batched), row


def _as_it_came(spec: TensorSpec, shape: tuple[int, ...]) -> TensorSpec:
    if len(shape) < len(spec.shape):
        return spec  # it leaves out dimensions of 1, as that of the batch is in the one row that was tried
    if len(shape) > len(spec.shape):
        return replace(spec, shape=(-1,) * len(shape))
    dims = (said if said == got else -1 for said, got in zip(spec.shape, shape, strict=True))
    return replace(spec, shape=tuple(dims))


def _climb(
    runtime: Runtime, row: list[Array], max_rows: int, stop_ns: int, limit_ns: int, clock: Clock
) -> tuple[list[tuple[int, int]], str]:
    """Run larger and larger buckets; give their times, and which output lost rows if one did."""
    buckets: list[tuple[int, int]] = []
    runtime.bind(row)  # learns whether bound outputs are written, which a row that fails would leave open
    for rows in _doubling(max_rows):
        # Two rows are always tried: whether they stay two must be known.
        if rows > 2 and clock() >= stop_ns:
            break
        inputs = [np.repeat(array[:1], rows, axis=0) for array in row]
        try:
            lost = _lost_rows(runtime, inputs, rows)
        except (ModelFailed, InvalidRequest) as error:
            if rows > 2:
                raise
            return buckets, f"it runs one row, but not two: {error}"  # a batch of 1 is baked in
        took = _measure(runtime, inputs, stop_ns, clock)
        if took > limit_ns:  # ask twice: a busy neighbour must not cost this version its batches for good
            took = min(took, _measure(runtime, inputs, stop_ns, clock))
        buckets.append((rows, took))
        if lost or took > limit_ns:
            return buckets, lost
    return buckets, ""


def fit(buckets: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Fit time = a·rows + b by least squares of relative errors, a and b not negative.

    Parameters
    ----------
    buckets
        (rows, nanoseconds) pairs, at least one.

    Returns
    -------
    tuple of float
        (row_ns, base_ns).
    """
    rows = np.array([rows for rows, _ in buckets], dtype=np.float64)
    times = np.maximum(np.array([took for _, took in buckets], dtype=np.float64), 1.0)
    # Dividing each equation by its time weighs 10 % of 4 µs as much as 10 % of 4 ms.
    per_row, per_run = rows / times, 1.0 / times
    if len(buckets) > 1:
        design = np.stack([per_row, per_run], axis=1)
        a, b = np.linalg.lstsq(design, np.ones_like(times), rcond=None)[0]
        if a >= 0 and b >= 0:
            return float(a), float(b)
        if a >= 0:
            return float(per_row.sum() / (per_row**2).sum()), 0.0
    return 0.0, float(per_run.sum() / (per_run**2).sum())


def _limit(
    buckets: Sequence[tuple[int, int]], wished: int, limit_ns: int, row_ns: float, base_ns: float
) -> tuple[int, str]:
    """Give the rows that a batch may have, and why these are fewer than wished for."""
    rows, took = buckets[-1]
    if took > limit_ns:
        before = buckets[-2][0] if len(buckets) > 1 else 1
        return before, f"{rows} rows take {took / _NS_PER_MS:.3g} ms, over {limit_ns / _NS_PER_MS:g} ms"
    if rows >= wished or row_ns * wished + base_ns <= limit_ns:
        return wished, ""
    fitting = int((limit_ns - base_ns) / row_ns)
    return max(rows, fitting), f"{wished} rows would take longer than {limit_ns / _NS_PER_MS:g} ms"


def _alone(reason: str, took: int) -> LatencyTable:
    return LatencyTable(reason, 0, ((1, took),), 0.0, float(took))


def _doubling(limit: int) -> list[int]:
    """Give 1, 2, 4, … and the limit itself."""
    buckets = [1 << power for power in range(max(1, limit).bit_length())]
    return buckets if buckets[-1] >= limit else [*buckets, limit]


def _measure(runtime: Runtime, inputs: list[Array], stop_ns: int, clock: Clock) -> int:
    """Give the median time of a few runs in nanoseconds, of which only the first may begin after `stop_ns`.

    The first run of this shape has been done before.
    """
    times: list[int] = []
    while not times or (len(times) < _RUNS and clock() < stop_ns):
        start = clock()
        runtime.run(inputs)
        times.append(clock() - start)
    return round(median(times))


def _lost_rows(runtime: Runtime, inputs: list[Array], rows: int) -> str:
    outputs = runtime.run(inputs)
    for spec, array in zip(runtime.signature.outputs, outputs, strict=True):
        got = array.shape[0] if array.ndim else 0
        if got != rows:
            return f"output '{spec.name}' has {got} rows for {rows} input rows"
    return ""


def _mixed_rows(runtime: Runtime, row: list[Array]) -> str:
    """Tell which output of a row depends on its batch-mates; empty when none does or it cannot be known."""
    batch = [varied(array) for array in row]
    try:
        together, again = runtime.run(batch), runtime.run(batch)
        alone = [runtime.run([array[i : i + 1] for array in batch]) for i in range(PROBE_ROWS)]
    except (ModelFailed, InvalidRequest):  # made-up values need not mean anything to the model
        return ""
    steady = [_agree(one, other) for one, other in zip(together, again, strict=True)]
    apart = [[outputs[at] for outputs in alone] for at in range(len(together))]
    if problem := _depends(runtime, together, apart, steady):
        return problem
    for company in strange_company(batch):
        try:
            together = runtime.run(company)
        except (ModelFailed, InvalidRequest):
            continue
        near = [array[: PROBE_ROWS - 1] for array in together]
        if problem := _depends(runtime, near, [each[: PROBE_ROWS - 1] for each in apart], steady):
            return problem
    return ""


def _depends(
    runtime: Runtime, together: Sequence[Array], apart: Sequence[list[Array]], steady: Sequence[bool]
) -> str:
    """Say which output differs between rows that ran in company and the same ones alone."""
    for spec, mixed, alone, certain in zip(runtime.signature.outputs, together, apart, steady, strict=True):
        if any(array.shape[1:] != mixed.shape[1:] for array in alone):
            return f"the shape of output '{spec.name}' depends on which rows share a run"
        if certain and not _agree(mixed, np.concatenate(alone)):
            return f"output '{spec.name}' of a row depends on which rows share its run"
    return ""


def _agree(left: Array, right: Array) -> bool:
    """Compare floats by a share of their range and everything else, labels for one, exactly."""
    if left.shape != right.shape or not np.issubdtype(left.dtype, np.floating):
        return bool(np.array_equal(left, right))
    finite = np.isfinite(left)
    scale = float(np.abs(left[finite]).max(initial=0.0))
    return bool(np.allclose(left, right, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True))
