"""What watching costs: the same server with and without it, in turn, on the same core.

`python -m benchmarks.watch_bench` needs wrk and two cores. The server that watches has everything on: a
profile of 32 inputs and all outputs, snapshots every second, and the control plane on the server's own core.
"""

import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.serving import machine
from benchmarks.serving.models import LARGE, SMALL, BenchmarkModel
from benchmarks.serving.payloads import Payload, Wire
from benchmarks.serving.rig import Rig, Settings
from benchmarks.serving.servers import ROOT, ServerSpec, free_port

MODELS = ROOT / ".benchmarks" / "models"
REQUIRED = 0.97
CASES: list[tuple[BenchmarkModel, int, Wire, int]] = [
    (SMALL, 1, "json", 64),
    (SMALL, 1024, "binary", 16),
    (LARGE, 1024, "binary", 4),
]
"""Model, rows a request, form, connections."""
OFF, ON = "not watched", "watched"

say = partial(Console(stderr=True).print, markup=False, highlight=False, soft_wrap=True)


def main(
    repetitions: Annotated[int, typer.Option(min=1, help="Turns of each; medians of their ratios.")] = 41,
    seconds: Annotated[int, typer.Option(min=1, help="Length of one measurement.")] = 1,
) -> None:
    """Print requests/s with watching on as a share of requests/s with watching off.

    Many short turns: on a shared host neighbours come and go within seconds, and a few long ones see another
    machine each.
    """
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        settings = Settings(repetitions, seconds, machine.layout(), MODELS, directory, say)
        rig = Rig(settings)
        for model, rows, wire, connections in CASES:
            payload = rig.payload(model, rows, wire)
            off = rig.fastserve(payload, OFF)
            race = rig.race(payload, [off, watched(rig, payload, off)], [connections])
            ratio = race.ratio((ON, connections), (OFF, connections), "requests_per_s")
            verdict = "pass" if ratio.median >= REQUIRED else "MISS"
            before, after = (race.median((name, connections), "requests_per_s") for name in (OFF, ON))
            cpu = median(
                one.server_busy / one.requests_per_s / (other.server_busy / other.requests_per_s)
                for one, other in zip(
                    race.samples[OFF, connections], race.samples[ON, connections], strict=True
                )
            )
            print(
                f"{payload.title}, {connections} connections: {before:,.0f} → {after:,.0f} requests/s, "
                f"ratio {ratio.median:.3f} ({ratio.low:.3f}–{ratio.high:.3f}; ≥ {REQUIRED}) {verdict}; "
                f"by processor time a request {cpu:.3f}",
                flush=True,
            )
    print("\n".join(machine.describe()))


def watched(rig: Rig, payload: Payload, off: ServerSpec) -> ServerSpec:
    """The same server over a registry whose version has a profile, with a control plane."""
    registry = rig.settings.directory / f"watched-{payload.title}"
    file = rig.settings.directory / "reference.csv"
    features = payload.model.features
    rows = np.random.default_rng(1).standard_normal((20_000, features)).astype(np.float32)
    np.savetxt(file, rows, "%.9g", ",", header=",".join(f"f{i}" for i in range(features)), comments="")
    name = payload.model.name
    call("models", "publish", name, str(payload.model_file), "--registry", str(registry))
    call("monitor", "profile", str(file), "--model", f"{name}@1", "--registry", str(registry))
    command = [str(registry) if part == str(rig.registry(payload)) else part for part in off.command]
    at = command.index("--control-port")
    command[at + 1] = str(free_port())
    return replace(off, name=ON, command=command)


def call(*arguments: str) -> None:
    """One command of the tree under test."""
    subprocess.run(
        [sys.executable, "-m", "fastserve.cli", *arguments], check=True, cwd=ROOT, stdout=subprocess.DEVNULL
    )


if __name__ == "__main__":
    typer.run(main)
