"""Servers with their control planes, and clients that ask them."""

import json
import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fastserve.controlplane.reporting import Report
from fastserve.monitoring import Profile
from fastserve.monitoring.building import Described, build_profile
from fastserve.registry import Registry
from fastserve.types import DataType, TensorSpec
from tests.processes import children
from tests.servers import Server, free_port, running
from tests.waiting import until


def make_profile(shift: float = 0.0) -> Profile:
    """Of the model `scaled`: three numbers in, twice as much out."""
    rows = np.random.default_rng(1).normal(shift, 1, (5_000, 3)).astype(np.float32)
    tensors = [
        Described(TensorSpec("x", DataType.FP32, (-1, 3)), "input", ("a", "b", "c")),
        Described(TensorSpec("y", DataType.FP32, (-1, 3)), "output", ("p", "q", "r")),
    ]
    return build_profile(tensors, lambda: [[rows, 2 * rows]])


class Watched:
    """A server and its control plane."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return bytes(answer.read())

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the series that have these labels; 0 without any, or while nobody answers."""
        try:
            text = self.get("/metrics").decode()
        except OSError:
            return 0.0
        total = 0.0
        for line in text.splitlines():
            found = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(f'{key}="{value}"' in (found[1] or "") for key, value in labels.items()):
                total += float(found[2])
        return total

    def answered(self) -> float:
        return self.metric("fastserve_requests_total", code="200")

    def about(self, what: str) -> str:
        """What the control plane knows of the only version; "?" while nobody answers."""
        try:
            (one,) = json.loads(self.get("/v2/control/models"))["models"]
        except (OSError, ValueError):
            return "?"
        return str(one[what])

    def report(self, model: str = "scaled", version: int | None = None) -> Report:
        which = "" if version is None else f"&version={version}"
        return Report.model_validate_json(self.get(f"/v2/control/models/{model}/report?since=1h{which}"))

    def control_pid(self) -> int:
        """The process that listens on the control port is the one child that is no worker."""
        for pid in children(self.server.process.pid):
            if b"statistics.sock" in Path(f"/proc/{pid}/net/unix").read_bytes() and listens(pid, self.port):
                return pid
        raise AssertionError("no control plane")


def listens(pid: int, port: int) -> bool:
    """Whether a process holds the socket that listens on a port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return bool(inodes & found)


@contextmanager
def watching(
    registry: Registry, tmp: Path, *, workers: int = 1, database: str = "", **settings: Any
) -> Iterator[Watched]:
    """Run a server with its control plane, and short snapshots; no exception may be in its log at the end."""
    port = free_port()
    common = {
        "server": {"workers": workers, "control_port": port},
        "monitoring": {"interval_s": 0.05},
        "control": {"database": database or f"sqlite:///{tmp}/control.db"},
    }
    with running(registry.path, tmp, common | settings) as server:
        watched = Watched(server, port)
        until(lambda: watched.metric("fastserve_workers") == workers)
        yield watched
    assert_quiet(server)


def assert_quiet(server: Server) -> None:
    log = server.log.read_text()
    assert "Traceback" not in log, log


def catch_up(watched: Watched) -> None:
    """Wait until everything that the worker has done so far is counted: its snapshots come in order."""
    before = watched.metric("fastserve_requests_total", code="404")
    assert watched.server.request("POST", "/v2/models/none/infer", {"inputs": []}).status == 404
    until(lambda: watched.metric("fastserve_requests_total", code="404") > before)


def bodies(count: int) -> list[bytes]:
    rows = np.random.default_rng(2).normal(0.3, 1.2, (count, 3)).astype(np.float32)
    return [
        json.dumps(
            {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": row.tolist()}]}
        ).encode()
        for row in rows
    ]


def send_all(server: Server, requests: list[bytes]) -> None:
    for body in requests:
        assert server.request("POST", "/v2/models/scaled/infer", body).status == 200


class Load(threading.Thread):
    """Asks on connections of their own until told to stop; counts what went wrong."""

    def __init__(self, server: Server, model: str = "scaled") -> None:
        super().__init__()
        self.server = server
        self.path = f"/v2/models/{model}/infer"
        self.answered = 0
        self.failed: list[object] = []
        self.stopping = False
        self.start()

    def run(self) -> None:
        (body,) = bodies(1)
        while not self.stopping:
            try:
                status = self.server.request("POST", self.path, body).status
            except OSError as error:
                self.failed.append(error)
                continue
            if status == 200:
                self.answered += 1
            else:
                self.failed.append(status)

    def stop(self) -> None:
        self.stopping = True
        self.join()
