"""How a worker watches: versions get their recorders, and what these count goes to the control plane."""

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from fastserve.batching import Watcher
from fastserve.clock import wall_ms
from fastserve.config import Config
from fastserve.dataplane import DataPlane, Served
from fastserve.errors import FastserveError
from fastserve.monitoring import MonitoringOptions, Recorder, read_profile
from fastserve.monitoring.outbox import Identity, Report
from fastserve.monitoring.process import process_figures
from fastserve.monitoring.sender import Sender
from fastserve.registry import Registry

if TYPE_CHECKING:
    from fastserve.monitoring.pinning import Pinner
    from fastserve.monitoring.transport import Link

log = logging.getLogger("fastserve.app")

_LOOK_S = 2.0
_LAST_WORDS_S = 2.0
_PATIENCE_S = 10.0
"""The server's own control plane starts after the workers: so long nobody needs to hear of it."""

Stamp = tuple[object, ...] | None


@dataclass(frozen=True, slots=True)
class Post:
    """Where a worker's statistics go, and as whose."""

    worker: int
    """The worker's place under its supervisor."""
    socket_path: Path | None
    """The server's own control plane; None: the one that `monitoring.control_url` names."""
    port: int
    """Where the server listens: several on one machine may send to one control plane."""

    def new_identity(self) -> Identity:
        """Make an identity that no process had before: another one at every call."""
        return Identity(f"{socket.gethostname()}:{self.port}", self.worker, os.urandom(16).hex())


class Watching:
    """Everything between the data plane's counters and the control plane. Event-loop thread only, but for
    `attach`.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        plane: DataPlane,
        post: Post,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._loop = loop
        self._options = config.monitoring
        self._registry = registry
        self._plane = plane
        self._post = post
        self._stamps: WeakKeyDictionary[Served, Stamp] = WeakKeyDictionary()
        self._own: WeakKeyDictionary[Served, MonitoringOptions] = WeakKeyDictionary()
        """Options of versions that are watched, with what their model.yaml says."""
        patience_s = _PATIENCE_S if post.socket_path is not None else 0.0
        identity = post.new_identity()
        self._sender = Sender(self._connect, identity, self._options.max_pending_minutes, patience_s)
        self._from_ms = wall_ms()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to tell the control plane, and to look for profiles that come while versions serve."""
        self._plane.statistics.taken_from = True
        self._sender.start()
        self._tasks = [self._loop.create_task(one) for one in (self._tell_on(), self._look_on())]

    def stop(self) -> None:
        """Tell what is left; takes a moment at most."""
        for task in self._tasks:
            task.cancel()
        self._tell()
        self._sender.stop(_LAST_WORDS_S)

    def attach(self, served: Served) -> None:
        """Give a version that is about to serve its recorder; any thread."""
        try:
            options = self._options.overridden(self._registry.settings(served.name).monitoring)
        except (FastserveError, OSError) as error:
            log.warning("model.yaml of model %s: %s", served.name, error)
            options = self._options
        if not options.enabled:
            served.unwatched = "monitoring is off"
            return
        self._own[served] = options
        self._stamps[served], served.watch.watcher = self._find(served)

    def _find(self, served: Served) -> tuple[Stamp, Watcher | None]:
        """Look for a version's profile: its stamp, and what counts against it or gathers one."""
        stamp: Stamp = None
        label = f"model {served.name} version {served.version}"
        try:
            stamp = self._registry.profile_stamp(served.name, served.number)
            content = None if stamp is None else self._registry.profile(served.name, served.number)
            if content is None:
                return stamp, self._pinner(served)
            recorder = Recorder(read_profile(content, f"the profile of {label}"), served.signature, label)
        except (FastserveError, OSError) as error:
            served.unwatched = str(error)
            log.warning("%s is not watched: %s", label, error)
            return stamp, None
        log.info("%s is watched: %d reference rows", label, recorder.profile.rows)
        for output in recorder.left_out:
            log.warning(
                "output '%s' of %s is not watched: its profile gives it a fixed size, but that varies; "
                "make one anew with --replace",
                output,
                label,
            )
        return stamp, recorder

    def _pinner(self, served: Served) -> Watcher | None:
        """Gather the first rows of a version without a profile, where that is wanted."""
        served.unwatched = "it has no profile: make one with `fastserve monitor profile`"
        options = self._own[served]
        if not options.pin_rows:
            return None
        from fastserve.monitoring.pinning import Pinner

        def gathered(pinner: Pinner) -> None:
            self._loop.call_soon_threadsafe(self._pin, served, pinner)

        try:
            pinner = Pinner(served.signature, options.pin_rows, options.max_features, gathered)
        except ValueError as error:
            served.unwatched = f"it has no profile, and none can be made of its rows: {error}"
            return None
        served.unwatched = f"its first {pinner.wanted} rows are gathered to be its reference"
        return pinner

    def _pin(self, served: Served, pinner: "Pinner") -> None:
        """Make the rows gathered the version's profile, unless another worker was first."""
        if served.watch.watcher is not pinner:
            return
        self._plane.statistics.replace(served, None)
        self._loop.run_in_executor(None, self._store, served, pinner)

    def _store(self, served: Served, pinner: "Pinner") -> None:
        label = f"model {served.name} version {served.version}"
        try:
            self._registry.add_profile(served.name, served.number, pinner.profile().to_bytes())
        except (FastserveError, OSError) as error:
            log.warning("the first %d rows of %s were not made its reference: %s", pinner.rows, label, error)
            served.unwatched = f"its first {pinner.rows} rows were not made its reference: {error}"
            return
        log.info("the first %d rows of %s are its reference from now on", pinner.rows, label)

    async def _look_on(self) -> None:
        """Notice profiles that are added or replaced."""
        loop = self._loop
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                for served in await loop.run_in_executor(None, self._changed, list(self._plane.served())):
                    self._stamps[served], watcher = await loop.run_in_executor(None, self._find, served)
                    self._plane.statistics.replace(served, watcher)
            except Exception:
                log.exception("profiles could not be looked for")

    def _changed(self, present: list[Served]) -> list[Served]:
        changed = []
        for served in present:
            if served not in self._own:
                continue
            try:
                stamp = self._registry.profile_stamp(served.name, served.number)
            except (FastserveError, OSError):
                continue  # the version's directory is gone: it serves, and is watched, from memory
            # One that is gone is counted against on, but what could not be read no longer matters.
            matters = stamp is not None or served.watch.watcher is None
            if matters and stamp != self._stamps.get(served):
                changed.append(served)
        return changed

    async def _tell_on(self) -> None:
        while True:
            await asyncio.sleep(self._options.interval_s)
            if self._sender.behind:
                continue
            try:
                self._tell()
            except Exception:
                log.exception("statistics could not be taken")

    def _tell(self) -> None:
        taken = self._plane.take_statistics()
        # A clock set back makes no span that ends before it begins.
        from_ms, self._from_ms = self._from_ms, wall_ms()
        span_ms = (min(from_ms, self._from_ms), self._from_ms)
        self._sender.offer(Report(taken.deltas, taken.now, process_figures(), span_ms, taken.profiles))

    def _connect(self) -> "Link":
        from fastserve.monitoring.transport import Link

        token = self._options.control_token
        return Link(
            self._post.socket_path,
            self._options.control_url or "",
            "" if token is None else token.get_secret_value(),
        )
