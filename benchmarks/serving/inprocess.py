"""The model with no server at all: onnxruntime in one pinned process, one thread, fed with ready arrays.

This is the ceiling of any server on that core. The process is kept alive like a server and told over a pipe
what to run, so that it takes its turn like everyone.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Self

import numpy as np
import onnxruntime as ort

from benchmarks.serving import processes
from benchmarks.serving.rivals.fastapi_app import open_session

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
ROOT = Path(__file__).resolve().parents[2]
VARIANTS = 5
"""Different inputs in turn, as the servers get them."""


class InProcess:
    """A pinned process that runs the model for as long as it is told; leaving the `with` block ends it."""

    def __init__(self, model_file: Path, cores: str) -> None:
        self._command = [
            *("taskset", "-c", cores, sys.executable, "-m", "benchmarks.serving.inprocess", str(model_file)),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, batch_rows: int, seconds: float) -> tuple[float, float, float]:
        """Run batches of one size for so long: runs a second, p50 and p99 in microseconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(batch_rows, seconds, file=self._process.stdin, flush=True)
        runs_per_s, p50_us, p99_us = json.loads(self._process.stdout.readline())
        return runs_per_s, p50_us, p99_us

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        return processes.rss_bytes(self._process.pid)

    def cpu_s(self) -> float:
        """Processor time used so far."""
        return processes.cpu_s(self._process.pid)

    def best_batch(self, seconds: float) -> int:
        """The batch size with the most rows a second, each tried for `seconds`."""
        return max(BATCHES, key=lambda rows: self.run(rows, seconds)[0] * rows)


def measure(session: ort.InferenceSession, batch_rows: int, seconds: float) -> tuple[float, float, float]:
    """Call the session back to back; see `InProcess.run`."""
    rng = np.random.default_rng(batch_rows)
    features = session.get_inputs()[0].shape[1]
    feeds = [{"x": rng.standard_normal((batch_rows, features), dtype=np.float32)} for _ in range(VARIANTS)]
    for feed in feeds:
        session.run(None, feed)
    times_ns: list[int] = []
    begin = now = time.perf_counter_ns()
    while now - begin < seconds * 1e9:
        session.run(None, feeds[len(times_ns) % VARIANTS])
        before, now = now, time.perf_counter_ns()
        times_ns.append(now - before)
    ranks = quantiles(times_ns, n=100) if len(times_ns) > 1 else [times_ns[0]] * 99
    return len(times_ns) / (now - begin) * 1e9, median(times_ns) / 1e3, ranks[98] / 1e3


def main() -> None:
    """Answer each line `rows seconds` on stdin with one line of JSON, until stdin ends."""
    session = open_session(sys.argv[1])
    for line in sys.stdin:
        rows, seconds = line.split()
        print(json.dumps(measure(session, int(rows), float(seconds))), flush=True)


if __name__ == "__main__":
    main()
