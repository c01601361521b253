"""The command as a person runs it: a process of its own, with exit code, stdout and stderr."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import scaled

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**extra: str) -> dict[str, str]:
    """The environment of these tests without what it says to fastserve; output wide and plain."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FASTSERVE_")}
    return {**plain, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", **extra}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `fastserve` with arguments in an empty folder."""

    def run(*arguments: object, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "fastserve.cli", *map(str, arguments)],
            cwd=tmp_path,
            env=environment(**extra),
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small ONNX file: `x` FP32 [batch, 3] to `y` = 2x."""
    path = tmp_path / "model.onnx"
    path.write_bytes(scaled())
    return path
