"""A manager driven by hand: jobs end when the test says so, time passes when the test says so."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fastserve.clock import ManualClock
from fastserve.lifecycle import LifecycleOptions, Manager, Route, Wish
from fastserve.lifecycle.states import VersionState


@dataclass(eq=False)
class Held:
    """What a load gives."""

    model: str
    version: int


class PuppetJobs:
    """Collects jobs; the test ends them."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.loads: dict[tuple[str, int], Callable[[Held | Exception], None]] = {}
        self.frees: dict[tuple[str, int], Callable[[], None]] = {}
        self.audited: list[tuple[str, str, int, str]] = []
        self.timers: list[tuple[int, Callable[[], None]]] = []
        self.hand: set[tuple[str, int]] = set()

    def at_hand(self, model: str, version: int) -> Held | None:
        return Held(model, version) if (model, version) in self.hand else None

    def load(self, model: str, version: int, done: Callable[[Held | Exception], None]) -> None:
        assert (model, version) not in self.loads, "loaded twice at a time"
        self.loads[model, version] = done

    def free(self, held: Held, done: Callable[[], None]) -> None:
        self.frees[held.model, held.version] = done

    def record(self, model: str, event: str, version: int, reason: str) -> None:
        self.audited.append((model, event, version, reason))

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        self.timers.append((self.clock() + delay_ns, call))


@dataclass
class PuppetStage:
    """Remembers who serves and where requests go."""

    serving: dict[tuple[str, int], Held] = field(default_factory=dict)
    draining: dict[tuple[str, int], Callable[[], None]] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    history: list[tuple[str, int | None]] = field(default_factory=list)

    def add(self, held: Held) -> None:
        self.serving[held.model, held.version] = held

    def remove(self, held: Held, drained: Callable[[], None]) -> None:
        del self.serving[held.model, held.version]
        assert held.version not in self.routes.get(held.model, Route()).targets(), "a route leads nowhere"
        self.draining[held.model, held.version] = drained

    def route(self, model: str, route: Route) -> None:
        for version in route.targets():
            assert (model, version) in self.serving, "a route leads to a version that does not serve"
        self.routes[model] = route
        if not self.history or self.history[-1] != (model, route.default):
            self.history.append((model, route.default))


class Puppet:
    """One manager with everything around it under control."""

    def __init__(self, slots: int = 1, **options: object) -> None:
        self.clock = ManualClock(1)
        self.jobs = PuppetJobs(self.clock)
        self.stage = PuppetStage()
        self.settled = 0
        self.manager: Manager[Held] = Manager(
            LifecycleOptions.model_validate(options), self.jobs, slots=slots, clock=self.clock
        )
        self.manager.start(self.stage, self._on_settled)
        self.wishes: dict[str, Wish] = {}

    def _on_settled(self) -> None:
        self.settled += 1

    def wish(self, model: str, *versions: int, loaded: bool = True, **aliases: int) -> None:
        """Tell the manager what the registry has of a model now."""
        newest_first = tuple(sorted(versions, reverse=True))
        self.wishes[model] = Wish(newest_first, aliases, loaded)
        self.manager.wish(dict(self.wishes))

    def gone(self, model: str) -> None:
        del self.wishes[model]
        self.manager.wish(dict(self.wishes))

    def loaded(self, version: int, model: str = "m") -> None:
        self.jobs.loads.pop((model, version))(Held(model, version))

    def fails(self, version: int, error: Exception, model: str = "m") -> None:
        self.jobs.loads.pop((model, version))(error)

    def drained(self, version: int, model: str = "m") -> None:
        """The last request is answered and the memory is given back."""
        self.stage.draining.pop((model, version))()
        self.jobs.frees.pop((model, version))()

    def freed(self, version: int, model: str = "m") -> None:
        """A version that never served has given its memory back."""
        self.jobs.frees.pop((model, version))()

    def passes(self, s: float) -> None:
        self.clock.advance(ns=int(s * 1e9))
        due = [call for at, call in self.jobs.timers if at <= self.clock()]
        self.jobs.timers = [(at, call) for at, call in self.jobs.timers if at > self.clock()]
        for call in due:
            call()

    @property
    def loading(self) -> list[int]:
        return [version for _, version in self.jobs.loads]

    @property
    def serving(self) -> list[int]:
        return sorted(version for _, version in self.stage.serving)

    def default(self, model: str = "m") -> int | None:
        return self.stage.routes.get(model, Route()).default

    def states(self, model: str = "m") -> dict[int, VersionState]:
        return {r.version: r.state for r in self.manager.records() if r.model == model}

    def reason(self, version: int, model: str = "m") -> str:
        return next(r.reason for r in self.manager.records() if (r.model, r.version) == (model, version))
