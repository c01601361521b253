"""Shows a version's watcher what ran, where it can once the answers have left."""

import asyncio
import logging

from fastserve.batching.runs import Outcome
from fastserve.batching.target import Watch, Watcher
from fastserve.log import Seldom
from fastserve.types import Array
from fastserve_core.batching import Batch
from fastserve_core.lane import Lane

log = logging.getLogger("fastserve.batching")
_seldom = Seldom()


class Showing:
    """What a batcher has answered and not yet shown: one batch at most. Event-loop thread only, but `now`.

    An answer is on its way to the client when the loop comes round again, so that an idle server watches
    while the client reads. A busy one shows the batch before anything is written over it.
    """

    def __init__(self, watch: Watch, lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
        self._watch = watch
        self._lane = lane
        self._loop = loop
        self._unseen: tuple[Batch, list[Array], Outcome] | None = None
        self._scheduled = False

    def later(self, batch: Batch, inputs: list[Array], outcome: Outcome) -> None:
        """Show a batch at the loop's next turn, or when `settle` is called; say so before it is answered."""
        if self._watch.watcher is None:
            return
        self._unseen, self._lane.unseen = (batch, inputs, outcome), True
        if not self._scheduled:
            # Whoever awaits an answer here is woken after this, and finds its rows counted.
            self._scheduled = True
            self._loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._scheduled = False
        self.settle()

    def settle(self) -> None:
        """Show what is due: the arrays of that batch are about to be written over."""
        if self._unseen is not None:
            unseen, self._unseen, self._lane.unseen = self._unseen, None, False
            self.now(*unseen)

    def now(self, batch: Batch, inputs: list[Array], outcome: Outcome) -> None:
        """Let the watcher see the rows that the model gave outputs for; they are answered in any case."""
        watcher = self._watch.watcher
        if watcher is None:
            return
        try:
            _show(watcher, batch, inputs, outcome)
        except Exception as error:
            if (text := _seldom.admit(f"rows that ran were not watched: {error}")) is not None:
                log.exception("%s", text)


def _show(watcher: Watcher, batch: Batch, inputs: list[Array], outcome: Outcome) -> None:
    if isinstance(outcome, list):
        # A request that runs alone is one row to the queue, however many it has.
        watcher.update(inputs, outcome, inputs[0].shape[0] if inputs[0].ndim else batch.rows)
        return
    at = 0
    for (_token, _offset, rows, _place), answer in zip(batch.parts, outcome, strict=True):
        if isinstance(answer, list):
            watcher.update([array[at : at + rows] for array in inputs], answer, rows)
        at += rows
