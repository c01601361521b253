"""The command as a person runs it: a process of its own, with exit code, stdout and stderr.

A process costs up to a second, so what does not need one runs `main` right here, which gives the same three.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fastserve.cli import common, main
from fastserve.registry import Registry
from fastserve.runtime import inspect
from tests.models import scaled

ROOT = Path(__file__).resolve().parents[2]
Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def environment(**extra: str) -> dict[str, str]:
    """The environment of these tests without what it says to fastserve; output wide and plain."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FASTSERVE_")}
    return {**plain, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **extra}


def process(folder: Path, *arguments: object, **extra: str) -> Done:
    """Run `fastserve` with arguments in a folder, as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fastserve.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=60,
    )


def called(folder: Path, *arguments: object, **extra: str) -> Done:
    """Run `fastserve` with arguments in a folder, in this process."""
    out, err = io.StringIO(), io.StringIO()
    given = ["fastserve", *map(str, arguments)]
    code: Any = 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment(**extra), clear=True),
        mock.patch.object(sys, "argv", given),
        mock.patch.dict(common._state, {"debug": False}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as left:
            code = left.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(given, code, out.getvalue(), err.getvalue())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `fastserve` with arguments in an empty folder."""
    return lambda *arguments, **extra: process(tmp_path, *arguments, **extra)


@pytest.fixture
def call(tmp_path: Path) -> Run:
    """Do the same without a process: for the many small mistakes that a person makes."""
    return lambda *arguments, **extra: called(tmp_path, *arguments, **extra)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small ONNX file: `x` FP32 [batch, 3] to `y` = 2x."""
    path = tmp_path / "model.onnx"
    path.write_bytes(scaled())
    return path


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    """The registry `reg` in the folder of the test."""
    return Registry(tmp_path / "reg")


@pytest.fixture
def models(published: Path, tmp_path: Path) -> Run:
    """`fastserve models` on a copy of what a module has `published`, in this process."""
    shutil.copytree(published / "reg", tmp_path / "reg")
    return lambda *arguments: called(tmp_path, "models", *arguments, FASTSERVE_REGISTRY="reg")


@pytest.fixture
def away(tmp_path: Path) -> Run:
    """The same as a process of its own."""
    return lambda *arguments: process(tmp_path, "models", *arguments, FASTSERVE_REGISTRY="reg")


def publish(store: Registry, file: Path, name: str = "double", count: int = 1, **more: Any) -> None:
    """Publish a file some times over, without the command."""
    for _ in range(count):
        store.publish(name, file, inspect=inspect, **more)


def fails(done: Done, code: int, *words: str) -> None:
    """Hold that a command failed as it should: exit code, one clear line, no traceback, nothing on stdout."""
    assert (done.returncode, done.stdout) == (code, ""), (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert "fastserve: unexpected " not in done.stderr
    assert done.stderr.startswith("fastserve: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def tamper(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file behind everybody's back, read-only as it may be."""
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(change(data))


def facts(row: Mapping[str, Any], *keys: str) -> tuple[Any, ...]:
    """Pick some values of a row."""
    return tuple(row[key] for key in keys)
