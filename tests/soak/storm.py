"""Versions change while many connections ask: nothing may fail, and nobody gets what was not wished for.

`python -m tests.soak.storm --swaps 1000`: a server of its own with two workers, 64 connections, swaps one after
another. Each swap publishes a version and makes it champion (`publish`), or moves the champion between versions
that are loaded (`alias`). Exit code 1 when a limit is broken.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from fastserve.registry import Registry
from tests import models
from tests.processes import children, rss_bytes
from tests.registries import publish
from tests.servers import Server, running
from tests.soak.client import SLOT_S

MODEL = "storm"
GRACE_S = 1.0
"""All workers answer with a new champion within this."""
P99_RATIO = 2.0
RSS_RATIO = 1.10
RSS_FROM_SWAP = 50
_KEPT = 12


@dataclass
class Storm:
    """What happened, with the times at which each version was wished for."""

    swaps: int
    wishes: list[tuple[float, int]] = field(default_factory=list)
    rss_early: int = 0
    rss_late: int = 0
    seen: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """What must not have happened."""
        found = [f"{self.seen['failed']} requests failed: {self.seen['errors'][:3]}"] * bool(
            self.seen["failed"]
        )
        for version, slot, count in self.seen["slots"]:
            if not self._was_wished(version, slot * SLOT_S):
                found.append(f"{count} answers of version {version} when it was not wished for")
        for version, factor in self.seen["factors"].items():
            if float(version) != factor:
                found.append(f"version {version} answered as version {factor:.0f}")
        return found

    def _was_wished(self, version: int, sent_s: float) -> bool:
        """Some time between a second before the request and its answer."""
        for (since_s, wished), (until_s, _) in zip(
            self.wishes, [*self.wishes[1:], (float("inf"), 0)], strict=True
        ):
            if wished == version and since_s <= sent_s + SLOT_S + GRACE_S and sent_s <= until_s + GRACE_S:
                return True
        return False

    def follow_s(self) -> list[float]:
        """For each swap, how long after it the last request was sent that an older champion answered."""
        delays = []
        for (at_s, version), (until_s, _) in zip(self.wishes[1:], [*self.wishes[2:], (9e9, 0)], strict=True):
            late = [
                slot * SLOT_S - at_s
                for answered, slot, _ in self.seen["slots"]
                if answered != version and at_s <= slot * SLOT_S < min(until_s, at_s + 5 * GRACE_S)
            ]
            delays.append(max(late, default=0.0))
        return delays

    def p99_us(self, phase: str) -> float:
        """Of one phase."""
        return float(self.seen["phases"][phase]["p99_us"])


def run(
    directory: Path, swaps: int, mode: str, connections: int, quiet_s: float, pause_s: float, workers: int = 2
) -> Storm:
    """Start a server, ask without pause, swap."""
    registry = Registry(directory / "registry")
    storm = Storm(swaps)
    for _ in range(4):
        _publish(registry)
    registry.set_alias(MODEL, "champion", 4)
    config = {"server": {"workers": workers}, "lifecycle": {"versions": 4}}
    with running(registry.path, directory, config) as server, _Client(server, connections) as client:
        storm.wishes.append((time.monotonic(), 4))
        time.sleep(1.0)
        client.phase("before")
        time.sleep(quiet_s)
        client.phase("swaps")
        for number in range(1, swaps + 1):
            _swap(storm, registry, mode)
            _await_ready(server, storm.wishes[-1][1])
            time.sleep(pause_s)
            if number == min(RSS_FROM_SWAP, swaps):
                storm.rss_early = _rss_bytes(server)
        storm.rss_late = _rss_bytes(server)
        client.phase("after")
        time.sleep(quiet_s)
        storm.seen = client.stop()
    assert registry.check_audit(MODEL) == []
    return storm


def _publish(registry: Registry) -> int:
    """Publish a model that multiplies by its own version's number."""
    number = max(registry.versions(MODEL), default=0) + 1 if (registry.path / MODEL).is_dir() else 1
    assert publish(registry, MODEL, models.scaled.__wrapped__(float(number))) == number
    return number


def _swap(storm: Storm, registry: Registry, mode: str) -> None:
    now = storm.wishes[-1][1]
    if mode == "publish":
        wanted = _publish(registry)
        registry.gc(_KEPT, MODEL, dry_run=False)
    else:
        versions = registry.versions(MODEL)[-3:]
        wanted = versions[(versions.index(now) + 1) % len(versions)]
    registry.set_alias(MODEL, "champion", wanted)
    storm.wishes.append((time.monotonic(), wanted))


def _await_ready(server: Server, version: int) -> None:
    """Wait until a worker answers with the version: swaps come one after another, not one over another."""
    give_up_s = time.monotonic() + 30
    ask = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.0, 2.0, 3.0]}]}
    while time.monotonic() < give_up_s:
        answer = server.request("POST", f"/v2/models/{MODEL}/infer", ask)
        assert answer.status == 200, answer.body
        if answer.json()["model_version"] == str(version):
            return
        time.sleep(0.01)
    raise AssertionError(f"version {version} did not come up:\n{server.log.read_text()[-2000:]}")


def _rss_bytes(server: Server) -> int:
    """Of the server and all processes below it."""
    total, pending = 0, [server.process.pid]
    while pending:
        pid = pending.pop()
        with suppress(OSError):
            pending += children(pid)
            total += rss_bytes(pid)
    return total


class _Client:
    """The process that asks."""

    def __init__(self, server: Server, connections: int) -> None:
        self._command = [sys.executable, "-m", "tests.soak.client", str(server.port), MODEL, str(connections)]

    def __enter__(self) -> "_Client":
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "asking\n"
        return self

    def phase(self, name: str) -> None:
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)

    def stop(self) -> dict[str, Any]:
        out, _ = self._process.communicate(timeout=60)
        return dict(json.loads(out))

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


def verdict(storm: Storm) -> tuple[list[list[str]], bool]:
    """Lines of (what, measured, limit), and whether all limits hold."""
    phases, problems = storm.seen["phases"], storm.problems()
    quiet_us = min(storm.p99_us("before"), storm.p99_us("after"))
    ratio, delays = storm.p99_us("swaps") / quiet_us, storm.follow_s()
    rss = storm.rss_late / max(storm.rss_early, 1)
    answers = sum(int(phase["answers"]) for phase in phases.values())
    lines = [
        ["answers", f"{answers:,}", ""],
        ["failed, dropped or wrong", str(len(problems)), "0"],
        ["p99 without / during swaps, ms", f"{quiet_us / 1e3:.2f} / {storm.p99_us('swaps') / 1e3:.2f}", ""],
        ["p99 during ÷ without", f"{ratio:.2f}", f"≤ {P99_RATIO:g}"],
        ["slowest answer during swaps, ms", f"{phases['swaps']['max_us'] / 1e3:.1f}", ""],
        [f"RSS ÷ RSS after {RSS_FROM_SWAP} swaps", f"{rss:.3f}", f"≤ {RSS_RATIO:g}"],
        ["last old answer after a swap, s: median", f"{median(delays):.3f}", ""],
        ["last old answer after a swap, s: slowest", f"{max(delays):.3f}", f"≤ {GRACE_S:g}"],
    ]
    good = not problems and ratio <= P99_RATIO and rss <= RSS_RATIO and max(delays) <= GRACE_S
    return lines, good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--swaps", type=int, default=1_000)
    parser.add_argument("--mode", choices=("publish", "alias"), default="publish")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quiet-s", type=float, default=15.0, help="time without swaps, before and after")
    parser.add_argument("--pause-s", type=float, default=0.1, help="between two swaps")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastserve-storm-") as directory:
        started_s = time.monotonic()
        storm = run(
            Path(directory),
            options.swaps,
            options.mode,
            options.connections,
            options.quiet_s,
            options.pause_s,
            options.workers,
        )
    lines, good = verdict(storm)
    print(f"{options.swaps} swaps ({options.mode}) in {time.monotonic() - started_s:.0f} s")
    for what, measured, limit in lines:
        print(f"  {what:<42} {measured:>18}  {limit}")
    for problem in storm.problems()[:10]:
        print(f"  ! {problem}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
