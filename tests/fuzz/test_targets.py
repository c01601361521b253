"""The fuzz targets themselves, compiled as they are and run over their corpus: `make fuzz` finds them sound."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent
ROOT = FUZZ.parents[1]
TARGETS = sorted(FUZZ.glob("*_fuzzer.cpp"))
CORE = ROOT / "fastserve_core"


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which(os.environ.get("CXX", "c++"))
    if found is None:
        pytest.skip("no C++ compiler; set CXX to one")
    return found


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.stem)
def test_a_target_agrees_with_its_corpus(compiler: str, target: Path, tmp_path: Path) -> None:
    binary = tmp_path / "replay"
    options = ["-std=c++17", "-O1", f"-I{CORE}", f"-I{CORE / 'wire'}", "-fsanitize=undefined,address"]
    build = [compiler, str(target), str(FUZZ / "replay.cpp"), "-o", str(binary)]
    made = subprocess.run([*build, *options], capture_output=True, text=True, check=False)
    if "cannot find" in made.stderr:  # a compiler without sanitizers: assertions of the target's own remain
        made = subprocess.run([*build, *options[:-1]], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    corpus = sorted(map(str, (FUZZ / "corpus" / target.stem.removesuffix("_fuzzer")).iterdir()))
    assert len(corpus) > 100
    done = subprocess.run([binary, *corpus], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]


def test_there_are_targets() -> None:
    assert [target.stem for target in TARGETS] == ["decode_fuzzer", "head_fuzzer"]
