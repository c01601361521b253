"""How long a server takes from its start until a large registry is served, and how long a look at one takes.

`python -m benchmarks.registry_bench`: 200 models of 3 versions each, and 10,000 versions on disk, all
published as by `fastserve models publish`. Exit code 1 when a figure is missed.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from statistics import median

from benchmarks.serving.machine import describe
from fastserve.batching import BatchingOptions
from fastserve.lifecycle import LifecycleOptions, Loader, Scanner
from fastserve.lifecycle.probe import vouch
from fastserve.registry import Registry
from fastserve.runtime import RuntimeOptions
from tests import models
from tests.registries import publish
from tests.servers import running

START_RATIO = 1.2
_READY = re.compile(r"^(\S+ \S+) \w+ +fastserve\.app: ready:", re.MULTILINE)
_LOADED = re.compile(r"is warm on \w+ after ([0-9.]+) ms")
SCAN_S = 1.0


def fill(directory: Path, names: int, versions: int) -> Registry:
    """Publish small models, all different."""
    registry = Registry(directory / "registry")
    for number in range(names * versions):
        name = f"m{number % names:03}"
        version = publish(registry, name, models.mlp.__wrapped__(32, 64, 64, 2, seed=number))
        vouch(registry.describe(name, version), registry.path)
    return registry


def versions_of(registry: Registry) -> int:
    """Versions of all models."""
    return sum(len(registry.versions(name)) for name in registry.models())


def load_all(registry: Registry) -> float:
    """Load every version one after another in this process, on one core, as a worker does; seconds."""
    loader = Loader(registry, RuntimeOptions(), BatchingOptions(), LifecycleOptions(probe=False), threads=1)
    wanted = [(name, version) for name in registry.models() for version in registry.versions(name)]
    kept, total_s = [], 0.0
    for name, version in wanted:
        started_s = time.perf_counter()
        kept.append(loader.load(name, version))
        total_s += time.perf_counter() - started_s
    for loaded in kept:
        loader.free(loaded)
    return total_s


def start(registry: Registry, directory: Path, workers: int) -> tuple[float, float]:
    """Start a server; seconds until all its workers are ready, and how many of them loading everything took.

    By the server's log: on one core, whoever asks over HTTP takes time from whoever loads.
    """
    started_s = time.time()
    with running(registry.path, directory, {"server": {"workers": workers}}, ready=False) as server:
        while len(ready := _READY.findall(text := server.log.read_text())) < workers:
            time.sleep(0.25)
        assert server.request("GET", "/v2/health/ready").status == 200
    ready_s = max(datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp() for at in ready)
    loads_ms = [float(ms) for ms in _LOADED.findall(text)]
    times = len(loads_ms) / versions_of(registry)  # once for all workers, or once in each
    return ready_s - started_s, sum(loads_ms) / 1e3 / times


@contextmanager
def one_core() -> Iterator[None]:
    """Pin this process, and what it starts, to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def starting(directory: Path, names: int, versions: int, repeat: int) -> bool:
    """Print start to ready against the sum of load times, for one worker and for one a core."""
    registry = fill(directory, names, versions)
    cores = len(os.sched_getaffinity(0))
    print(f"{names} models × {versions} versions; seconds, medians of {repeat}")
    good = True
    for workers in sorted({1, cores}):
        ready_s, loads_s, alone_s = [], [], []
        for _ in range(repeat):
            with one_core():
                alone_s.append(load_all(registry))
            with one_core() if workers == 1 else nullcontext():
                took_s, logged_s = start(registry, directory, workers)
            ready_s.append(took_s)
            loads_s.append(logged_s)
        # Each of n workers loads everything, on n cores: the sum of load times on the cores there are.
        ratio = median(r / s for r, s in zip(ready_s, loads_s, strict=True))
        alone = median(r / s for r, s in zip(ready_s, alone_s, strict=True))
        good &= ratio <= START_RATIO
        print(
            f"  {workers} worker(s) on {workers} core(s): ready after {median(ready_s):.2f}\n"
            f"    all loads once {median(loads_s):.2f}, ratio {ratio:.2f} (≤ {START_RATIO:g})\n"
            f"    the same loads in a process alone on the machine {median(alone_s):.2f}, ratio {alone:.2f}"
        )
    return good


def scanning(directory: Path, names: int, versions: int) -> bool:
    """Print how long a first and a second look at many versions take."""
    registry = Registry(directory / "many")
    for number in range(names):
        first = publish(registry, f"m{number:03}", models.scaled())
        source = registry.path / f"m{number:03}" / str(first)
        for version in range(first + 1, first + versions):
            shutil.copytree(source, source.parent / str(version), copy_function=os.link)
    scanner = Scanner(registry, LifecycleOptions())
    took_s = []
    for _ in range(2):
        started_s = time.perf_counter()
        scanner.scan()
        took_s.append(time.perf_counter() - started_s)
    print(
        f"{names} models × {versions} versions on disk: first look {took_s[0]:.3f} s, "
        f"the next {took_s[1]:.3f} s (≤ {SCAN_S:g})"
    )
    return max(took_s) <= SCAN_S


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--versions", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastserve-registry-") as name:
        directory = Path(name)
        good = scanning(directory, 100, 100)
        (directory / "one").mkdir()
        good &= scanning(directory / "one", 1, 10_000)
        good &= starting(directory, options.models, options.versions, options.repeat)
    for line in describe():
        print(line)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
