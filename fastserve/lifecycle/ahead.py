"""Loads what is wished for before workers are forked: they have it all from birth, and in the same memory."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

from fastserve.lifecycle.loader import Loaded, Loader
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.scanning import Scanner
from fastserve.lifecycle.wishes import by_urgency

Key = tuple[str, int]
"""Model and version."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a process is born with."""

    scanner: Scanner
    """It has looked at the registry: another look costs little."""
    loaded: Mapping[Key, Loaded]


def load_ahead(
    loader: Loader,
    scanner: Scanner,
    options: LifecycleOptions,
    *,
    threads: int,
    until_s: float,
    meanwhile: Callable[[], None] = lambda: None,
) -> Ahead:
    """Load every version that is wished for, champions first; no thread of it is left when it returns.

    What fails is not in the answer: whoever needs it tries again, and says why it failed.

    Parameters
    ----------
    threads
        Loads of large models that run side by side.
    until_s
        On the clock of `time.monotonic`; no load begins afterwards.
    meanwhile
        What this thread does while another loads.

    Raises
    ------
    RegistryError
        The registry cannot be read.
    """
    order = by_urgency(scanner.scan(), options.versions)

    def in_time() -> bool:
        return time.monotonic() < until_s

    def load(name: str, version: int) -> None:
        if in_time():
            loader.keep(loader.load(name, version))

    # Not `with`: where this process is told to end, nobody waits for a load that may take minutes.
    pool = ThreadPoolExecutor(threads, "fastserve-load")
    small = pool.submit(load_small, loader, order, in_time)
    meanwhile()
    wait([pool.submit(load, name, version) for name, version in small.result()])
    pool.shutdown()
    return Ahead(scanner, loader.take_ahead())


def load_small(loader: Loader, order: Iterable[Key], go_on: Callable[[], bool]) -> list[Key]:
    """Load what takes a moment each, one after the other, and keep it at hand; give what takes longer.

    `go_on` is asked before each version. One thread alone, which reports nothing in between, is done sooner
    than two.
    """
    large: list[Key] = []
    for name, version in order:
        if not go_on():
            break
        if not loader.load_quickly(name, version):
            large.append((name, version))
    return large
