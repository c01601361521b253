"""How a worker's models come and go: watch, manager, loading threads and data plane, put together."""

import asyncio
import gc
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial

from fastserve.app.overdue import Overdue
from fastserve.app.running import Board, Noted
from fastserve.app.watching import Post, Watching
from fastserve.config import Config
from fastserve.dataplane import DataPlane, Served
from fastserve.lifecycle import (
    Ahead,
    LoadControl,
    Loader,
    LoadThreads,
    Manager,
    Scanner,
    Watcher,
    Wish,
    by_urgency,
    load_ahead,
    load_small,
)
from fastserve.registry import Registry, TrustedKeys
from fastserve.runtime import available_cores
from fastserve.tracing import BatchTrace

log = logging.getLogger("fastserve.app")

_COLLECT_AFTER_S = 30.0
"""Garbage is collected from then on, although models may still load."""


def open_registry(config: Config) -> Registry:
    """The registry with the rules that the configuration sets for what is in it.

    Raises
    ------
    ConfigError, RegistryError
        No registry is named; a public key cannot be read.
    """
    options = config.lifecycle
    trusted = TrustedKeys.load(list(options.require_signature)) if options.require_signature else None
    return Registry(config.registry_dir(), rules=options.file_rules(), trusted=trusted)


def load_all(config: Config, threads: int, until_s: float, meanwhile: Callable[[], None]) -> Ahead:
    """Load what the registry wishes for, in a process that is to fork: no thread is left when it returns.

    `threads` work inside one run; no load begins after `until_s`; `meanwhile` runs in this thread.

    Raises
    ------
    RegistryError
        The registry cannot be read.
    """
    registry, options = open_registry(config), config.lifecycle
    loader = Loader(registry, config.runtime, config.batching, options, threads=threads)
    try:
        scanner = Scanner(registry, options)
        cores = available_cores()
        return load_ahead(loader, scanner, options, threads=cores, until_s=until_s, meanwhile=meanwhile)
    finally:
        loader.close()


class Lifecycle:
    """Everything between the registry directory and the data plane. Event-loop thread only.

    `ahead` is what was loaded before this process was forked; what models run is noted on `board`.
    """

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        threads: int,
        post: Post | None,
        trace: BatchTrace | None,
        ahead: Ahead | None,
        board: Board,
    ) -> None:
        registry, options = open_registry(config), config.lifecycle
        ahead = ahead or Ahead(Scanner(registry, options), {})
        loader = Loader(
            registry, config.runtime, config.batching, options, threads=threads, ahead=ahead.loaded
        )
        self._loop = loop
        self._loader = loader
        self._overdue = Overdue(board)
        self._withdraws = options.withdraw_after_runs > 0
        self._newest, self._ahead_s = options.versions, config.server.load_ahead_s
        self._stopping = False
        self.settled = asyncio.Event()
        self.looked = asyncio.Event()
        """Set when what was loaded ahead answers."""
        self._threads: LoadThreads[Served] = LoadThreads(
            loop,
            registry,
            self._load,
            lambda served: loader.free(served.loaded),
            at_hand=loader.at_hand,
            slots=threads,
            polite=threads == 1,
        )
        self._manager: Manager[Served] = Manager(options, self._threads, slots=threads)
        self.plane = DataPlane(
            self._manager, loop, executor, withdraw_after_runs=options.withdraw_after_runs, trace=trace
        )
        self._watching = None if post is None else Watching(config, registry, self.plane, post, loop)
        self._watcher = Watcher(ahead.scanner, registry.path, options, self._tell)
        self.load_control = LoadControl(registry, self._manager, self._watcher)

    def start(self, on_settled: Callable[[], None]) -> None:
        """Begin to look and to load; `on_settled` is called once every model is loaded or has failed."""
        # Loading makes many objects and hardly any garbage: no collection looks at them all again and again.
        gc.freeze()
        gc.disable()
        self._loop.call_later(_COLLECT_AFTER_S, gc.enable)
        self._manager.start(self.plane, partial(self._on_settled, on_settled))
        self._watcher.start()
        self._overdue.start()
        if self._watching is not None:
            self._watching.start()

    def stop(self) -> None:
        """The loop is about to end."""
        self._stopping = True
        self._watcher.stop()
        self._overdue.stop()
        self.plane.close()  # whom it fails is still counted
        if self._watching is not None:
            self._watching.stop()
        self._threads.close()
        gc.enable()
        self._loader.close()

    def _load(self, model: str, version: int) -> Served:
        """Load a version and make all that it needs to serve; on a loading thread, unless it is at hand."""
        board, label = self._overdue.board, f"model {model} version {version}"
        if self._withdraws:
            board.check(label, time.monotonic())
        loaded = self._loader.load(model, version)
        try:
            limit_s = loaded.batching.max_run_ms / 1_000 or math.inf
            noted = Noted(loaded.runtime, board, label, limit_s)
            self._overdue.add(noted)
            served = self.plane.prepare(replace(loaded, runtime=noted))
            if self._watching is not None:
                self._watching.attach(served)
        except BaseException:  # such as no memory for its batch buffer: it is loaded again later
            self._loader.free(loaded)
            raise
        return served

    def _tell(self, wishes: Mapping[str, Wish]) -> None:
        """Take wishes from the watcher's thread, which ends before the loop does."""
        if self._ahead_s:
            self._load_first(wishes, time.monotonic() + self._ahead_s)
            self._ahead_s = 0.0
        self._loop.call_soon_threadsafe(self._wish, wishes)

    def _wish(self, wishes: Mapping[str, Wish], *, wait: bool = False) -> None:
        self._manager.wish(wishes, wait=wait)
        self.looked.set()

    def _load_first(self, wishes: Mapping[str, Wish], until_s: float) -> None:
        """Load what takes a moment here, all of it: it is then handed over at once."""
        order = [key for key in by_urgency(wishes, self._newest) if not self._loader.at_hand(*key)]
        self._loop.call_soon_threadsafe(partial(self._wish, wishes, wait=True))
        load_small(self._loader, order, lambda: not self._stopping and time.monotonic() < until_s)

    def _on_settled(self, tell: Callable[[], None]) -> None:
        self._loader.free_ahead()
        # What is loaded by now mostly lives as long as the process: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        gc.enable()
        self.settled.set()
        tell()
        if not self._manager.ready():
            log.warning("not ready: a model has no version that can serve")
        elif any(self._manager.records()):
            log.info("ready: every model is loaded")
        else:
            log.warning("ready, but the registry has no models: what is published there is served at once")
        self._loop.run_in_executor(None, self._loader.get_ready)
