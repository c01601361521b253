"""Notices what changes in the registry: at once where the file system tells, else by a slow full scan."""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from watchfiles import watch
from watchfiles.main import FileChange

from fastserve.errors import FastserveError
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.scanning import Scanner
from fastserve.lifecycle.wishes import Wish

log = logging.getLogger("fastserve.lifecycle")

_GATHER_MS = 50
_STEP_MS = 50
_UNSETTLED_S = 0.2
_BLIND_S = 60.0
"""What the system has too few of now, such as descriptors, it may have again after so long."""


class Watcher:
    """A thread that scans whenever something changed, and tells what is wished for then.

    The registry and each model's directory are watched, not what lies in the versions: those do not change.
    """

    def __init__(
        self,
        scanner: Scanner,
        root: Path,
        options: LifecycleOptions,
        tell: Callable[[Mapping[str, Wish]], None],
    ) -> None:
        self._scanner = scanner
        self._root = root
        self._options = options
        self._tell = tell
        self._stop = threading.Event()
        self._asked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fastserve-watch", daemon=True)
        self._told: Mapping[str, Wish] | None = None
        self._blind_until_s = -math.inf
        self._problem = ""

    def start(self) -> None:
        """Scan for the first time, then go on until `stop`."""
        self._thread.start()

    def look(self) -> None:
        """Scan soon, whether or not a change is announced; any thread."""
        self._asked.set()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        self._asked.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception:  # whatever happens, the registry stays watched
                log.exception("the watch over the registry failed and begins again")
                self._stop.wait(self._options.poll_s)

    def _follow(self) -> None:
        """Watch until there are other directories, or others of the same names."""
        directories = self._scan()
        if time.monotonic() < self._blind_until_s or not directories:
            self._asked.wait(self._pause_s())
            self._asked.clear()
            return
        watched = set(map(str, directories))
        looked_s = -math.inf  # that scan is older than the watch: what changed between was not announced
        try:
            for changes in self._announced(directories):
                if changes or self._asked.is_set() or time.monotonic() - looked_s >= self._pause_s():
                    self._asked.clear()
                    looked_s = time.monotonic()
                    # One that is replaced, or gone for a moment, announces no more what happens in it.
                    replaced = not watched.isdisjoint(path for _, path in changes)
                    if self._scan() != directories or replaced:
                        return
        except FileNotFoundError:  # a directory went between the scan and the watch
            self._stop.wait(_UNSETTLED_S)
        except (OSError, RuntimeError) as error:
            said, self._blind_until_s = self._blind_until_s > -math.inf, time.monotonic() + _BLIND_S
            (log.debug if said else log.warning)(
                "the system does not announce changes in the registry (%s); it is scanned every %g s",
                error,
                self._options.poll_s,
            )

    def _announced(self, directories: list[Path]) -> Iterator[set[FileChange]]:
        """Changes as they happen, and every now and then none."""
        return watch(
            *directories,
            watch_filter=None,
            debounce=_GATHER_MS,
            step=_STEP_MS,
            stop_event=self._stop,
            rust_timeout=int(min(_UNSETTLED_S, self._options.poll_s) * 1_000),
            yield_on_timeout=True,
            raise_interrupt=False,
            recursive=False,
            force_polling=False,
        )

    def _pause_s(self) -> float:
        """How long to wait for news before looking anyway."""
        return min(_UNSETTLED_S, self._options.poll_s) if self._scanner.unsettled() else self._options.poll_s

    def _scan(self) -> list[Path]:
        """Scan, tell what changed, give the directories to watch; none when the registry is unreadable."""
        try:
            wishes = self._scanner.scan()
        except FastserveError as error:
            if self._problem != str(error):
                self._problem = str(error)
                log.error("%s; what is served stays", error)
            return []
        self._problem = ""
        if wishes != self._told:
            self._tell(wishes)
            self._told = wishes
        root = self._root.resolve()  # where a link leads now
        return [root, *(root / name for name in wishes), *self._scanner.waiting()]
