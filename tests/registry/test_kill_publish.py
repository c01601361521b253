"""`kill -9` at every write, sync and rename of publishing and collecting: whole versions only, no number twice."""

import os
import shutil
from pathlib import Path

import pytest

from fastserve.registry import Registry, files
from tests import models
from tests.registry.conftest import die_at, glance

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

MOMENTS = range(1, 200)
LEFTOVERS = (".staging-", ".tmp-", ".trash-")
KNOWN = {".lock", ".audit-head", "audit.jsonl", "aliases.json", "desired.json", "tags.json"}


def leftovers(registry: Registry) -> list[str]:
    return sorted(name for name in os.listdir(registry.path / "m") if name.startswith(LEFTOVERS))


def check_sound(registry: Registry) -> None:
    """What is there is whole, the log is sound, and no alias points to nothing."""
    versions = registry.versions("m")
    for version in versions:
        registry.verify("m", version)
    assert registry.check_audit("m") == []
    assert set(registry.state("m").aliases.values()) <= set(versions)
    said = [line.details["version"] for line in registry.audit("m") if line.event == "publish"]
    assert len(said) == len(set(said))
    assert set(versions) <= set(said)


def check_goes_on(registry: Registry, file: Path, used: int) -> None:
    """The next one publishes under a new number, and the collector leaves nothing lying about."""
    used = max([used, *registry.versions("m")])
    assert registry.publish("m", file, inspect=glance) == used + 1
    check_sound(registry)
    for _ in registry.gc(1):
        pass
    assert leftovers(registry) == []
    check_sound(registry)
    versions = registry.versions("m")
    assert set(os.listdir(registry.path / "m")) <= KNOWN | {str(version) for version in versions}
    shutil.rmtree(registry.path / "m" / str(used + 1))
    assert registry.publish("m", file, inspect=glance) == used + 2


@pytest.fixture
def large(tmp_path: Path) -> Path:
    data, raw = models.external_data("weights.bin")
    source = tmp_path / "source"
    source.mkdir()
    (source / "large.onnx").write_bytes(data)
    (source / "weights.bin").write_bytes(raw)
    return source / "large.onnx"


@pytest.fixture
def before(tmp_path: Path, onnx_file: Path) -> Path:
    """A registry with three versions and an alias, to be copied."""
    registry = Registry(tmp_path / "before")
    for _ in range(3):
        registry.publish("m", onnx_file, inspect=glance)
    registry.set_alias("m", "champion", 2)
    return registry.path


def test_the_first_publish_of_a_model(tmp_path: Path, onnx_file: Path) -> None:
    names, published = [], []
    for moment in MOMENTS:
        registry = Registry(tmp_path / str(moment))
        name = die_at(lambda: registry.publish("m", onnx_file, inspect=glance), moment)  # noqa: B023
        if not name:
            break
        names.append(name)
        versions = registry.versions("m")
        assert versions in ([], [1])
        assert registry.models() == (["m"] if versions else [])
        published.append(bool(versions))
        check_sound(registry)
        check_goes_on(registry, onnx_file, 0)
    assert published == sorted(published)  # once it is visible it stays so
    assert names[published.index(True)] == ".staging-: renamed"
    assert len(names) >= 15


def test_a_first_publish_that_nobody_tries_again(tmp_path: Path, onnx_file: Path) -> None:
    """The collector alone cleans up, and is killed as well."""
    for moment in MOMENTS:
        registry = Registry(tmp_path / str(moment))
        if not die_at(lambda: registry.publish("m", onnx_file, inspect=glance), moment):  # noqa: B023
            break
        versions = registry.versions("m")
        die_at(lambda: registry.gc(1), 1 + moment % 8)  # noqa: B023
        check_sound(registry)
        registry.gc(1)
        assert leftovers(registry) == []
        assert registry.gc(1) == []
        assert registry.versions("m") == versions
        check_sound(registry)
    assert moment > 15


def test_a_later_publish_with_alias_and_external_data(
    tmp_path: Path, before: Path, large: Path, onnx_file: Path
) -> None:
    names, published, aliased = [], [], []
    for moment in MOMENTS:
        registry = Registry(shutil.copytree(before, tmp_path / str(moment)))

        def change(registry: Registry = registry) -> None:
            registry.publish("m", large, inspect=glance, alias="champion")

        name = die_at(change, moment)
        if not name:
            break
        names.append(name)
        versions = registry.versions("m")
        assert versions in ([1, 2, 3], [1, 2, 3, 4])
        published.append(4 in versions)
        aliases = registry.state("m").aliases
        assert aliases in ({"champion": 2}, {"champion": 4})
        aliased.append(aliases["champion"] == 4)
        check_sound(registry)
        check_goes_on(registry, onnx_file, 3)
        assert registry.state("m").aliases == aliases
    assert published == sorted(published)
    assert aliased == sorted(aliased)
    assert names[published.index(True)] == ".staging-: renamed"
    assert names[aliased.index(True)] == "aliases.json: renamed"
    assert "weights.bin: written" in names
    assert len(names) >= 25


def test_a_publisher_after_a_killed_publisher(tmp_path: Path, before: Path, onnx_file: Path) -> None:
    """The second is killed while it repairs what the first has left: its line, its version, its head."""
    names: list[str] = []
    files.on_step = names.append
    try:
        Registry(shutil.copytree(before, tmp_path / "counting")).publish("m", onnx_file, inspect=glance)
    finally:
        files.on_step = None
    for first in (
        "audit.jsonl: written",
        "audit.jsonl: synced",
        ".staging-: renamed",
        ".audit-head: renamed",
    ):
        for moment in MOMENTS:
            registry = Registry(shutil.copytree(before, tmp_path / f"{first}-{moment}"))

            def change(registry: Registry = registry) -> None:
                registry.publish("m", onnx_file, inspect=glance)

            assert die_at(change, names.index(first) + 1) == first
            known = registry.versions("m")
            if not die_at(change, moment):
                break
            assert set(known) <= set(registry.versions("m")) <= {*known, known[-1] + 1}
            check_sound(registry)
            check_goes_on(registry, onnx_file, known[-1])
        assert moment >= 12


def test_a_killed_collector(tmp_path: Path, before: Path, onnx_file: Path) -> None:
    names, gone = [], []
    for moment in MOMENTS:
        registry = Registry(shutil.copytree(before, tmp_path / str(moment)))
        registry.archive("m", 1, True)
        registry.publish("m", onnx_file, inspect=glance)
        (registry.path / "m/.staging-1-ab").mkdir()
        (registry.path / "m/.staging-1-ab/model.onnx").write_bytes(b"half")
        (registry.path / "m/.tmp-1-ab").write_bytes(b"half")
        name = die_at(lambda: registry.gc(1), moment)  # noqa: B023
        versions = registry.versions("m")
        assert {2, 4} <= set(versions) <= {1, 2, 3, 4}
        gone.append(4 - len(versions))
        check_sound(registry)
        lines = registry.audit("m")
        collected = [line.details["version"] for line in lines if line.event == "gc"]
        assert sorted({1, 2, 3, 4} - set(versions)) == sorted(collected)
        registry.gc(1)
        assert registry.versions("m") == [2, 4]
        assert leftovers(registry) == []
        assert registry.state("m").archived == frozenset()
        assert registry.gc(1) == []
        check_goes_on(registry, onnx_file, 4)
        if not name:
            break
        names.append(name)
    assert gone == sorted(gone)
    assert gone[-1] == 2
    assert names.count(".trash-: renamed") == 2
    assert names.count(".trash-: deleted") == 4
