"""The load generator: wrk on a core of its own, driven by a script written here, read back as numbers."""

import json
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.payloads import Payload

MARK = "benchmark-result "
ERRORS = ("connect", "read", "write", "status", "timeout")

SCRIPT = """-- Sends the prepared bodies in turn; at the end prints one line of JSON.
local requests, turn = {}, 0

function init(args)
  for index = 1, %(count)d do
    local file = assert(io.open("%(directory)s/body-" .. index, "rb"))
    requests[index] = wrk.format("POST", "%(path)s", {%(headers)s}, file:read("*a"))
    file:close()
  end
end

function request()
  turn = turn %% %(count)d + 1
  return requests[turn]
end

-- wrk takes both times in whole microseconds, so a latency of v stands for v - 0.5 to v + 0.5; the median is
-- placed inside its microsecond, where latencies are few and a microsecond is something.
local function median(latency)
  if #latency > 5000 then return latency:percentile(50) end
  local half, below = 0, 0
  for index = 1, #latency do
    local _, count = latency(index)
    half = half + count / 2
  end
  for index = 1, #latency do
    local value, count = latency(index)
    if below + count >= half then return value - 0.5 + (half - below) / count end
    below = below + count
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\\n%(mark)s{"requests": %%d, "duration_us": %%d, "p50_us": %%.3f, "p99_us": %%.3f, "connect": %%d, ' ..
    '"read": %%d, "write": %%d, "status": %%d, "timeout": %%d}\\n', summary.requests, summary.duration,
    median(latency), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
"""


class LoadError(Exception):
    """wrk is missing, failed, or met answers that were not 2xx."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    seconds: float
    requests_per_s: float
    p50_us: float
    p99_us: float
    busy: float
    """Share of its core that wrk used; near 1 it is wrk that is being measured."""


def find_wrk() -> str:
    """Where wrk is; LoadError says how to get it."""
    found = shutil.which("wrk")
    if found is None:
        raise LoadError("wrk is not installed: it is the Debian package `wrk` (apt-get install wrk).")
    return found


def write_script(payload: Payload, directory: Path) -> Path:
    """Write the bodies and the wrk script of a payload into `directory`; returns the script."""
    directory.mkdir(parents=True, exist_ok=True)
    for index, body in enumerate(payload.bodies, start=1):
        (directory / f"body-{index}").write_bytes(body)
    headers = ", ".join(f'["{name}"] = "{value}"' for name, value in payload.headers.items())
    script = directory / "load.lua"
    facts = {
        "count": len(payload.bodies),
        "directory": directory,
        "path": payload.path,
        "headers": headers,
        "mark": MARK,
    }
    script.write_text(SCRIPT % facts)
    return script


def run_wrk(port: int, script: Path, *, connections: int, seconds: int, cores: str) -> Load:
    """Load `127.0.0.1:port` for whole seconds from `cores`; any error is an exception."""
    command = [
        *("taskset", "-c", cores, find_wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"),
        *("--timeout", "10s", "-s", str(script), f"http://127.0.0.1:{port}"),
    ]
    used_before, begin = _children_cpu_s(), time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    busy = (_children_cpu_s() - used_before) / (time.perf_counter() - begin)
    lines = [line for line in run.stdout.splitlines() if line.startswith(MARK)]
    if run.returncode != 0 or not lines:
        raise LoadError(f"wrk failed ({run.returncode}): {run.stderr.strip() or run.stdout.strip()}")
    return parse(json.loads(lines[0].removeprefix(MARK)), busy)


def parse(result: dict[str, float], busy: float) -> Load:
    """Turn wrk's own numbers into a Load; LoadError names every kind of error it met."""
    errors = {kind: result[kind] for kind in ERRORS if result[kind]}
    if errors or not result["requests"]:
        raise LoadError(f"wrk made {result['requests']} requests and met errors: {errors or 'no answers'}")
    return Load(
        requests=int(result["requests"]),
        seconds=result["duration_us"] / 1e6,
        requests_per_s=result["requests"] / result["duration_us"] * 1e6,
        p50_us=result["p50_us"],
        p99_us=result["p99_us"],
        busy=busy,
    )


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
