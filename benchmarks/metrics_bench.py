"""How long the control plane takes for one page of `/metrics`, beside prometheus_client's own writer.

`taskset -c 1 python -m benchmarks.metrics_bench`: 8 workers, 20 models, 32 features each with all statistics,
three phases; compressed as Prometheus asks for it. Exit code 1 when the figure is missed.
"""

import argparse
import os
import random
import sys
import time
from statistics import median

from benchmarks.serving.machine import describe
from fastserve.controlplane.fleet import Fleet, VersionTotals, WorkerNow
from fastserve.controlplane.metrics import PHASES, STATISTICS, render
from fastserve.controlplane.options import ControlOptions
from fastserve.frontends.http.compression import compress
from fastserve.monitoring.comparing import FeatureComparison, Side
from fastserve.monitoring.snapshot import HistogramDelta, ProcessFigures, VersionNow
from tests.oracle import metrics_twin

WORKERS, MODELS, FEATURES = 8, 20, 32
RENDERS, LIMIT_MS = 50, 50.0
SEED = 20130101


def compared(number: int, dice: random.Random) -> FeatureComparison:
    """A feature of 16 bins with every statistic."""
    side = Side(rows=10_000, missing=dice.randrange(500), counts=(555,) * 18, outside=dice.randrange(900))
    return FeatureComparison(
        tensor="x",
        role="input",
        feature=f"feature_{number}",
        kind="number",
        edges=tuple(float(edge) for edge in range(17)),
        reference=side,
        live=side,
        distances={name: dice.random() for name in STATISTICS},
        phi=1.0,
    )


def fleet() -> Fleet:
    """Everything that the figure names."""
    dice, made = random.Random(SEED), Fleet()
    versions = [(f"model_{number}", 1 + number % 3) for number in range(MODELS)]
    for version in versions:
        histograms = {
            name: HistogramDelta(buckets={b: dice.randrange(10**6) for b in range(40, 160)}, total=10**15)
            for name in (*PHASES, "batch_rows")
        }
        codes = {"200": 10**7, "400": 12, "429": 5, "503": 1}
        made.totals[version] = VersionTotals(codes, histograms, 10**8)
        made.drift[version] = [compared(number, dice) for number in range(FEATURES)]
    for place in range(WORKERS):
        now = [VersionNow(model=model, version=one, state="READY", queue_rows=3) for model, one in versions]
        process = ProcessFigures(pid=100 + place, resident_bytes=2**28, cpu_s=1.5, open_fds=30, threads=4)
        made.workers["host", place] = WorkerNow("0" * 32, 0.0, process, now)
    return made


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    made, options = fleet(), ControlOptions()
    ours, theirs = [], []
    for _ in range(RENDERS):
        began_s = time.perf_counter()
        page = render(made, options)
        packed = compress(page, "gzip")
        middle_s = time.perf_counter()
        metrics_twin.page(made)
        theirs.append((time.perf_counter() - middle_s) * 1e3)
        ours.append((middle_s - began_s) * 1e3)
    reached = median(ours) <= LIMIT_MS
    print(*describe(), sep="\n")
    print(f"{page.count(b'{')} samples with labels, {len(page)} bytes, {len(packed)} with gzip")
    print(f"median of {RENDERS}, in turn")
    print(f"the tests' twin by prometheus_client alone: {median(theirs):.1f} ms ({min(theirs):.1f} at best)")
    print(f"render and gzip: {median(ours):.1f} ms ({min(ours):.1f} at best)", end="; ")
    print(f"{LIMIT_MS:.0f} allowed", end="; ")
    print("reached" if reached else "MISSED")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
