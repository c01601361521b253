"""What is shipped: the source archive holds what a build needs, and what it builds works outside the tree."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!\[; ]", requirement, maxsplit=1)[0].lower() for requirement in requirements}


def test_no_onnxruntime_is_a_hard_dependency() -> None:
    extras = PROJECT["optional-dependencies"]
    assert not {name for name in names(PROJECT["dependencies"]) if name.startswith("onnx")}
    assert names(extras["cpu"]) == {"onnxruntime"}
    assert names(extras["gpu"]) == {"onnxruntime-gpu"}
    assert not names(extras["dev"] + extras["demo"]) & {"onnxruntime", "onnxruntime-gpu"}


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_a_clean_checkout_installs_and_works_elsewhere(tmp_path: Path) -> None:
    archive = build_sdist(checkout(tmp_path / "checkout"), tmp_path)
    target = tmp_path / "installed"
    options = ["--no-build-isolation", "--no-deps", "--no-compile", "--quiet", "--target", str(target)]
    call([sys.executable, "-m", "pip", "install", *options, str(archive)], tmp_path)

    shipped = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert {
        "fastserve/py.typed",
        "fastserve_core/py.typed",
        "fastserve_core/batching.pyi",
        "fastserve_core/wire/decode.pyi",
        "bin/fastserve",
    } <= shipped
    assert {name.removeprefix("fastserve/") for name in shipped if "/static/" in name} == {
        str(path.relative_to(ROOT / "fastserve"))
        for path in (ROOT / "fastserve/frontends/http/static").iterdir()
        if path.is_file() and path.suffix != ".pyc"
    }
    assert not [name for name in shipped if name.endswith((".pyx", ".hpp", ".cpp"))]
    assert {name.split("/")[0] for name in shipped if not name.startswith("fastserve-")} == {
        "bin",
        "fastserve",
        "fastserve_core",
    }

    script = (
        "import fastserve, fastserve.app, fastserve.cli, fastserve_core.batching\n"
        "from fastserve_core.wire import decode, encode, head\n"
        "for module in (fastserve, fastserve_core.batching, decode, encode, head): print(module.__file__)\n"
        "print(decode.decode_numbers(b'[1,2.5]', 'float32').tolist())\n"
    )
    lines = call([sys.executable, "-c", script], tmp_path, PYTHONPATH=str(target)).splitlines()
    assert all(line.startswith(str(target)) for line in lines[:-1]), lines
    assert lines[-1] == "[1.0, 2.5]"
    command = [sys.executable, str(target / "bin/fastserve"), "--version"]
    assert call(command, tmp_path, PYTHONPATH=str(target)).startswith("fastserve ")


def checkout(folder: Path) -> Path:
    """What git would give: every file that is tracked or would be, nothing that was built."""
    listed = call(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], ROOT)
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name)
    return folder


def build_sdist(folder: Path, into: Path) -> Path:
    """The source archive that the checkout makes."""
    script = f"from setuptools import build_meta; print(build_meta.build_sdist({str(into)!r}))"
    name = call([sys.executable, "-c", script], folder).splitlines()[-1]
    with tarfile.open(into / name) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers()}
    missing = {str(path.relative_to(folder)) for path in (folder / "fastserve_core").rglob("*.hpp")} - held
    assert not missing, "MANIFEST.in forgets headers"
    return into / name


def call(command: list[str], folder: Path, **extra: str) -> str:
    """Run a command that must succeed; its standard output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | extra
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout
