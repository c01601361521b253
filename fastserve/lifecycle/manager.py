"""Which versions should serve, and how far each has come."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from fastserve.errors import FastserveError
from fastserve.lifecycle.loader import Loaded
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.states import VersionState
from fastserve.registry import Registry

log = logging.getLogger("fastserve.lifecycle")


@dataclass(frozen=True, slots=True)
class Record:
    """One wished-for version and its state; `reason` says why it is not READY."""

    model: str
    version: int
    state: VersionState
    reason: str = ""


class Manager:
    """Brings the registry's newest versions up. `records` and `settled` may be called from any thread."""

    def __init__(
        self, registry: Registry, options: LifecycleOptions, load: Callable[[str, int], Loaded]
    ) -> None:
        self._registry = registry
        self._options = options
        self._load = load
        self._lock = threading.Lock()
        self._records: dict[tuple[str, int], Record] = {}
        self._settled = False

    def records(self) -> list[Record]:
        """All wished-for versions, by model and version."""
        with self._lock:
            return [self._records[key] for key in sorted(self._records)]

    def settled(self) -> bool:
        """True when every wished-for version is READY or has failed."""
        return self._settled

    def bring_up(self, on_ready: Callable[[Loaded], None], on_settled: Callable[[], None]) -> None:
        """Load every wished-for version, newest first; blocks, so it belongs on a thread of its own.

        `on_ready` is called on the loading thread as each version becomes warm, `on_settled` once at the end.
        A version that fails is recorded with its reason and harms no other.
        """
        wishes = [
            (model, version)
            for model in self._registry.models()
            for version in sorted(self._registry.versions(model), reverse=True)[: self._options.versions]
        ]
        for model, version in wishes:
            self._set(Record(model, version, VersionState.UNKNOWN))
        for model, version in wishes:
            self._set(Record(model, version, VersionState.LOADING))
            try:
                loaded = self._load(model, version)
            except Exception as error:  # noqa: BLE001 - no model may keep the others from being loaded
                reason = (
                    str(error) if isinstance(error, FastserveError) else f"{type(error).__name__}: {error}"
                )
                log.error("model %s version %d cannot be loaded: %s", model, version, reason)
                self._set(Record(model, version, VersionState.UNAVAILABLE, reason))
                continue
            on_ready(loaded)
            self._set(Record(model, version, VersionState.READY))
        on_settled()

    def settle(self) -> None:
        """All loads are done and have been handed over."""
        self._settled = True

    def _set(self, record: Record) -> None:
        with self._lock:
            self._records[record.model, record.version] = record
