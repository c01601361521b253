"""Brings what is served to what is wished for: one state machine per version, driven by events.

It decides and remembers; what takes time (loading, freeing, audit lines) are jobs that somebody else runs, so
that tests drive it by hand.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

from fastserve.clock import Clock, monotonic_ns
from fastserve.errors import FastserveError
from fastserve.lifecycle.memory import NotEnoughMemory
from fastserve.lifecycle.models import NEVER_NS, Entry, Model
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.policy import Step, next_action
from fastserve.lifecycle.states import UNLOADED, Record, VersionState
from fastserve.lifecycle.wishes import CHAMPION, Route, Wish

log = logging.getLogger("fastserve.lifecycle")

_GRAIN_NS = 1_000_000
"""What a loop's timers count in."""

H = TypeVar("H")
Hc = TypeVar("Hc", contravariant=True)


class Jobs(Protocol[H]):
    """Runs what takes time; every callback comes back on the event-loop thread."""

    def at_hand(self, model: str, version: int) -> H | None:
        """What serves a version, ready to serve, where that takes no time to have."""

    def load(self, model: str, version: int, done: Callable[[H | Exception], None]) -> None:
        """Load one version, ready to serve, or say why not."""

    def free(self, held: H, done: Callable[[], None]) -> None:
        """Give back what a version held; nobody uses it any more."""

    def record(self, model: str, event: str, version: int, reason: str) -> None:
        """Write a line into the model's audit log."""

    def later(self, delay_ns: int, call: Callable[[], None]) -> None:
        """Call after a while."""


class Stage(Protocol[Hc]):
    """Where loaded versions serve: the data plane."""

    def add(self, held: Hc) -> None:
        """Serve a version from now on, to those who name it."""

    def remove(self, held: Hc, drained: Callable[[], None]) -> None:
        """Let no new request in; `drained` is called when the last one is answered."""

    def route(self, model: str, route: Route) -> None:
        """Say where requests go that name no version, or an alias."""


class Manager(Generic[H]):
    """Which versions should serve, and how far each has come. Event-loop thread only."""

    def __init__(
        self, options: LifecycleOptions, jobs: Jobs[H], *, slots: int = 1, clock: Clock = monotonic_ns
    ) -> None:
        self._options = options
        self._jobs = jobs
        self._slots = slots
        self._clock = clock
        self._stage: Stage[H] | None = None
        self._models: dict[str, Model[H]] = {}
        self._wanting: dict[str, tuple[bool, int, int]] = {}
        """Model → (it has a version that answers, urgency, version) of its next load."""
        self._loading: set[tuple[str, int]] = set()
        self._waits = False
        """Loads do not begin yet."""
        self._settled = False
        self._on_settled: Callable[[], None] = lambda: None

    def start(self, stage: Stage[H], on_settled: Callable[[], None] = lambda: None) -> None:
        """Attach the data plane; `on_settled` is called once every first wish is READY or has failed."""
        self._stage = stage
        self._on_settled = on_settled

    # -- what others ask ----------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """Every version that is wished for, served or lately unloaded, by model and version."""
        return [
            Record(name, version, entry.state, model.reason(version, entry))
            for name, model in sorted(self._models.items())
            for version, entry in sorted(model.entries.items())
        ]

    def models(self) -> list[str]:
        """Names of the models that the registry has, sorted."""
        return sorted(name for name, model in self._models.items() if model.wish is not None)

    def wished_for(self, model: str, alias: str | None) -> int | None:
        """Which version an alias, or a request without version, is meant to reach, READY or not."""
        known = self._models.get(model)
        if known is None or known.wish is None:
            return None
        champion = known.wish.aliases.get(alias or CHAMPION)
        return champion if alias or champion is not None else next(iter(known.wished), None)

    def settled(self) -> bool:
        """True from when every version of the first wish was READY or had failed."""
        return self._settled

    def ready(self) -> bool:
        """True when loading is done and every model that is wished for has a version that answers."""
        return self._settled and all(
            model.route.default is not None
            for model in self._models.values()
            if model.wish is not None and model.wish.loaded and (model.wish.versions or model.wish.problem)
        )

    def problems(self) -> dict[str, str]:
        """Give the reason by model for those of which nothing could be read since the start."""
        return {
            name: model.wish.problem
            for name, model in sorted(self._models.items())
            if model.wish is not None and model.wish.problem
        }

    def settled_on(self, model: str, loaded: bool) -> bool:
        """Tell whether a model has reached what a person asked for by load or unload, or has failed to."""
        known = self._models.get(model)
        if known is None or known.wish is None or known.wish.loaded != loaded:
            return False
        if loaded:
            versions, moving = known.wished, {VersionState.UNKNOWN, VersionState.LOADING}
        else:
            versions = list(known.entries)
            moving = {VersionState.READY, VersionState.UNLOADING, VersionState.LOADING}
        return all(known.entries[version].state not in moving for version in versions)

    # -- events -------------------------------------------------------------------------------------------

    def wish(self, wishes: Mapping[str, Wish], *, wait: bool = False) -> None:
        """Take in what the registry holds now, all of it: a model that is not named is not there any more.

        With `wait` it is known from now on, but loads begin with the next wish.
        """
        waited, self._waits = self._waits, wait
        for name in [name for name in self._models if name not in wishes]:
            self._models[name].take_in(None)
            self._step(name)
        for name, wish in wishes.items():
            model = self._models.setdefault(name, Model())
            if model.wish != wish or waited:
                model.take_in(wish)
                self._step(name)
        self._start_loads()
        self._settle()

    def try_again(self, name: str) -> None:
        """Forget what has failed of a model, because a person asks for it."""
        model = self._models.get(name)
        if model is not None:
            model.forgive(set(model.entries))
            self._reconcile(name)

    def withdraw(self, name: str, version: int, reason: str) -> None:
        """Stop serving a version that fails every run; whoever is before it takes over if options say so."""
        model = self._models.get(name)
        entry = model.entries.get(version) if model is not None else None
        if model is None or entry is None or entry.state is not VersionState.READY:
            return
        log.error("model %s version %d is withdrawn: %s", name, version, reason)
        self._jobs.record(name, "withdraw", version, reason)
        self._count_failure(entry, reason)
        self._unload(name, model, version)
        if model.route.default is not None:
            # Something else answers now. Trying again would mean failing clients again: only a new wish does.
            entry.due_ns = NEVER_NS
        self._reconcile(name)

    # -- deciding -----------------------------------------------------------------------------------------

    def _reconcile(self, name: str) -> None:
        """Take every step that can be taken now for one model, then start loads where there is room."""
        self._step(name)
        self._start_loads()

    def _start_loads(self) -> None:
        while self._wanting and not self._waits and len(self._busy()) < self._slots:
            chosen, (*_, version) = min(self._wanting.items(), key=itemgetter(1))
            del self._wanting[chosen]
            self._load(chosen, version)
            self._step(chosen)

    def _step(self, name: str) -> None:
        model = self._models[name]
        self._wanting.pop(name, None)
        model.choose(self._options.versions)
        self._reroute(name, model)
        while action := next_action(self._options.policy, model.views(self._clock())):
            if action.step is Step.UNLOAD:
                self._unload(name, model, action.version)
            elif (held := self._jobs.at_hand(name, action.version)) is not None:
                self._serve(model.entries[action.version], held)
                self._reroute(name, model)
            else:
                urgency = model.wished.index(action.version)
                self._wanting[name] = (model.route.default is not None, urgency, action.version)
                break
        model.forget()
        if model.wish is None and not model.entries:
            del self._models[name]

    def _busy(self) -> list[tuple[str, int]]:
        """Loads in flight that somebody still waits for: a newer wish does not queue behind an older one."""
        return [(name, version) for name, version in self._loading if version in self._models[name].wished]

    def _reroute(self, name: str, model: Model[H]) -> None:
        route = model.decide_route(self._options.fallback)
        if route != model.route:
            self._tell_of_fallback(name, model, route)
            model.route = route
            self._on_stage().route(name, route)

    def _tell_of_fallback(self, name: str, model: Model[H], route: Route) -> None:
        champion = None if model.wish is None else model.wish.aliases.get(CHAMPION)
        if champion is None or route.default in (None, champion, model.route.default):
            return
        log.warning(
            "model %s: version %s answers for the champion, version %d", name, route.default, champion
        )

    def _settle(self) -> None:
        if self._settled or self._wanting:
            return
        for model in self._models.values():
            if model.wish is not None and model.wish.coming:
                return
            for version in model.wished:
                entry = model.entries[version]
                if entry.state is not VersionState.READY and not entry.failures:
                    return
        self._settled = True
        self._on_settled()

    # -- loading ------------------------------------------------------------------------------------------

    def _load(self, name: str, version: int) -> None:
        entry = self._models[name].entries[version]
        entry.state = VersionState.LOADING
        self._loading.add((name, version))
        self._jobs.load(name, version, lambda outcome: self._loaded(name, version, outcome))

    def _loaded(self, name: str, version: int, outcome: H | Exception) -> None:
        self._loading.remove((name, version))
        model = self._models[name]  # no version is forgotten while it loads
        entry = model.entries[version]
        if version not in model.wished:
            entry.state = VersionState.UNKNOWN
            if not isinstance(outcome, Exception):
                self._jobs.free(outcome, lambda: None)
        elif isinstance(outcome, Exception):
            self._failed(name, model, version, outcome)
        else:
            self._serve(entry, outcome)
        self._reconcile(name)
        self._settle()

    def _serve(self, entry: Entry[H], held: H) -> None:
        entry.state, entry.reason, entry.held, entry.fits = VersionState.READY, "", held, True
        self._on_stage().add(held)

    def _failed(self, name: str, model: Model[H], version: int, error: Exception) -> None:
        entry = model.entries[version]
        if isinstance(error, NotEnoughMemory) and entry.fits and model.surplus():
            entry.fits = False
            entry.state = VersionState.UNKNOWN
            log.info("model %s version %d: %s; the old version is drained first", name, version, error)
            return
        expected = isinstance(error, FastserveError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        entry.fits = True
        entry.state = VersionState.UNAVAILABLE
        self._count_failure(entry, reason)
        level = logging.ERROR if entry.failures == 1 else logging.DEBUG
        log.log(level, "model %s version %d cannot be loaded: %s", name, version, reason)

    def _count_failure(self, entry: Entry[H], reason: str) -> None:
        """Remember why a version failed, and have it tried again, ever later."""
        options = self._options
        delay_s = min(options.retry_s * 2 ** min(entry.failures, 32), options.retry_max_s)
        delay_ns = int(delay_s * 1e9)
        entry.due_ns = self._clock() + delay_ns
        self._jobs.later(delay_ns, partial(self._retry, entry.due_ns))
        entry.reason = reason
        entry.failures += 1

    def _retry(self, due_ns: int) -> None:
        """Try again what is due by now; a loop's own clock is coarse and may call too early."""
        left_ns = due_ns - self._clock()
        if left_ns > 0:
            self._jobs.later(max(left_ns, _GRAIN_NS), partial(self._retry, due_ns))
            return
        for name in list(self._models):
            self._reconcile(name)

    # -- unloading ----------------------------------------------------------------------------------------

    def _unload(self, name: str, model: Model[H], version: int) -> None:
        """Take a READY version away: first the routes that lead to it, then itself."""
        entry = model.entries[version]
        held, entry.held = entry.held, None
        assert held is not None
        entry.state = VersionState.UNLOADING
        self._reroute(name, model)

        def freed() -> None:
            entry.state = VersionState.UNAVAILABLE
            entry.reason = entry.reason or UNLOADED
            self._reconcile(name)

        self._on_stage().remove(held, partial(self._jobs.free, held, freed))

    def _on_stage(self) -> Stage[H]:
        assert self._stage is not None
        return self._stage
