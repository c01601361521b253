"""The race: servers on the same core measured in turn (A B C A B C), so that a slow minute hits all alike."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

from rich.console import Console

from benchmarks.serving import servers
from benchmarks.serving.inprocess import InProcess
from benchmarks.serving.load import run_wrk, write_script
from benchmarks.serving.machine import Cores, Layout
from benchmarks.serving.models import BenchmarkModel
from benchmarks.serving.payloads import Payload, Wire
from benchmarks.serving.servers import Server, ServerSpec

IN_PROCESS = "in-process"
MODELS = servers.ROOT / ".benchmarks" / "models"

say = partial(Console(stderr=True).print, markup=False, highlight=False, soft_wrap=True)
"""Tells whoever waits what is being measured."""

Lane = tuple[str, int]
"""A contender: a server's name with its connections, or IN_PROCESS with its batch rows."""

Value = Literal["requests_per_s", "rows_per_s", "p50_us", "p99_us", "rss_bytes", "server_busy", "load_busy"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one lane; `_busy` is the share of a core that was used."""

    requests_per_s: float
    rows_per_s: float
    p50_us: float
    p99_us: float
    rss_bytes: int
    server_busy: float
    load_busy: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median of a ratio taken within each repetition, with its lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> "Ratio":
        """Summarise the repetitions."""
        return cls(median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True, slots=True)
class Race:
    """All samples of one case, lane by lane, in the order of the repetitions."""

    title: str
    samples: Mapping[Lane, Sequence[Sample]]

    def median(self, lane: Lane, value: Value) -> float:
        """Median over the repetitions."""
        return float(median(getattr(sample, value) for sample in self.samples[lane]))

    def ratio(self, ours: Lane, theirs: Lane, value: Value) -> Ratio:
        """`ours` divided by `theirs`, repetition by repetition."""
        pairs = zip(self.samples[ours], self.samples[theirs], strict=True)
        return Ratio.of([getattr(mine, value) / getattr(other, value) for mine, other in pairs])

    def best(self, name: str) -> Lane:
        """The lane of that name with the most rows a second."""
        return max(
            (lane for lane in self.samples if lane[0] == name),
            key=lambda lane: self.median(lane, "rows_per_s"),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often everything is measured, and where."""

    repetitions: int
    seconds: int
    layout: Layout
    models: Path
    """Directory that keeps the generated models between runs."""
    directory: Path
    """Scratch space, gone after the run."""
    say: Callable[[str], None]
    """Told what is being measured."""


@dataclass(slots=True)
class Rig:
    """Everything a case needs, prepared once: models, payloads, registries."""

    settings: Settings
    races: list[Race] = field(default_factory=list)
    """Every race run so far, for the report."""
    _payloads: dict[str, Payload] = field(default_factory=dict)
    _registries: dict[str, Path] = field(default_factory=dict)

    def payload(self, model: BenchmarkModel, rows: int, wire: Wire) -> Payload:
        """The requests of a case."""
        payload = Payload(model, model.file(self.settings.models), rows, wire)
        return self._payloads.setdefault(payload.title, payload)

    def registry(self, payload: Payload) -> Path:
        """A registry that holds the payload's model and nothing else."""
        name = payload.model.name
        if name not in self._registries:
            registry = self.settings.directory / "registry" / name
            registry.mkdir(parents=True)
            servers.publish(payload, registry)
            self._registries[name] = registry
        return self._registries[name]

    def fastserve(
        self,
        payload: Payload,
        name: str = "fastserve",
        workers: int = 1,
        config: Path | None = None,
        cores: Cores | None = None,
    ) -> ServerSpec:
        """The server of this tree, with one worker on one core, or two on two, unless told other cores."""
        cores = cores or (self.settings.layout.one if workers == 1 else self.settings.layout.two)
        return servers.fastserve(self.registry(payload), cores, name=name, workers=workers, config=config)

    def fastapi(self, payload: Payload) -> ServerSpec:
        """The hand-written application."""
        return servers.fastapi(payload, self.settings.layout.one)

    def constant(self, payload: Payload) -> ServerSpec:
        """The application that always gives the same answer."""
        return servers.constant(payload, self.settings.directory, self.settings.layout.one)

    def race(
        self,
        payload: Payload,
        specs: Sequence[ServerSpec],
        connections: Sequence[int],
        batches: Sequence[int] = (),
    ) -> Race:
        """Measure every server at each number of connections, and the model in-process at each batch size."""
        script = write_script(payload, self.settings.directory / payload.title)
        lanes: dict[Lane, Callable[[int], Sample]] = {}
        with ExitStack() as stack:
            for spec in specs:
                server = stack.enter_context(self.serve(spec, payload))
                for number in connections:
                    lanes[spec.name, number] = self._over_http(server, payload, script, number)
            if batches:
                inprocess = stack.enter_context(
                    InProcess(payload.model_file, self.settings.layout.one.server)
                )
                for rows in batches:
                    lanes[IN_PROCESS, rows] = self._without_server(inprocess, rows)
            race = Race(payload.title, self._take_turns(payload.title, lanes))
        self.races.append(race)
        return race

    def serve(self, spec: ServerSpec, payload: Payload) -> Server:
        """A server that is ready when it answers the payload's first body rightly."""
        return Server(spec, payload, self.settings.directory)

    def best_batch(self, payload: Payload) -> int:
        """The batch size at which the model alone makes the most rows a second."""
        with InProcess(payload.model_file, self.settings.layout.one.server) as inprocess:
            return inprocess.best_batch(seconds=0.5)

    def _take_turns(
        self, title: str, lanes: Mapping[Lane, Callable[[int], Sample]]
    ) -> dict[Lane, list[Sample]]:
        samples: dict[Lane, list[Sample]] = {lane: [] for lane in lanes}
        for measure in lanes.values():
            measure(1)  # warms caches, allocators and connections
        for repetition in range(self.settings.repetitions):
            for (name, number), measure in lanes.items():
                sample = measure(self.settings.seconds)
                samples[name, number].append(sample)
                turn = f"{repetition + 1}/{self.settings.repetitions}"
                self.settings.say(f"{title}  {turn}  {name} {number}: {sample.rows_per_s:,.0f} rows/s")
        return samples

    def _over_http(
        self, server: Server, payload: Payload, script: Path, connections: int
    ) -> Callable[[int], Sample]:
        def measure(seconds: int) -> Sample:
            used_s = server.cpu_s()
            load = run_wrk(
                server.port, script, connections=connections, seconds=seconds, cores=server.spec.cores.load
            )
            busy = (server.cpu_s() - used_s) / load.seconds
            server.settle()
            return Sample(
                requests_per_s=load.requests_per_s,
                rows_per_s=load.requests_per_s * payload.rows,
                p50_us=load.p50_us,
                p99_us=load.p99_us,
                rss_bytes=server.rss_bytes(),
                server_busy=busy,
                load_busy=load.busy,
            )

        return measure

    def _without_server(self, inprocess: InProcess, rows: int) -> Callable[[int], Sample]:
        def measure(seconds: int) -> Sample:
            used_s = inprocess.cpu_s()
            runs_per_s, p50_us, p99_us = inprocess.run(rows, seconds)
            busy = (inprocess.cpu_s() - used_s) / seconds
            return Sample(runs_per_s, runs_per_s * rows, p50_us, p99_us, inprocess.rss_bytes(), busy, 0.0)

        return measure
