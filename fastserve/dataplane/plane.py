"""Names to versions that serve: what every front end stands on."""

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

from fastserve.dataplane.served import Served
from fastserve.dataplane.statistics import Statistics, Taken, sayable
from fastserve.errors import ModelNotFound, NotReady, VersionNotFound
from fastserve.lifecycle import Loaded, Manager, Route, VersionState
from fastserve.lifecycle.wishes import NOWHERE
from fastserve.registry import parse_version
from fastserve.tracing import BatchTrace
from fastserve_core.lane import Lane, Predict


def infer_target(model: str, version: str) -> bytes:
    """Request target of the Open Inference Protocol; `version` is a number, an alias, or empty."""
    path = f"/versions/{version}" if version else ""
    return f"/v2/models/{model}{path}/infer".encode()


def predict_targets(model: str, version: str) -> list[bytes]:
    """Request targets of TensorFlow Serving, which calls aliases labels."""
    paths = [f"/versions/{version}", f"/labels/{version}"] if version else [""]
    return [f"/v1/models/{model}{path}:predict".encode() for path in paths]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index, its fields as Triton's JSON has them."""

    name: str
    version: str
    state: str
    reason: str = ""


class DataPlane:
    """Serves what the manager has loaded: its stage. Event-loop thread only, apart from `prepare`."""

    def __init__(
        self,
        manager: Manager[Served],
        loop: asyncio.AbstractEventLoop,
        executor: Executor,
        withdraw_after_runs: int = 0,
        trace: BatchTrace | None = None,
    ) -> None:
        self._manager = manager
        self._loop = loop
        self._executor = executor
        self._withdraw_after_runs = withdraw_after_runs
        self._trace = trace
        self._served: dict[str, dict[int, Served]] = {}
        self._retired: set[Served] = set()
        self._routes: dict[str, Route] = {}
        self.statistics = Statistics()
        self._targets: dict[str, list[bytes]] = {}
        """Request targets of a model that are in `fast_routes`."""
        self.draining = False
        """Set when the process is about to end: it answers, and says that it is not ready."""
        self.fast_routes: dict[bytes, Lane | Predict] = {}
        """Request target of an infer or predict call → lane, where bodies can be decoded in place."""

    # -- the manager's stage ------------------------------------------------------------------------------

    def prepare(self, loaded: Loaded) -> Served:
        """Make everything that a version needs to serve; any thread, so that `add` takes no time."""
        return Served(loaded, self._loop, self._executor, trace=self._trace)

    def add(self, held: Served) -> None:
        """Serve a version from now on, to those who name it."""
        held.watch_health(self._withdraw_after_runs, self._manager.withdraw)
        self._served.setdefault(held.name, {})[held.number] = held
        self.statistics.enrol(held)
        self._refresh(held.name)

    def remove(self, held: Served, drained: Callable[[], None]) -> None:
        """Let no new request in; `drained` is called when the last one is answered."""
        versions = self._served.get(held.name, {})
        versions.pop(held.number, None)
        if not versions:
            self._served.pop(held.name, None)
        self._refresh(held.name)
        self._retired.add(held)

        def done() -> None:
            self._retired.discard(held)
            self.statistics.dismiss(held)
            drained()

        held.retire(done)

    def route(self, model: str, route: Route) -> None:
        """Say where requests go that name no version, or an alias."""
        if route == NOWHERE:
            self._routes.pop(model, None)
        else:
            self._routes[model] = route
        self._refresh(model)

    def _refresh(self, model: str) -> None:
        """Put the model's lanes under every address that leads to them."""
        for target in self._targets.pop(model, ()):
            del self.fast_routes[target]
        route, versions = self._routes.get(model, NOWHERE), self._served.get(model, {})
        names = {**{str(number): number for number in versions}, **route.aliases}
        if route.default is not None:
            names[""] = route.default
        lanes: dict[bytes, Lane | Predict] = {}
        for name, number in names.items():
            if number in versions and (lane := versions[number].lane) is not None:
                lanes[infer_target(model, name)] = lane
                lanes |= dict.fromkeys(predict_targets(model, name), Predict(lane))
        self.fast_routes.update(lanes)
        if lanes:
            self._targets[model] = list(lanes)

    # -- what front ends ask ------------------------------------------------------------------------------

    def models(self) -> list[str]:
        """Names of all models of the registry, sorted."""
        return sorted({entry.name for entry in self.index()})

    def versions(self, model: str) -> list[str]:
        """Ready versions, oldest first; ModelNotFound for a model that is not in the registry."""
        ready = self._served.get(model)
        if not ready and model not in self.models():
            raise ModelNotFound(model)
        return [str(number) for number in sorted(ready or {})]

    def aliases(self, model: str) -> dict[str, str]:
        """Aliases that lead to a version now."""
        return {alias: str(number) for alias, number in self._routes.get(model, NOWHERE).aliases.items()}

    def index(self) -> list[IndexEntry]:
        """Every version that should be served, with its state."""
        return [
            IndexEntry(record.model, str(record.version), str(record.state), sayable(record.reason))
            for record in self._manager.records()
        ] + [
            IndexEntry(name, "", str(VersionState.UNAVAILABLE), sayable(problem))
            for name, problem in self._manager.problems().items()
        ]

    def ready(self) -> bool:
        """True when every model that is wished for has a warm version that answers, and more may come."""
        return self._manager.ready() and not self.draining

    def take_statistics(self) -> Taken:
        """What every version did since the last time, and how it stands."""
        return self.statistics.take(self._manager.records())

    def served(self) -> Iterable[Served]:
        """Every version that serves."""
        for versions in self._served.values():
            yield from versions.values()

    def resolve(self, model: str, version: str | None = None) -> Served:
        """Find the version to serve: the number or alias named, else the one that answers for the model.

        Raises
        ------
        ModelNotFound, VersionNotFound, NotReady
        """
        route = self._routes.get(model, NOWHERE)
        number = route.default if version is None else parse_version(version)
        if number is None and version is not None:
            number = route.aliases.get(version)
        served = self._served.get(model, {}).get(number) if number is not None else None
        if served is not None:
            return served
        raise self._missing(model, version)

    def _missing(self, model: str, version: str | None) -> Exception:
        """Say why nothing can be served."""
        known = [record for record in self._manager.records() if record.model == model]
        if not known:
            if (problem := self._manager.problems().get(model)) is not None:
                return NotReady(model, version or "", problem)
            if not self._manager.settled():
                return NotReady(model, version or "", "the server is still loading its models")
            return ModelNotFound(model)
        number = None if version is None else parse_version(version)
        if number is None:
            number = self._manager.wished_for(model, version)
        for record in reversed(known):
            if record.version == number or (version is None and number is None):
                reason = record.reason or f"its state is {record.state}"
                return NotReady(model, str(record.version), reason)
        if version is None:
            return NotReady(model, "", "none of its versions can serve")
        return VersionNotFound(model, version)

    def housekeep(self) -> None:
        """Once a second."""
        for served in self.served():
            served.housekeep()

    def close(self) -> None:
        """Fail what waits; used when the process ends."""
        for served in [*self.served(), *self._retired]:
            served.close()
