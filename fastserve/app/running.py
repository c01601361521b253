"""What a process runs, noted in memory that its parent reads when it has died."""

import itertools
import math
import mmap
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from fastserve.errors import ModelFailed, RunStopped
from fastserve.runtime import Bound, Runtime
from fastserve.types import Array

_PLACES = 256
_PLACE_BYTES = 256
"""A model's name has 128 bytes at most."""
_SINCE = struct.Struct("=d")
_SINCE_AT = _PLACE_BYTES - _SINCE.size

T = TypeVar("T")


class Board:
    """Shared by a process and its forks: a place for each thread, which says what the thread runs."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, _PLACES * _PLACE_BYTES)
        self._own = threading.local()
        self._next = itertools.count()
        self.barred: dict[str, float] = {}
        """What a process born from now on must not run, and until when on the clock of `time.monotonic`."""

    def place(self) -> slice:
        """Give this thread's place; its first byte is zero while the thread runs nothing."""
        try:
            own: slice = self._own.place
        except AttributeError:
            start = next(self._next) % _PLACES * _PLACE_BYTES
            own = self._own.place = slice(start, start + _PLACE_BYTES)
        return own

    def check(self, label: str, now_s: float) -> None:
        """Raise ModelFailed if this process must not run it."""
        if now_s < self.barred.get(label, 0.0):
            raise ModelFailed("it has ended its worker several times in a row, and is tried again later")

    def running(self, now_s: float) -> Iterator[tuple[str, float]]:
        """What threads run, and since when, as far as earlier calls have seen it; one thread asks.

        The time is written behind the run's label, where the next run puts zeros.
        """
        for at in range(0, len(self.memory), _PLACE_BYTES):
            runs, was_used = self.memory[at : at + 2]
            if not was_used:
                break
            since_s = self._since_s(at)
            if runs and not since_s:
                _SINCE.pack_into(self.memory, at + _SINCE_AT, since_s := now_s)
            if runs:
                yield self._label(at), since_s

    def is_late(self, place: slice, limit_s: float, now_s: float) -> bool:
        """Tell whether the run of this place has been seen, and so long ago."""
        since_s = self._since_s(place.start)
        return since_s > 0.0 and now_s >= since_s + limit_s

    def seen_s(self) -> float:
        """When the first of what threads run was seen by `running`; infinity where nothing was."""
        places = range(0, len(self.memory), _PLACE_BYTES)
        return min(
            (since_s for at in places if self.memory[at] and (since_s := self._since_s(at))), default=math.inf
        )

    def blame(self, label: str) -> None:
        """Take everything off the board but what is to blame for the end that comes now."""
        for at in range(0, len(self.memory), _PLACE_BYTES):
            if self._label(at) != label:
                self.memory[at] = 0

    def take(self) -> list[str]:
        """What threads ran that have not come back, each once; the board is empty afterwards."""
        labels = {self._label(at) for at in range(0, len(self.memory), _PLACE_BYTES)}
        self.memory[:] = bytes(len(self.memory))
        return sorted(labels - {""})

    def _since_s(self, at: int) -> float:
        since_s: float = _SINCE.unpack_from(self.memory, at + _SINCE_AT)[0]
        return since_s

    def _label(self, at: int) -> str:
        return self.memory[at : at + _SINCE_AT].split(b"\0", 1)[0].decode()


class Noted:
    """A runtime whose runs are on a board for as long as they last, which should not be over `limit_s`.

    `interrupt` stops all that are under way; those that were not over it are run again.
    """

    def __init__(self, runtime: Runtime, board: Board, label: str, limit_s: float = math.inf) -> None:
        self.signature = runtime.signature
        self.provider = runtime.provider
        self.close = runtime.close
        self.interrupt = runtime.interrupt
        self._runtime = runtime
        self._board = board
        self.label, self.limit_s = label, limit_s
        self._label = label.encode().ljust(_PLACE_BYTES, b"\0")

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run the model once, as its own runtime does."""
        return self._noted(self._board.place(), partial(self._runtime.run, inputs))

    def bind(self, inputs: Sequence[Array]) -> Bound | None:
        """Prepare a run over exactly these arrays, for this thread; the model may run meanwhile."""
        place = self._board.place()
        bound = self._noted(place, partial(self._runtime.bind, inputs))
        return None if bound is None else partial(self._noted, place, bound)

    def _noted(self, place: slice, call: Callable[[], T]) -> T:
        memory = self._board.memory
        memory[place] = self._label
        try:
            return call()
        except RunStopped:
            if self._board.is_late(place, self.limit_s, time.monotonic()):
                raise
            return call()
        finally:
            memory[place.start] = 0
