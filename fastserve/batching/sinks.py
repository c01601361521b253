"""Where a request's rows go once they have run."""

import asyncio
from typing import Protocol

import numpy as np

from fastserve.errors import ModelFailed
from fastserve.types import Array


class Sink(Protocol):
    """Receives the answer of one request, once, on the event-loop thread."""

    def deliver(self, outputs: list[Array], start: int, rows: int) -> None:
        """Rows [start, start + rows) of every output are the answer; rows == -1: the whole arrays.

        The arrays belong to the batch: they are overwritten after this call returns.
        """

    def fail(self, error: Exception) -> None:
        """The request will not be answered, because of `error`."""


class FutureSink:
    """Hands the answer to an awaiting task, as arrays of its own."""

    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[list[Array]]) -> None:
        self.future = future

    def deliver(self, outputs: list[Array], start: int, rows: int) -> None:
        """Copy the rows, unless the task has gone."""
        if not self.future.done():
            whole = rows < 0
            self.future.set_result([(o if whole else o[start : start + rows]).copy() for o in outputs])

    def fail(self, error: Exception) -> None:
        """Raise the error in the task, unless it has gone."""
        if not self.future.done():
            self.future.set_exception(error)


class SplitSink:
    """Puts the parts of a request that is larger than a batch together again, in order."""

    __slots__ = ("missing_rows", "outputs", "rows", "sink")

    def __init__(self, sink: Sink, rows: int) -> None:
        self.sink = sink
        self.rows = rows
        self.missing_rows = rows
        self.outputs: list[Array] | None = None

    def add(self, outputs: list[Array], start: int, rows: int, offset: int) -> bool:
        """Keep one part, rows [offset, offset + rows) of the request; true when it was the last."""
        if self.outputs is None:
            self.outputs = [np.empty((self.rows, *o.shape[1:]), o.dtype) for o in outputs]
        for kept, output in zip(self.outputs, outputs, strict=True):
            if output.shape[1:] != kept.shape[1:]:
                raise ModelFailed(f"rows of one request have shapes {kept.shape[1:]} and {output.shape[1:]}")
            kept[offset : offset + rows] = output[start : start + rows]
        self.missing_rows -= rows
        return self.missing_rows == 0

    def deliver_whole(self) -> None:
        """Pass the assembled answer on."""
        assert self.outputs is not None
        self.sink.deliver(self.outputs, 0, self.rows)

    def fail(self, error: Exception) -> None:
        """Pass the error on."""
        self.sink.fail(error)
