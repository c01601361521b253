"""One run of a batch; when it fails its members run alone, so that one bad row harms nobody else."""

from collections.abc import Callable, Container
from functools import partial

from fastserve.clock import Clock
from fastserve.errors import InvalidRequest, ModelFailed, RunStopped
from fastserve.runtime.protocol import Runtime
from fastserve.types import Array
from fastserve_core.batching import Batch

Apart = tuple[list[Array] | Exception, ...]
"""One answer, or the error, per part of a batch."""

Outcome = list[Array] | Apart
"""A list: outputs of the whole batch. A tuple: the batch failed and each part was tried alone."""


def run_batch(run: Callable[[], list[Array]], rows: int | None) -> list[Array] | Exception:
    """Outputs of one run, or the error that it met.

    Parameters
    ----------
    run
        Runs the model on arrays that it already has.
    rows
        What dimension 0 of every output must be; None for a model without batch dimension.
    """
    try:
        outputs = run()
    except Exception as error:  # noqa: BLE001 - whatever the model does, its requests are answered with it
        return error
    if rows is not None:
        for output in outputs:
            if output.ndim == 0 or output.shape[0] != rows:
                return ModelFailed(f"an output has shape {output.shape} for a batch of {rows} rows")
    return outputs


def run_apart(
    runtime: Runtime,
    inputs: list[Array],
    batch: Batch,
    error: Exception,
    alive: Container[int],
    clock: Clock,
) -> Apart:
    """Run every part of a failed batch alone.

    A batch of one keeps its `error`, and so do parts whose tokens are not `alive`: nobody waits for them. Nor
    for those whose deadline came while the batch, or one before them, had to be stopped.
    """
    if len(batch.parts) == 1:
        return (error,)
    stopped = isinstance(error, RunStopped)
    answers: list[list[Array] | Exception] = []
    at = 0
    for (token, _offset, rows, _place), deadline_ns in zip(batch.parts, batch.deadlines_ns, strict=True):
        alone = [array[at : at + rows] for array in inputs]
        wanted = token in alive and not (stopped and deadline_ns <= clock())
        answers.append(run_batch(partial(runtime.run, alone), rows) if wanted else error)
        at += rows
    return tuple(answers)


def failures(answers: Apart) -> list[Exception]:
    """Give what went wrong that was not the client's doing."""
    return [one for one in answers if isinstance(one, Exception) and not isinstance(one, InvalidRequest)]
