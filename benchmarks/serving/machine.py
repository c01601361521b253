"""Where and with what a benchmark ran: the cores to pin to; machine, versions and command in words."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fastserve import __version__

PACKAGES = (
    "onnxruntime",
    "numpy",
    "orjson",
    "uvicorn",
    "uvloop",
    "httptools",
    "fastapi",
    "starlette",
)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the server and which the load generator may use, as taskset writes them."""

    server: str
    load: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The two ways cores are shared out: one core for the server, or two (for two workers)."""

    one: Cores
    two: Cores


def layout(server_core: int | None = None, load_core: int | None = None) -> Layout:
    """Share out the cores this process may use; with two only, two workers share theirs with wrk."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise ValueError("the benchmark needs two cores: one for the server, one for the load generator")
    first = cores[0] if server_core is None else server_core
    load = next(core for core in cores[1:] + cores if core != first) if load_core is None else load_core
    spare = [core for core in cores if core not in (first, load)]
    pair = f"{first},{spare[0] if spare else load}"
    return Layout(one=Cores(str(first), str(load)), two=Cores(pair, str(load) if spare else pair))


def describe() -> list[str]:
    """Machine, versions and command, one line each."""
    return [
        hardware(),
        f"versions: Python {platform.python_version()}, "
        + ", ".join(f"{package} {_version(package)}" for package in PACKAGES)
        + f", {_wrk_version()}",
        f"fastserve: {__version__}, commit {commit()}",
        f"command: python -m benchmarks.{Path(sys.argv[0]).stem} {' '.join(sys.argv[1:])}".rstrip(),
    ]


def hardware() -> str:
    """Processor, cores, memory and kernel, in a line."""
    text = Path("/proc/cpuinfo").read_text()
    facts = dict(re.findall(r"^([^\t:]+)\s*: (.*)$", text, re.MULTILINE))
    numbers = f"family {facts.get('cpu family')}, model {facts.get('model')}"
    cpu = f"{facts.get('model name', platform.machine())} ({numbers})"
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"machine: {cpu}, {os.cpu_count()} cores, {memory_gib:.0f} GiB, Linux {platform.release()}"


def commit() -> str:
    """What git calls the tree that is measured; unknown outside of a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _wrk_version() -> str:
    wrk = shutil.which("wrk")
    if wrk is None:
        return "wrk (not installed)"
    run = subprocess.run([wrk, "-v"], capture_output=True, text=True, check=False)
    return (run.stdout + run.stderr).partition("[")[0].strip()
