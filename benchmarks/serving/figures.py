"""The figures that fastserve promises, each measured by one function that says what is divided by what."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.serving import decoding
from benchmarks.serving.load import LoadError, run_wrk, write_script
from benchmarks.serving.machine import Cores
from benchmarks.serving.models import LARGE, SMALL
from benchmarks.serving.rig import IN_PROCESS, Ratio, Rig
from benchmarks.serving.servers import Server, ServerError

FEW_CONNECTIONS = (4, 16)
"""For large bodies: one alone cannot overlap client and server; each server is given its better of these."""

RSS_BEFORE_REQUESTS = 50_000
RSS_AFTER_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """One promise and what was measured."""

    figure: int
    what: str
    required: float
    at_least: bool
    """The ratio must be at least `required`; otherwise at most."""
    ratio: Ratio | None
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the median keeps the promise."""
        if self.ratio is None:
            return False
        measured = self.ratio.median
        return measured >= self.required if self.at_least else measured <= self.required


def small_requests(rig: Rig) -> list[Outcome]:
    """Many clients with one row each: what the server itself costs."""
    payload = rig.payload(SMALL, 1, "json")
    race = rig.race(payload, [rig.fastserve(payload), rig.constant(payload), rig.fastapi(payload)], [64])
    what = "1-row JSON, small MLP, 64 connections, requests/s"
    over_constant = race.ratio(("fastserve", 64), ("constant", 64), "requests_per_s")
    over_fastapi = race.ratio(("fastserve", 64), ("FastAPI", 64), "requests_per_s")
    return [
        Outcome(1, f"{what} ÷ constant-answer uvicorn app", 2.5, True, over_constant),
        Outcome(1, f"{what} ÷ FastAPI app", 10.0, True, over_fastapi),
    ]


def latency(rig: Rig) -> list[Outcome]:
    """One client, one row: how long a lone request takes."""
    payload = rig.payload(SMALL, 1, "json")
    race = rig.race(payload, [rig.fastserve(payload), rig.constant(payload)], [1])
    ratio = race.ratio(("fastserve", 1), ("constant", 1), "p50_us")
    return [Outcome(2, "1-row JSON, 1 connection, p50 ÷ constant-answer uvicorn app", 1.1, False, ratio)]


def large_json(rig: Rig) -> list[Outcome]:
    """Bodies of numbers as text."""
    payload = rig.payload(SMALL, 1024, "json")
    race = rig.race(payload, [rig.fastserve(payload), rig.fastapi(payload)], FEW_CONNECTIONS)
    ours, theirs = race.best("fastserve"), race.best("FastAPI")
    ratio = race.ratio(ours, theirs, "rows_per_s")
    note = f"{ours[1]} and {theirs[1]} connections, the better of {FEW_CONNECTIONS} for each"
    return [Outcome(3, "1024-row JSON (32 features), rows/s ÷ FastAPI app", 3.5, True, ratio, note)]


def large_binary(rig: Rig) -> list[Outcome]:
    """Bodies of numbers as bytes: what is left beside the model is copying and the kernel."""
    payload = rig.payload(SMALL, 1024, "binary")
    race = rig.race(payload, [rig.fastserve(payload)], FEW_CONNECTIONS, batches=[1024])
    ours = race.best("fastserve")
    ratio = race.ratio(ours, (IN_PROCESS, 1024), "rows_per_s")
    note = f"{ours[1]} connections, the better of {FEW_CONNECTIONS}"
    what = "1024-row binary, small MLP, rows/s ÷ the session in-process on the same core"
    return [Outcome(4, what, 0.6, True, ratio, note)]


def heavy_model(rig: Rig) -> list[Outcome]:
    """A model that lives from batching, fed one row at a time."""
    payload = rig.payload(LARGE, 1, "json")
    best = rig.best_batch(payload)
    race = rig.race(payload, [rig.fastserve(payload)], [64], batches=[best])
    ratio = race.ratio(("fastserve", 64), (IN_PROCESS, best), "rows_per_s")
    what = "large MLP, 1-row JSON, 64 connections, rows/s ÷ the session in-process at its best batch size"
    return [Outcome(5, what, 0.6, True, ratio, f"server on one core; in-process best at {best} rows a batch")]


def two_workers(rig: Rig) -> list[Outcome]:
    """Twice the cores, twice the work: with 32 rows a request wrk takes little, with one it takes a share."""
    return [outcome for rows in (32, 1) for outcome in _two_workers(rig, rows)]


def _two_workers(rig: Rig, rows: int) -> list[Outcome]:
    """Measure one size of request.

    On a machine with two cores wrk has to share them with the two workers. One worker is then measured both
    ways: with wrk on its core, so that client and server have one core against two, and with wrk beside it.
    """
    payload = rig.payload(LARGE, rows, "json")
    cores = rig.settings.layout
    beside = rig.fastserve(payload, "fastserve 1 worker")
    two = rig.fastserve(payload, "fastserve 2 workers", workers=2)
    what = f"large MLP, {rows}-row JSON, 2 workers on 2 cores ÷ 1 worker on 1 core, rows/s"
    arms = [(beside, f"wrk on {cores.one.load} for one worker, on {cores.two.load} for two")]
    if cores.two.load == cores.two.server:
        shared = Cores(cores.one.server, cores.one.server)
        alike = rig.fastserve(payload, "fastserve 1 worker, wrk on its core", cores=shared)
        arms.insert(0, (alike, "wrk on the workers' cores, for one and for two"))
    race = rig.race(payload, [*(arm for arm, _ in arms), two], [64])
    return [
        Outcome(6, what, 1.7, True, race.ratio((two.name, 64), (arm.name, 64), "rows_per_s"), note)
        for arm, note in arms
    ]


def idle_batching(rig: Rig) -> list[Outcome]:
    """Batching must cost a lone request nothing."""
    payload = rig.payload(SMALL, 1, "json")
    config = rig.settings.directory / "unbatched.yaml"
    config.write_text("batching:\n  enabled: false\n")
    plain, unbatched = rig.fastserve(payload), rig.fastserve(payload, "fastserve unbatched", config=config)
    race = rig.race(payload, [plain, unbatched], [1])
    ratio = race.ratio((plain.name, 1), (unbatched.name, 1), "p50_us")
    return [Outcome(7, "batching when idle: p50 at 1 connection ÷ batching switched off", 1.05, False, ratio)]


def json_decoding(rig: Rig) -> list[Outcome]:
    """The decoder alone, no server around it; both forms of `data` that the protocol allows."""
    payload = rig.payload(SMALL, 1024, "json")
    outcomes = []
    for form in ("flat", "nested"):
        ours_ns, theirs_ns = decoding.run_pinned(
            payload, rig.settings.directory, rig.settings.layout.one.server, nested=form == "nested"
        )
        ratio = Ratio.of([theirs / ours for ours, theirs in zip(ours_ns, theirs_ns, strict=True)])
        note = f"{median(ours_ns):.1f} against {median(theirs_ns):.1f} ns a number"
        what = f"JSON decode of 1024×32 floats of 9 digits, {form}, speed ÷ orjson.loads + np.asarray"
        outcomes.append(Outcome(8, what, 3.5, True, ratio, note))
    return outcomes


def memory(rig: Rig) -> list[Outcome]:
    """Nothing may grow with the number of requests answered."""
    payload = rig.payload(SMALL, 1, "json")
    script = write_script(payload, rig.settings.directory / payload.title)
    with rig.serve(rig.fastserve(payload), payload) as server:
        done = _send(server, script, RSS_BEFORE_REQUESTS, 1)
        server.settle()
        before = server.rss_bytes()
        total = done + _send(server, script, RSS_AFTER_REQUESTS - done, 5)
        server.settle()
        after = server.rss_bytes()
    ratio = after / before
    note = f"{before / 2**20:.1f} MiB after {done:,}, {after / 2**20:.1f} MiB after {total:,}; one run"
    what = "RSS after 1,000,000 requests ÷ RSS after 50,000"
    return [Outcome(9, what, 1.05, False, Ratio(ratio, ratio, ratio), note)]


def _send(server: Server, script: Path, requests: int, seconds: int) -> int:
    """Load the server at 64 connections until it has answered so many; returns how many."""
    sent, cores = 0, server.spec.cores.load
    while sent < requests:
        sent += run_wrk(server.port, script, connections=64, seconds=seconds, cores=cores).requests
    return sent


FIGURES: dict[int, Callable[[Rig], list[Outcome]]] = {
    1: small_requests,
    2: latency,
    3: large_json,
    4: large_binary,
    5: heavy_model,
    6: two_workers,
    7: idle_batching,
    8: json_decoding,
    9: memory,
}


def measure(rig: Rig, only: set[int]) -> list[Outcome]:
    """Measure the chosen figures, or all; one that cannot be measured counts as missed, with the reason."""
    outcomes: list[Outcome] = []
    for number, figure in FIGURES.items():
        if only and number not in only:
            continue
        try:
            outcomes += figure(rig)
        except (LoadError, ServerError, decoding.DecodingError) as error:
            rig.settings.say(str(error))
            what, reason = (figure.__doc__ or "").strip(), str(error).splitlines()[-1]
            outcomes.append(Outcome(number, what, float("nan"), True, None, f"not measured: {reason}"))
    return outcomes
