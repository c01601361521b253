"""Group commit: snapshots that arrive while one transaction runs are the next one."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress

from fastserve.controlplane.errors import StoreUnavailable
from fastserve.controlplane.fleet import Fleet, Version
from fastserve.controlplane.group import Answer
from fastserve.controlplane.store import Store, Taken
from fastserve.monitoring.snapshot import MAX_SNAPSHOT_BYTES, Snapshot

_MAX_GROUP = 256
_PAUSE_S = 0.05
"""Between two commits, so that many workers cost few of them: one takes a few milliseconds."""
_MAX_WAITING_BYTES = 4 * MAX_SNAPSHOT_BYTES
_QUIET_S = 3.0
"""Workers that wait send every second; after so long without any nobody sends."""

_Waiting = tuple[Snapshot, "asyncio.Future[Answer]"]


class Intake:
    """Feeds the store's thread and keeps the fleet equal to what is committed. Event-loop thread only.

    Parameters
    ----------
    writer
        The one thread that the store is used from.
    now_s
        A clock that never goes back.
    answer_s
        How long a snapshot waits for its commit; the worker sends it again.
    """

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        writer: Executor,
        now_s: Callable[[], float],
        answer_s: float = 10.0,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._writer = writer
        self._now_s = now_s
        self._answer_s = answer_s
        self._waiting: deque[_Waiting] = deque()
        self._running: asyncio.Task[None] | None = None
        self._tried_s = 0.0
        """When the database was last asked."""
        self._held_bytes = 0
        self.trouble = "it has not been opened yet"
        """Why the database is not available; empty when it is."""
        self.watched: set[Version] = set()
        """Versions with new rows, for whoever wants to know; he empties it."""

    @contextmanager
    def room(self, size_bytes: int) -> Iterator[None]:
        """Hold memory for a snapshot of at most so many bytes; StoreUnavailable when there is none."""
        if self._held_bytes and self._held_bytes + size_bytes > _MAX_WAITING_BYTES:
            raise StoreUnavailable("too much waits for it already")
        self._held_bytes += size_bytes
        try:
            yield
        finally:
            self._held_bytes -= size_bytes

    async def prepare(self) -> None:
        """Make the tables and read the totals; ConfigError, StoreUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self._store.prepare)
            self._apply(await loop.run_in_executor(self._writer, self._store.load))
        except StoreUnavailable as error:
            self.trouble = error.reason
            raise
        self.trouble = ""

    async def submit(self, snapshot: Snapshot) -> Answer:
        """Take a snapshot in; answered once it is committed. StoreUnavailable: send it again."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        waiting = (snapshot, future)
        self._hear(snapshot)
        self._waiting.append(waiting)
        if self._running is None:
            self._running = loop.create_task(self._run())
        try:
            async with asyncio.timeout(self._answer_s):
                return await future
        except TimeoutError:
            self.trouble = "it does not answer"
            raise StoreUnavailable(self.trouble) from None
        finally:
            if future.cancelled():
                with suppress(ValueError):  # it is being committed
                    self._waiting.remove(waiting)

    async def look(self) -> None:
        """See whether a database that was away is there again: who heeds our health sends nothing by then."""
        if not self.trouble or self._running is not None or self._now_s() - self._tried_s < _QUIET_S:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._store.touch)
            self.trouble = ""
        except StoreUnavailable as error:
            self.trouble = error.reason

    def _hear(self, snapshot: Snapshot) -> None:
        """A worker lives, although the database may not be there to take in what it says."""
        worker = self._fleet.workers.get((snapshot.host, snapshot.worker))
        if worker is not None and worker.incarnation == snapshot.incarnation:
            worker.seen_s = self._now_s()

    def forget_silent(self) -> None:
        """Drop workers that were not heard of for long."""
        now_s = self._now_s()
        for place, worker in list(self._fleet.workers.items()):
            if now_s - worker.seen_s > worker.patience_s:
                del self._fleet.workers[place]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MAX_GROUP))]
                snapshots = [snapshot for snapshot, _ in group]
                try:
                    taken = await loop.run_in_executor(self._writer, self._store.take_in, snapshots)
                except Exception as error:  # noqa: BLE001 - whoever waits hears of it
                    if isinstance(error, StoreUnavailable):
                        self.trouble = error.reason
                    for _, future in group:
                        if not future.done():
                            future.set_exception(error)
                    continue
                self.trouble = ""
                self._apply(taken)
                for (_, future), answer in zip(group, taken.answers, strict=True):
                    with suppress(asyncio.InvalidStateError):  # whoever asked has gone
                        future.set_result(answer)
                await asyncio.sleep(_PAUSE_S)
        finally:
            self._running, self._tried_s = None, self._now_s()

    def _apply(self, taken: Taken) -> None:
        if taken.all_totals:
            self._fleet.totals.clear()
        self._fleet.totals.update(taken.totals)
        self.watched |= taken.watched
        now_s = self._now_s()
        for worker in taken.workers.values():
            worker.seen_s = now_s
        self._fleet.workers |= taken.workers
