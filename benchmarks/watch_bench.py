"""What watching costs: the same server with and without it, in turn, on the same core.

`python -m benchmarks.watch_bench` needs wrk and two cores. The server that watches has everything on: a
profile of 32 inputs and all outputs, snapshots every second, and the control plane on the server's own core.
"""

import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from benchmarks.serving import machine
from benchmarks.serving.models import LARGE, SMALL, BenchmarkModel
from benchmarks.serving.payloads import Payload, Wire
from benchmarks.serving.rig import MODELS, Rig, Settings, say
from benchmarks.serving.servers import ServerSpec, free_port, publish, run_command

REQUIRED = 0.97
CASES: list[tuple[BenchmarkModel, int, Wire, int, int]] = [
    (SMALL, 1, "json", 64, 1),
    (SMALL, 1024, "binary", 1, 1),
    (SMALL, 1024, "binary", 16, 1),
    (LARGE, 1024, "binary", 4, 3),
]
"""Model, rows a request, form, connections, and how much longer a turn is where requests are few."""
OFF, ON = "not watched", "watched"


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Fresh servers so often; medians over all.")] = 5,
    repetitions: Annotated[int, typer.Option(min=1, help="Turns of each in a round.")] = 9,
    seconds: Annotated[int, typer.Option(min=1, help="Length of one measurement.")] = 1,
) -> None:
    """Print requests/s with watching on as a share of requests/s with watching off.

    Many short turns: on a shared host neighbours come and go within seconds, and a few long ones see another
    machine each. Several rounds: where a process finds its memory makes it a few percent faster or slower for
    as long as it lives, even beside another of its kind.
    """
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        settings = Settings(repetitions, seconds, machine.layout(), MODELS, directory, say)
        for number, (model, rows, wire, connections, longer) in enumerate(CASES):
            own = directory / str(number)
            own.mkdir()
            rig = Rig(replace(settings, seconds=seconds * longer, directory=own))
            print(compare(rig, model, rows, wire, connections, rounds), flush=True)
    print("\n".join(machine.describe()))


def compare(rig: Rig, model: BenchmarkModel, rows: int, wire: Wire, connections: int, rounds: int) -> str:
    """One case, measured and put in words."""
    payload = rig.payload(model, rows, wire)
    off = rig.fastserve(payload, OFF)
    on = watched(rig, payload, off)
    races = [rig.race(payload, [off, on], [connections]) for _ in range(rounds)]
    pairs = [
        pair
        for race in races
        for pair in zip(race.samples[OFF, connections], race.samples[ON, connections], strict=True)
    ]
    before, after = (median(pair[side].requests_per_s for pair in pairs) for side in (0, 1))
    ratio = median(two.requests_per_s / one.requests_per_s for one, two in pairs)
    each = [race.ratio((ON, connections), (OFF, connections), "requests_per_s").median for race in races]
    cpu = median(
        one.server_busy / one.requests_per_s / (two.server_busy / two.requests_per_s) for one, two in pairs
    )
    return (
        f"{payload.title}, {connections} connections: {before:,.0f} → {after:,.0f} requests/s, "
        f"ratio {ratio:.3f} (rounds {min(each):.3f}–{max(each):.3f}; ≥ {REQUIRED}) "
        f"{'pass' if ratio >= REQUIRED else 'MISS'}; by processor time a request {cpu:.3f}"
    )


def watched(rig: Rig, payload: Payload, off: ServerSpec) -> ServerSpec:
    """The same server over a registry whose version has a profile, with a control plane."""
    registry = rig.settings.directory / f"watched-{payload.title}"
    file = rig.settings.directory / "reference.csv"
    features = payload.model.features
    rows = np.random.default_rng(1).standard_normal((20_000, features)).astype(np.float32)
    np.savetxt(file, rows, "%.9g", ",", header=",".join(f"f{i}" for i in range(features)), comments="")
    name = payload.model.name
    publish(payload, registry)
    run_command("monitor", "profile", str(file), "--model", f"{name}@1", "--registry", str(registry))
    command = [str(registry) if part == str(rig.registry(payload)) else part for part in off.command]
    at = command.index("--control-port")
    command[at + 1] = str(free_port())
    return replace(off, name=ON, command=command)


if __name__ == "__main__":
    typer.run(main)
