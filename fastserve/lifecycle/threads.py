"""Threads for what must not happen on the event loop: loading, freeing, writing audit lines."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from fastserve.clock import NS_PER_S
from fastserve.errors import FastserveError
from fastserve.registry import Registry

log = logging.getLogger("fastserve.lifecycle")

H = TypeVar("H")

_SPARE = 2
"""Threads beyond the loads that run side by side: for frees, and for a newer wish."""
_NICE = 10


class LoadThreads(Generic[H]):
    """Runs the manager's jobs and brings their results back to the loop. Event-loop thread only.

    Parameters
    ----------
    load
        (model, version) → what serves it, all checks and warm-up included.
    free
        Gives back what it holds.
    at_hand
        Tells whether `load` has (model, version) already, so that calling it here takes no time.
    polite
        The threads leave the core to whoever answers requests. Not where sessions have threads of their own:
        those would stay like this for good.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        registry: Registry,
        load: Callable[[str, int], H],
        free: Callable[[H], None],
        *,
        at_hand: Callable[[str, int], bool],
        slots: int,
        polite: bool,
    ) -> None:
        self._loop = loop
        self._registry = registry
        self._do_load = load
        self._do_free = free
        self._is_at_hand = at_hand
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = slots + _SPARE
        for number in range(self._threads):
            # Daemons: a load that takes minutes must not keep the process from ending.
            threading.Thread(
                target=self._run, args=(polite,), name=f"fastserve-load-{number}", daemon=True
            ).start()

    def at_hand(self, model: str, version: int) -> H | None:
        """What serves a version, if it can be had at once; None also if that fails: `load` will say why."""
        outcome = self._outcome(model, version) if self._is_at_hand(model, version) else None
        return None if isinstance(outcome, Exception) else outcome

    def load(self, model: str, version: int, done: Callable[[H | Exception], None]) -> None:
        """Load one version, ready to serve, or say why not."""
        self._submit(lambda: self._outcome(model, version), done)

    def _outcome(self, model: str, version: int) -> H | Exception:
        try:
            return self._do_load(model, version)
        except FastserveError as error:
            return error
        except Exception as error:  # no model may keep the others from being loaded
            log.exception("model %s version %d: loading it crashed", model, version)
            return error

    def free(self, held: H, done: Callable[[], None]) -> None:
        """Give back what a version held; nobody uses it any more."""
        self._submit(lambda: self._do_free(held), lambda _: done())

    def record(self, model: str, event: str, version: int, reason: str) -> None:
        """Write a line into the model's audit log; a registry that cannot be written is no failure."""

        def job() -> None:
            try:
                self._registry.record(model, event, version=version, reason=reason)
            except FastserveError as error:
                log.warning("model %s: '%s' is not in the audit log: %s", model, event, error)

        self._submit(job, lambda _: None)

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Call after a while."""
        self._loop.call_later(delay_ns / NS_PER_S, call)

    def close(self) -> None:
        """End the threads that have nothing to do; does not wait for a load that runs."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _run(self, polite: bool) -> None:
        if polite:
            _yield_core()
        while (job := self._jobs.get()) is not None:
            job()

    def _submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        def run() -> None:
            outcome = None
            try:
                outcome = job()
            except Exception:  # the thread has others to do, and somebody waits for this one
                log.exception("a job of a loading thread failed")
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                self._loop.call_soon_threadsafe(done, outcome)

        self._jobs.put(run)


def _yield_core() -> None:
    """On Linux each thread has a niceness of its own."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
