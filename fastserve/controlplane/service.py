"""The control plane without its sockets: database, fleet, and what runs in the background."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from fastserve.clock import WallClock, wall_ms
from fastserve.controlplane.database import Database
from fastserve.controlplane.drift import DriftWatch
from fastserve.controlplane.errors import NotWatched, ProfileUnavailable, StoreUnavailable
from fastserve.controlplane.fleet import Fleet
from fastserve.controlplane.intake import Intake
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.reporting import CountWindows, Report
from fastserve.controlplane.rollup import Rollup
from fastserve.controlplane.spans import span_until
from fastserve.controlplane.store import Store
from fastserve.controlplane.summary import Summaries
from fastserve.errors import FastserveError, InvalidRequest, NotFound, RegistryError
from fastserve.registry import Registry, is_model

log = logging.getLogger("fastserve.controlplane")

_T = TypeVar("_T")

_RETRY_S = 1.0
_NOT_ASKED = (
    "nobody has asked it anything since it has its profile, or has less than two seconds ago: "
    "counts come once a second"
)
_NOT_READ = "it has not been read since this control plane began"
_SWEEP_S = 1.0
_DRIFT_S = 5.0
_ROLLUP_S = 60.0
_READERS = 2
_CLOSE_S = 6.0


class Control:
    """One control plane. Event-loop thread only; `run` works until it is cancelled.

    Parameters
    ----------
    registry
        Where aliases are looked up; it may be missing.
    """

    def __init__(
        self,
        options: ControlOptions,
        registry: Path,
        database: Database,
        clock_ms: WallClock = wall_ms,
    ) -> None:
        self.options = options
        self.fleet = Fleet()
        self.ready = False
        """Snapshots can be taken in."""
        self._registry = Registry(registry)
        self._database = database
        self._clock_ms = clock_ms
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="fastserve-store")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="fastserve-report")
        known = Profiles()
        store = Store(database, options, known, clock_ms)
        self._summaries = Summaries(database, known)
        self._rollup = Rollup(store, options)
        self._drift = DriftWatch(self._summaries, self.fleet, options, time.monotonic)
        self.intake = Intake(store, self.fleet, self._writer, time.monotonic)

    async def run(self) -> None:
        """Open the database, then keep house until cancelled; ConfigError when it cannot be used at all."""
        await self._prepare()
        async with asyncio.TaskGroup() as group:
            group.create_task(_every(_SWEEP_S, self._sweep))
            group.create_task(_every(_RETRY_S, self.intake.look))
            group.create_task(_every(_DRIFT_S, self._compare))
            group.create_task(_every(_ROLLUP_S, self.keep_house))

    def close(self) -> None:
        """Let what is being written be written, but wait for no database that does not answer."""
        last = self._writer.submit(self._database.close)
        for threads in (self._writer, self._readers):
            threads.shutdown(wait=False)
        try:
            last.result(_CLOSE_S)
        except TimeoutError:
            log.warning("the database does not answer; what was being written is left to it")

    async def report(self, model: str, version: int | None, alias: str | None, since_ms: int) -> Report:
        """Report on a version, on what an alias stands for, or without both on the champion or the newest.

        Raises
        ------
        NotFound, InvalidRequest, StoreUnavailable
        """
        number, aliases = await self._find(model, version, alias)
        span = span_until(self._clock_ms(), since_ms, self.options)
        return await self._read(model, number, lambda: self._summaries.report(model, number, span, aliases))

    async def by_count(self, model: str, version: int | None, alias: str | None, limit: int) -> CountWindows:
        """Give the last windows by number of rows; the version is found as for a report.

        Raises
        ------
        NotFound, InvalidRequest, StoreUnavailable
        """
        number, _ = await self._find(model, version, alias)
        now_ms = self._clock_ms()
        return await self._read(model, number, lambda: self._summaries.by_count(model, number, limit, now_ms))

    async def _find(self, model: str, version: int | None, alias: str | None) -> tuple[int, list[str]]:
        """Find the version that is meant, and all its aliases."""
        if version is not None and alias is not None:
            raise InvalidRequest("give version or alias, not both", "alias")
        if not is_model(model):
            raise NotWatched(model, version)
        loop = asyncio.get_running_loop()
        aliases = await loop.run_in_executor(self._readers, self._aliases, model)
        if alias is not None and alias not in aliases:
            where = "in the registry that the control plane reads"
            raise NotFound(f"model '{model[:128]}' has no alias '{alias[:128]}' {where}")
        if version is None:
            version = aliases.get(alias or "champion") or self._newest(model)
        return version, sorted(name for name, number in aliases.items() if number == version)

    async def _read(self, model: str, version: int, read: Callable[[], _T]) -> _T:
        """Read the database in a thread; who asks for a version without rows is told why it has none."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, read)
        except NotWatched as error:
            raise NotWatched(model, version, self._why(model, version)) from error

    def _why(self, model: str, version: int) -> str:
        """Say why a version has no rows, as its workers do."""
        for held, one in self.fleet.held():
            if held == (model, version):
                return one.unwatched or _NOT_ASKED
        return ""

    def overview(self) -> list[dict[str, Any]]:
        """List every version that was heard of, with the rows of it that were watched; StoreUnavailable."""
        if not self.fleet.totals and not self.ready:
            raise StoreUnavailable(_NOT_READ)
        now = dict(self.fleet.held())
        found: list[dict[str, Any]] = []
        for model, version in sorted(self.fleet.totals.keys() | now.keys()):
            if not model:
                continue
            totals, one = self.fleet.totals.get((model, version)), now.get((model, version))
            found.append(
                {
                    "model": model,
                    "version": version,
                    "watched_rows": totals.watched_rows if totals else 0,
                    "present": one is not None,
                    "profile": one.profile if one else None,
                    "unwatched": one.unwatched if one else "",
                }
            )
        return found

    async def keep_house(self) -> None:
        """Sum up what is over, delete what is old."""
        loop = asyncio.get_running_loop()
        now_ms = self._clock_ms()
        for level in ("hour", "day"):
            due = await loop.run_in_executor(self._writer, self._rollup.due, level, now_ms)
            for key, start_ms in due:
                try:
                    await loop.run_in_executor(self._writer, self._rollup.roll, key, level, start_ms)
                except ProfileUnavailable as error:
                    log.warning("one %s of model %s is not summed up: %s", level, key.model, error)
        held = self.fleet.present()
        for gone in await loop.run_in_executor(self._writer, self._rollup.forget, now_ms, held):
            self.fleet.totals.pop(gone, None)

    async def _prepare(self) -> None:
        told = ""
        while not self.ready:
            try:
                await self.intake.prepare()
                self.ready = True
                if told:
                    log.info("the database can be had now: what workers have kept is taken in")
            except StoreUnavailable as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("%s; trying again", told)
                await asyncio.sleep(_RETRY_S)

    async def _sweep(self) -> None:
        self.intake.forget_silent()

    async def _compare(self) -> None:
        watched, self.intake.watched = self.intake.watched, set()
        loop = asyncio.get_running_loop()
        for version in self._drift.due(watched):
            compare = self._drift.compare
            try:
                found = await loop.run_in_executor(self._readers, compare, version, self._clock_ms())
            except (NotWatched, ProfileUnavailable):
                found = []
            except StoreUnavailable:
                raise
            except Exception:  # what is wrong with one version's counts keeps no other from being compared
                log.exception("model '%s' version %d cannot be compared", *version)
                found = []
            self._drift.show(version, found)

    def _aliases(self, model: str) -> dict[str, int]:
        try:
            return dict(self._registry.state(model).aliases)
        except (RegistryError, NotFound):
            return {}

    def _newest(self, model: str) -> int:
        """Give the newest version that was watched, else the newest."""
        versions = [
            (totals.watched_rows > 0, version)
            for (name, version), totals in self.fleet.totals.items()
            if name == model
        ]
        if not versions and not self.ready:
            raise StoreUnavailable(_NOT_READ)
        if not versions:
            raise NotWatched(model, None)
        return max(versions)[1]


async def _every(period_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again; a failure is logged and the next time is another try."""
    while True:
        try:
            await work()
        except FastserveError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("the control plane's housekeeping failed")
        await asyncio.sleep(period_s)
