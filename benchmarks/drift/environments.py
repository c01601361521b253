"""A scratch environment for each rival under .benchmarks/rivals, and processes that answer from inside it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.drift.contestants import Tool

ROOT = Path(__file__).resolve().parents[2]
RIVALS = ROOT / ".benchmarks" / "rivals"
INSTALL_S = 900.0
ANSWER_S = 400.0
SAY_EVERY_S = 20.0
FREE_GB = 12
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
NOWHERE = "http://127.0.0.1:9"
QUIET = {
    **dict.fromkeys(THREADS, "1"),
    # Nobody is told: what each tool reads to stay silent, and a proxy that is not there for the rest.
    "DO_NOT_TRACK": "1",
    "NML_DISABLE_USAGE_LOGGING": "1",
    "WHYLOGS_NO_ANALYTICS": "True",
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE),
    "PYTHONNOUSERSITE": "1",
}

Say = Callable[[str], None]


class Unavailable(Exception):
    """A tool that cannot be measured here; the text is the reason."""


def python_of(tool: Tool) -> Path:
    """Give the interpreter that has the tool; Unavailable when there is none yet."""
    if not tool.requirements:
        return Path(sys.executable)
    home = RIVALS / tool.distribution
    if not _is_ready(tool):
        raise Unavailable("not installed yet: run with --install")
    return home / "bin" / "python"


def install(tool: Tool, say: Say) -> None:
    """Make the tool's environment unless it is there; Unavailable with pip's own reason."""
    if not tool.requirements or _is_ready(tool):
        return
    home = RIVALS / tool.distribution
    RIVALS.mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(RIVALS).free / 1e9
    if free_gb < FREE_GB:
        raise Unavailable(f"not installed: {free_gb:.0f} GB of disk are free, {FREE_GB} are asked for")
    log = RIVALS / f"{tool.distribution}.log"
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    steps = [
        [sys.executable, "-m", "venv", str(home)],
        [*pip, "--prefer-binary", "--progress-bar", "off", *tool.requirements],
    ]
    with log.open("w") as output:
        for step in steps:
            code = _run(step, output.fileno(), lambda text: say(f"{tool.name}: {text}"))
            if code != 0:
                reason = "takes too long" if code is None else _reason(log.read_text())
                raise Unavailable(f"does not install here: {reason}")
    _mark(tool).write_text(_wanted(tool))


def ask(tool: Tool, core: int, question: str, contestant: str = "") -> Any:
    """Give what a process of the tool's environment answers; Unavailable when it does not."""
    inside = ["-W", "ignore", "-m", "benchmarks.drift.child", question, tool.module, contestant]
    command = [*pinned(core), str(python_of(tool)), *inside]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_S, env=os.environ | QUIET, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"stopped after {ANSWER_S:.0f} s") from None
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    last = lines[-1] if lines else f"exit code {done.returncode}"
    if done.returncode == 0:
        return json.loads(last)
    imports = last.startswith(("ImportError", "ModuleNotFoundError", "AttributeError"))
    raise Unavailable(f"{'does not import' if imports else 'fails'}: {last}")


def pinned(core: int) -> list[str]:
    """Give what to put before a command so that it stays on one core; nothing where there is no taskset."""
    taskset = shutil.which("taskset")
    return [taskset, "--cpu-list", str(core)] if taskset else []


def _run(command: list[str], output: int, say: Say) -> int | None:
    """Run to the end, or to the limit: then None."""
    say(" ".join(command[1:]))
    began_s = time.monotonic()
    process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    while True:
        try:
            return process.wait(SAY_EVERY_S)
        except subprocess.TimeoutExpired:
            passed_s = time.monotonic() - began_s
            say(f"{passed_s:.0f} s of at most {INSTALL_S:.0f}")
        if passed_s > INSTALL_S:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def _reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return (errors or lines or ["pip said nothing"])[-1][:200]


def _wanted(tool: Tool) -> str:
    return "\n".join(tool.requirements) + "\n"


def _mark(tool: Tool) -> Path:
    return RIVALS / tool.distribution / "requirements.txt"


def _is_ready(tool: Tool) -> bool:
    mark = _mark(tool)
    return mark.exists() and mark.read_text() == _wanted(tool)
