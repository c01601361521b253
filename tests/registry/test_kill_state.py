"""`kill -9` at every write, sync and rename of every kind of change: the old state or the new, never in between."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve.registry import Registry
from tests.registry.conftest import die_at, replay, versions

Change = Callable[[Registry], object]

CHANGES: dict[str, Change] = {
    "alias": lambda registry: registry.set_alias("m", "champion", 3),
    "new alias": lambda registry: registry.set_alias("m", "challenger", 3),
    "unalias": lambda registry: registry.remove_alias("m", "champion"),
    "rollback": lambda registry: registry.rollback("m", "champion"),
    "archive": lambda registry: registry.archive("m", 3, True),
    "unarchive": lambda registry: registry.archive("m", 4, False),
    "tag": lambda registry: registry.tag("m", 3, "stage", "prod"),
    "untag": lambda registry: registry.tag("m", 2, "stage", None),
    "unload": lambda registry: registry.set_loaded("m", False),
    "record": lambda registry: registry.record("m", "withdraw", version=3, reason="it fails"),
}


def prepare(path: Path) -> Registry:
    """A registry in which each of the changes changes something."""
    registry = fresh(path)
    registry.set_alias("m", "champion", 1)
    registry.set_alias("m", "champion", 2)
    registry.archive("m", 4, True)
    registry.tag("m", 2, "stage", "prod")
    return registry


def fresh(path: Path) -> Registry:
    return versions(Registry(path), 1, 2, 3, 4)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("begin", [fresh, prepare])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_killed_change(tmp_path: Path, begin: Callable[[Path], Registry], kind: str) -> None:
    if begin is fresh and kind in ("unalias", "rollback", "unarchive", "untag"):
        begin = prepare  # without a log there is nothing to take back
    change = CHANGES[kind]
    done = begin(tmp_path / "done")
    old = done.state("m")
    change(done)
    new = done.state("m")
    assert (new == old) == (kind == "record")
    outcomes = []
    for moment in range(1, 100):
        registry = begin(tmp_path / str(moment))
        count = len(registry.audit("m"))
        if not die_at(lambda: change(registry), moment):  # noqa: B023
            break
        found = registry.state("m")
        outcomes.append(found == new)
        assert found in (old, new)
        assert registry.check_audit("m") == []
        lines = registry.audit("m")
        assert replay(lines) == found
        assert len(lines) in (count, count + 1)
        assert kind == "record" or (len(lines) > count) == (found == new)
        # Whoever comes next is not in the way of what is left.
        registry.tag("m", 1, "after", "all")
        assert registry.state("m").tags[1] == {"after": "all"}
        assert registry.check_audit("m") == []
        lines = registry.audit("m")
        assert replay(lines) == registry.state("m")
        assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    else:
        pytest.fail("the change never came to its end")
    assert len(outcomes) >= 7
    assert kind == "record" or (True in outcomes and False in outcomes)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("first", [2, 4, 8])  # the line is written, the line is synced, its change is made
def test_a_killed_writer_after_a_killed_writer(tmp_path: Path, first: int) -> None:
    for moment in range(1, 100):
        registry = prepare(tmp_path / str(moment))
        assert die_at(lambda: CHANGES["alias"](registry), first)  # noqa: B023
        found = registry.state("m")
        if not die_at(lambda: CHANGES["tag"](registry), moment):  # noqa: B023
            break
        assert registry.state("m").aliases == found.aliases
        assert registry.check_audit("m") == []
        assert replay(registry.audit("m")) == registry.state("m")
        registry.set_loaded("m", False)
        assert registry.check_audit("m") == []
        assert replay(registry.audit("m")) == registry.state("m")
    else:
        pytest.fail("the change never came to its end")
    assert moment > 8
