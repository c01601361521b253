"""Profiles where writers die and meet: the old one or the new, and a log that says which."""

import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from fastserve.registry import Registry
from tests.registry.conftest import die_at, glance
from tests.registry.test_profiles import NEW, OLD, OWN, digest, said

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

MOMENTS = range(1, 100)


@pytest.fixture
def two(registry: Registry, onnx_file: Path) -> Registry:
    """Version 1 has a profile of its own, version 2 has none."""
    registry.publish("m", onnx_file, inspect=glance, profile=OWN)
    registry.publish("m", onnx_file, inspect=glance)
    return registry


@pytest.mark.parametrize("before", [None, OLD, OWN])
def test_a_killed_change(two: Registry, tmp_path: Path, before: bytes | None) -> None:
    version = 1 if before == OWN else 2
    if before == OLD:
        two.add_profile("m", 2, OLD)
    count, names, outcomes = len(said(two)), [], []
    for moment in MOMENTS:
        registry = Registry(shutil.copytree(two.path, tmp_path / str(moment)))
        name = die_at(lambda: registry.add_profile("m", version, NEW, replace=True), moment)  # noqa: B023
        if not name:
            break
        names.append(name)
        found = registry.profile("m", version)
        assert found in (before, NEW)
        outcomes.append(found == NEW)
        assert len(said(registry)) == count + (found == NEW)
        assert registry.check_audit("m") == []
        # Whoever comes next settles it the same way, and nothing is left lying about.
        registry.tag("m", 1, "after", "all")
        assert registry.profile("m", version) == found
        assert len(said(registry)) == count + (found == NEW)
        assert registry.check_audit("m") == []
        assert set(os.listdir(registry.path / "m")) & {"1", "2"} == {"1", "2"}
        registry.gc(9)
        left = registry.path / "m/profiles"
        kept = ["2.json"] if before == OLD else [f"{version}.json"] if found == NEW else []
        assert not left.exists() or os.listdir(left) == kept
        registry.add_profile("m", version, NEW, replace=True)
        assert said(registry)[-1]["sha256"] == digest(NEW)
        assert len(said(registry)) == count + 1
    else:
        pytest.fail("the change never came to its end")
    assert outcomes == sorted(outcomes)
    assert {True, False} == set(outcomes)
    assert {f"{version}.json: {step}" for step in ("opened", "written", "synced", "renamed")} <= set(names)
    assert len(names) >= 10


def test_a_killed_publisher_with_a_profile(registry: Registry, onnx_file: Path, tmp_path: Path) -> None:
    names: list[str] = []
    for moment in MOMENTS:
        registry = Registry(tmp_path / str(moment))
        name = die_at(lambda: registry.publish("m", onnx_file, inspect=glance, profile=OWN), moment)  # noqa: B023
        if not name:
            break
        names.append(name)
        for version in registry.versions("m"):
            registry.verify("m", version)
            assert registry.profile("m", version) == OWN
    else:
        pytest.fail("publishing never came to its end")
    assert "profile.json: synced" in names
    assert names.index("profile.json: synced") < names.index("manifest.json: opened")


def test_a_killed_collector(two: Registry, tmp_path: Path) -> None:
    two.add_profile("m", 1, OLD, replace=True)
    two.add_profile("m", 2, NEW)
    for moment in MOMENTS:
        registry = Registry(shutil.copytree(two.path, tmp_path / str(moment)))
        if not die_at(lambda: registry.gc(1), moment):  # noqa: B023
            break
        if 1 in registry.versions("m"):
            assert registry.profile("m", 1) == OLD
        registry.gc(1)
        assert registry.versions("m") == [2]
        assert os.listdir(registry.path / "m/profiles") == ["2.json"]
        assert registry.check_audit("m") == []
    else:
        pytest.fail("collecting never came to its end")
    assert moment > 8


def add_many(path: Path, letter: str) -> None:
    """Replace again and again; each content is all of one letter."""
    for count in range(1, 26):
        Registry(path).add_profile("m", 2, letter.encode() * count * 1000, replace=True)


def test_writers_at_once(two: Registry) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_many, args=(two.path, letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    seen: set[bytes | None] = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(two.profile("m", 2))
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert all(len(set(found)) == 1 for found in seen if found is not None)
    lines, last = said(two), two.profile("m", 2)
    assert last is not None
    assert len(lines) == 50
    assert [one["replaces"] for one in lines] == [None, *(one["sha256"] for one in lines[:-1])]
    assert lines[-1]["sha256"] == digest(last)
    assert two.check_audit("m") == []
    assert os.listdir(two.path / "m/profiles") == ["2.json"]
