"""Loads what is wished for before workers are forked: they have it all from birth, and in the same memory."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

from fastserve.lifecycle.loader import Loaded, Loader
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.scanning import Scanner
from fastserve.lifecycle.wishes import wished


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a process is born with."""

    scanner: Scanner
    """It has looked at the registry: another look costs little."""
    loaded: Mapping[tuple[str, int], Loaded]
    """By model and version."""


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
        Loads that run side by side.
    until_s
        On the clock of `time.monotonic`; no load begins afterwards.
    meanwhile
        What this thread does while the others load.

    Raises
    ------
    RegistryError
        The registry cannot be read.
    """
    wishes = scanner.scan()
    order = sorted(
        (urgency, name, version)
        for name, wish in wishes.items()
        for urgency, version in enumerate(wished(wish, options.versions, ()))
    )
    loaded: dict[tuple[str, int], Loaded] = {}

    def load(name: str, version: int) -> None:
        if time.monotonic() < until_s:
            with suppress(Exception):
                loaded[name, version] = loader.load(name, version)

    pool = ThreadPoolExecutor(threads, "fastserve-load")
    try:
        loads = [pool.submit(load, name, version) for _, name, version in order]
        meanwhile()
        wait(loads)
    except BaseException:  # this process is told to end: a load may take minutes
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    return Ahead(scanner, loaded)
