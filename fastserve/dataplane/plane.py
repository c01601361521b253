"""Names to versions to answers: what HTTP, gRPC and every later front end stand on."""

import asyncio
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from fastserve.clock import Clock, monotonic_ns
from fastserve.dataplane.served import Served
from fastserve.errors import ModelNotFound, NotReady, VersionNotFound
from fastserve.lifecycle import Loaded, Manager
from fastserve.types import Array
from fastserve_core.batching import NO_DEADLINE
from fastserve_core.lane import Lane

__all__ = ["Context", "DataPlane", "IndexEntry"]


@dataclass(slots=True)
class Context:
    """What surrounds a request: when it stops mattering, and its name in logs."""

    deadline_ns: int | None = None
    """On the data plane's monotonic clock, nanoseconds; None: never."""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index."""

    name: str
    version: str
    state: str
    reason: str = ""


class DataPlane:
    """Serves what the manager has loaded. Event-loop thread only."""

    def __init__(
        self,
        manager: Manager,
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        clock: Clock = monotonic_ns,
    ) -> None:
        self._manager = manager
        self._loop = loop
        self._executor = executor
        self._clock = clock
        self._served: dict[str, dict[int, Served]] = {}
        self.fast_routes: dict[bytes, Lane] = {}
        """Request target of an infer call → lane, for versions whose bodies can be decoded in place."""

    # -- what is served -----------------------------------------------------------------------------------

    def add(self, loaded: Loaded) -> None:
        """A version is loaded and warm: serve it from now on."""
        served = Served(loaded, self._loop, self._executor, self._clock)
        self._served.setdefault(loaded.model, {})[loaded.version] = served
        self._route(loaded.model)

    def remove(self, model: str, version: int) -> None:
        """Stop serving a version; what runs is still answered."""
        served = self._served.get(model, {}).pop(version, None)
        if served is not None:
            self._route(model)
            served.close()

    def _route(self, model: str) -> None:
        prefix = f"/v2/models/{model}".encode()
        for target in [
            t for t in self.fast_routes if t.startswith((prefix + b"/infer", prefix + b"/versions/"))
        ]:
            del self.fast_routes[target]
        versions = self._served.get(model, {})
        for number, served in versions.items():
            if served.lane is not None:
                self.fast_routes[b"%s/versions/%d/infer" % (prefix, number)] = served.lane
        newest = versions[max(versions)].lane if versions else None
        if newest is not None:
            self.fast_routes[prefix + b"/infer"] = newest

    # -- what front ends ask ------------------------------------------------------------------------------

    def models(self) -> list[str]:
        """Names of all models of the registry, sorted."""
        return sorted({entry.name for entry in self.index()})

    def versions(self, model: str) -> list[str]:
        """Ready versions, oldest first."""
        ready = self._served.get(model)
        if not ready and model not in self.models():
            raise ModelNotFound(model)
        return [str(number) for number in sorted(ready or {})]

    def index(self) -> list[IndexEntry]:
        """Every version that should be served, with its state."""
        return [
            IndexEntry(record.model, str(record.version), str(record.state), record.reason)
            for record in self._manager.records()
        ]

    def ready(self) -> bool:
        """True when loading is done and every model has a version that serves."""
        return self._manager.settled() and all(self._served.get(model) for model in self.models())

    def served(self) -> Iterable[Served]:
        """Every version that serves."""
        for versions in self._served.values():
            yield from versions.values()

    def resolve(self, model: str, version: str | None = None) -> Served:
        """Find the version to serve: the one named, else the highest that is ready.

        Raises
        ------
        ModelNotFound, VersionNotFound, NotReady
        """
        versions = self._served.get(model)
        if version is None:
            if versions:
                return versions[max(versions)]
        elif versions and version.isdecimal() and len(version) < 20 and version == str(int(version)):
            served = versions.get(int(version))
            if served is not None:
                return served
        known = [record for record in self._manager.records() if record.model == model]
        if not known:
            if not self._manager.settled():
                raise NotReady(model, version or "", "the server is still loading its models")
            raise ModelNotFound(model)
        for record in reversed(known):
            if version is None or version == str(record.version):
                reason = record.reason or f"its state is {record.state}"
                raise NotReady(model, str(record.version), reason)
        assert version is not None
        raise VersionNotFound(model, version)

    async def infer(self, served: Served, inputs: Mapping[str, Array], context: Context) -> list[np.ndarray]:
        """Answer tensors with tensors, batched with whoever else asks; outputs in signature order.

        Raises
        ------
        InvalidRequest, QueueFull, DeadlineExceeded, ModelFailed, NotReady
        """
        deadline_ns = NO_DEADLINE if context.deadline_ns is None else context.deadline_ns
        return await served.infer(inputs, deadline_ns)

    def deadline_ns(self, served: Served, timeout_us: int | None) -> int | None:
        """When a request that asks for `timeout_us` stops mattering; the server's default applies."""
        return served.deadline_ns(timeout_us)

    def housekeep(self) -> None:
        """Once a second."""
        for served in self.served():
            served.housekeep()

    def close(self) -> None:
        """Fail what waits; used when the process ends."""
        for served in self.served():
            served.close()
