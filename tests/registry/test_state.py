"""Aliases, archive, tags, wishes: what may be changed, what is read, and that the audit log gives the same."""

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve.errors import ModelNotFound, RegistryError, VersionNotFound
from fastserve.registry import ModelState, Registry, changes, files
from tests.registry.conftest import replay, versions


def events(registry: Registry) -> list[tuple[str, dict[str, Any]]]:
    return [(line.event, dict(line.details)) for line in registry.audit("m")]


def test_a_model_nothing_was_done_to(four: Registry) -> None:
    assert four.state("m") == ModelState()
    assert four.audit("m") == []
    assert four.check_audit("m") == []
    assert [path.name for path in (four.path / "m").iterdir() if not path.is_dir()] == []


def test_an_alias_comes_moves_and_goes(four: Registry) -> None:
    four.set_alias("m", "champion", 3)
    four.set_alias("m", "champion", 4)
    four.set_alias("m", "challenger", 1)
    assert four.state("m").aliases == {"champion": 4, "challenger": 1}
    assert json.loads((four.path / "m/aliases.json").read_text()) == {"champion": 4, "challenger": 1}
    four.remove_alias("m", "challenger")
    assert four.state("m").aliases == {"champion": 4}
    assert events(four) == [
        ("alias", {"alias": "champion", "before": None, "version": 3}),
        ("alias", {"alias": "champion", "before": 3, "version": 4}),
        ("alias", {"alias": "challenger", "before": None, "version": 1}),
        ("unalias", {"alias": "challenger", "before": 1}),
    ]


def test_what_changes_nothing_leaves_no_line(four: Registry) -> None:
    four.set_alias("m", "champion", 3)
    four.archive("m", 1, True)
    four.set_loaded("m", False)
    four.tag("m", 2, "stage", "prod")
    before = four.audit("m")
    four.set_alias("m", "champion", 3)
    four.archive("m", 1, True)
    four.archive("m", 2, False)
    four.set_loaded("m", False)
    four.tag("m", 2, "stage", "prod")
    four.tag("m", 2, "ticket", None)
    assert four.audit("m") == before
    assert len(before) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: r.set_alias("m", "champion", 9),
            r"'champion' cannot point to version 9 .*it has 1, 2, 3, 4",
        ),
        (
            lambda r: versions(r, *range(5, 12)).set_alias("m", "champion", 99),
            r"which is not there; it has …, 4, 5, 6, 7, 8, 9, 10, 11$",
        ),
        (lambda r: r.set_alias("m", "champion", 2), r"version 2 of model 'm' is archived"),
        (lambda r: r.set_alias("m", "3", 3), r"a number means a version"),
        (lambda r: r.set_alias("m", "../x", 3), r"is not an alias"),
        (lambda r: r.remove_alias("m", "nope"), r"model 'm' has no alias 'nope'; its aliases: now"),
        (lambda r: r.archive("m", 4, True), r"version 4 of model 'm' cannot be archived: now points to it"),
        (
            lambda r: r.rollback("m", "nope"),
            r"'nope' of model 'm' is not set, and its audit log knows of none",
        ),
        (
            lambda r: r.rollback("m", "now"),
            r"'now' of model 'm' is version 4, and its audit log knows .* not archived$",
        ),
        (lambda r: r.rollback("m", "3"), r"a number means a version"),
        (lambda r: r.tag("m", 1, "../x", "y"), r"is not a tag's key"),
        (lambda r: r.tag("m", 1, "an alias", "y"), r"'an alias' is not a tag's key: use 1 to 128"),
        (lambda r: r.tag("m", 1, "3", "y"), r"'3' is not a tag's key: a number means a version"),
        (lambda r: r.tag("m", 1, "x", "a\nb"), r"the tag 'x' takes a value of at most 1024 printable"),
        (lambda r: r.tag("m", 1, "x", "a" * 1025), r"the tag 'x' takes a value of at most 1024"),
        (lambda r: r.record("m", "alias", version=1, reason=""), r"'alias' cannot be recorded"),
        (lambda r: r.record("m", "publish", version=1, reason=""), r"'publish' cannot be recorded"),
        (lambda r: r.record("m", "audit-broken", version=1, reason=""), r"cannot be recorded"),
    ],
)
def test_what_is_refused_changes_nothing(four: Registry, change: Any, message: str) -> None:
    four.archive("m", 2, True)
    four.set_alias("m", "now", 4)
    state, lines = four.state("m"), four.audit("m")
    with pytest.raises(RegistryError, match=message):
        change(four)
    assert four.state("m") == state
    assert four.audit("m") == lines
    assert four.check_audit("m") == []


def test_what_is_not_there(four: Registry) -> None:
    without_version: tuple[Callable[[], object], ...] = (
        lambda: four.tag("m", 9, "x", "y"),
        lambda: four.archive("m", 9, True),
        lambda: four.archive("m", -1, False),
    )
    for ask in without_version:
        with pytest.raises(VersionNotFound):
            ask()
    without_model: tuple[Callable[[], object], ...] = (
        lambda: four.set_alias("no", "champion", 1),
        lambda: four.set_loaded("..", True),
        lambda: four.record("no", "withdraw", version=1, reason=""),
        lambda: four.state("no"),
        lambda: four.audit("no"),
        lambda: four.fingerprint("no"),
    )
    for ask in without_model:
        with pytest.raises(ModelNotFound):
            ask()
    assert not (four.path / "no").exists()


def test_archiving_and_unloading(four: Registry) -> None:
    four.archive("m", 2, True)
    four.archive("m", 1, True)
    four.set_loaded("m", False)
    assert four.state("m") == ModelState(archived=frozenset({1, 2}), loaded=False)
    content = json.loads((four.path / "m/desired.json").read_text())
    assert content == {"loaded": False, "archived": [1, 2]}
    four.archive("m", 2, False)
    four.set_loaded("m", True)
    assert four.state("m") == ModelState(archived=frozenset({1}))
    (four.path / "m/aliases.json").write_text('{"champion": 1}')
    four.archive("m", 1, False)
    assert four.state("m") == ModelState({"champion": 1}), "a file that was written by hand is mended"


def test_tags(four: Registry) -> None:
    four.tag("m", 4, "stage", "prod")
    four.tag("m", 4, "note", "für Zürich")
    four.tag("m", 4, "stage", "canary")
    four.tag("m", 2, "longest", "a" * 1024)
    four.tag("m", 2, "area", "north")
    four.tag("m", 1, "stage", "old")
    four.tag("m", 1, "stage", None)
    assert four.state("m").tags == {
        4: {"stage": "canary", "note": "für Zürich"},
        2: {"longest": "a" * 1024, "area": "north"},
    }
    content = json.loads((four.path / "m/tags.json").read_text())
    assert [(version, list(tags)) for version, tags in content.items()] == [
        ("2", ["area", "longest"]),
        ("4", ["note", "stage"]),
    ]


def test_a_version_has_a_limited_number_of_tags(four: Registry) -> None:
    tags = {"4": {f"k{number}": "v" for number in range(64)}}
    (four.path / "m/tags.json").write_text(json.dumps(tags))
    four.tag("m", 4, "k1", "changed")
    four.tag("m", 4, "none-such", None)
    with pytest.raises(RegistryError, match=r"version 4 of model 'm' has 64 tags"):
        four.tag("m", 4, "one-more", "v")


def test_rolling_back_goes_further_and_further(four: Registry) -> None:
    for version in (1, 2, 3, 4):
        four.set_alias("m", "champion", version)
    four.set_alias("m", "challenger", 1)
    assert four.rollback("m", "champion") == (4, 3)
    assert four.rollback("m", "champion") == (3, 2)
    four.set_alias("m", "champion", 4)
    assert four.rollback("m", "champion") == (4, 2)
    assert four.rollback("m", "champion") == (2, 1)
    with pytest.raises(RegistryError, match=r"knows of none before"):
        four.rollback("m", "champion")
    assert four.state("m").aliases == {"champion": 1, "challenger": 1}


def test_rolling_back_passes_over_what_is_archived_or_gone(four: Registry) -> None:
    for version in (1, 2, 3, 4):
        four.set_alias("m", "champion", version)
    four.archive("m", 3, True)
    (four.path / "m/2/model.onnx").unlink()
    assert four.rollback("m", "champion") == (4, 1)


def test_rolling_back_from_an_alias_that_was_taken_away_or_set_by_hand(four: Registry) -> None:
    four.set_alias("m", "champion", 1)
    four.set_alias("m", "champion", 2)
    four.remove_alias("m", "champion")
    assert four.rollback("m", "champion") == (None, 2)
    assert four.rollback("m", "champion") == (2, 1)
    (four.path / "m/aliases.json").write_text('{"champion": 4}')
    assert four.rollback("m", "champion") == (4, 1)
    (four.path / "m/aliases.json").write_text('{"champion": 4}')
    four.set_alias("m", "champion", 3)
    assert four.rollback("m", "champion") == (3, 4)
    (four.path / "m/aliases.json").write_text('{"champion": 2}')
    four.remove_alias("m", "champion")
    assert four.rollback("m", "champion") == (None, 2)


def test_events_that_change_nothing(four: Registry) -> None:
    four.record("m", "withdraw", version=4, reason="x" * 100_000)
    (line,) = four.audit("m")
    assert (line.seq, line.event) == (1, "withdraw")
    assert line.details == {"version": 4, "reason": "x" * 4096, "pid": os.getpid()}
    assert line.at.endswith("+00:00")
    assert line.by.endswith(f"@{os.uname().nodename}")
    assert four.state("m") == ModelState()


def test_what_is_said_of_versions_that_are_gone_is_forgotten(
    four: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_FORGET_AT_ONCE", 1)
    for version in (1, 2, 3):
        four.archive("m", version, True)
    four.tag("m", 1, "stage", "old")
    four.tag("m", 4, "stage", "prod")
    for version in (1, 2, 3):
        (four.path / f"m/{version}/model.onnx").unlink()
    for version in (1, 2):
        (four.path / f"m/{version}").rmdir()
    four.gc(4, "m", dry_run=True)
    assert four.state("m").archived == {1, 2, 3}
    four.gc(4, "m")
    assert four.state("m") == ModelState(archived=frozenset({3}), tags={4: {"stage": "prod"}})
    assert replay(four.audit("m")) == four.state("m")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("aliases.json", "", r"m/aliases.json: it is not JSON: Expecting value in line 1"),
        ("aliases.json", '{\n"champion": 3,\n}', r"m/aliases.json: it is not JSON: .* in line [23]"),
        ("aliases.json", "[]", r"m/aliases.json: it must be a JSON object"),
        ("aliases.json", '{"champion": "3"}', r"'champion' must be the number of a version"),
        ("aliases.json", '{"champion": true}', r"'champion' must be the number of a version"),
        ("aliases.json", '{"champion": 0}', r"'champion' must be the number of a version"),
        ("aliases.json", '{"champion": 3.0}', r"'champion' must be the number of a version"),
        ("aliases.json", '{"../x": 3}', r"is not an alias"),
        ("aliases.json", '{"a": 1, "a": 2}', r"a key is there twice"),
        ("aliases.json", "[" * 100_000, r"m/aliases.json: it is not JSON"),
        ("aliases.json", '{"a": ' + "9" * 5000 + "}", r"m/aliases.json: it is not JSON"),
        ("aliases.json", " " * (4 * 1024 * 1024 + 1), r"m/aliases.json: it is larger than"),
        ("desired.json", '{"loaded": 1}', r"m/desired.json: 'loaded' must be true or false"),
        ("desired.json", '{"lodaed": true}', r"m/desired.json: unknown key 'lodaed'"),
        ("desired.json", '{"archived": 3}', r"'archived' must be a list of version numbers"),
        ("desired.json", '{"archived": [[3]]}', r"'archived' must be a list of version numbers"),
        ("tags.json", '{"x": {}}', r"m/tags.json: 'x' must be a version"),
        ("tags.json", '{"3": []}', r"m/tags.json: '3' must be a version"),
        ("tags.json", json.dumps({"3": dict.fromkeys(map("k{}".format, range(65)), "v")}), r"most 64 tags"),
        ("tags.json", '{"3": {"a": 1}}', r"m/tags.json: 'a' of version 3 must be a string"),
        ("tags.json", '{"3": {"a": "\\u0000"}}', r"m/tags.json: the tag 'a' takes a value"),
        ("tags.json", '{"3": {"a b": "c"}}', r"m/tags.json: 'a b' is not a tag's key"),
    ],
)
def test_a_broken_file_is_named_and_left_alone(four: Registry, name: str, content: str, message: str) -> None:
    four.set_alias("m", "champion", 1)
    lines = four.audit("m")
    (four.path / "m" / name).write_text(content)
    with pytest.raises(RegistryError, match=message):
        four.state("m")
    with pytest.raises(RegistryError, match=message):
        four.set_alias("m", "champion", 2)
    assert (four.path / "m" / name).read_text() == content
    assert four.audit("m") == lines


@pytest.mark.parametrize("name", ["aliases.json", "desired.json", "tags.json"])
def test_what_is_no_file(four: Registry, tmp_path: Path, name: str) -> None:
    path = four.path / "m" / name
    (tmp_path / "outside").write_text("{}")
    path.symlink_to(tmp_path / "outside")
    with pytest.raises(RegistryError, match=rf"m/{name}: it is a link that leaves the registry"):
        four.state("m")
    path.unlink()
    os.mkfifo(path)
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RegistryError, match=rf"{name} is not a regular file"):
        four.state("m")
    assert len(os.listdir("/proc/self/fd")) == open_files, "it is looked at again every second"
    path.unlink()
    (four.path / "linked").write_text("{}")
    path.symlink_to("../linked")
    assert four.state("m") == ModelState()


@pytest.mark.parametrize("name", ["fsync", "write"])
def test_a_full_disk_changes_nothing(four: Registry, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    four.set_alias("m", "champion", 3)
    state, lines = four.state("m"), four.audit("m")
    before = sorted(os.listdir(four.path / "m"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, name, full)
        with pytest.raises(RegistryError, match=r"model 'm' cannot be changed: No space left on device"):
            four.set_alias("m", "champion", 4)
    assert (four.state("m"), four.audit("m")) == (state, lines)
    assert sorted(os.listdir(four.path / "m")) == before
    assert replay(four.audit("m")) == four.state("m")
    assert four.check_audit("m") == []
    four.set_alias("m", "champion", 2)
    assert four.check_audit("m") == []


def test_a_disk_that_is_full_for_the_change_alone_changes_nothing(
    four: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    four.set_alias("m", "champion", 3)
    state, lines, before = four.state("m"), four.audit("m"), sorted(os.listdir(four.path / "m"))

    def full(step: str) -> None:
        if step.endswith(".json: written"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "on_step", full)
    with pytest.raises(RegistryError, match=r"model 'm' cannot be changed: No space left on device$"):
        four.set_alias("m", "champion", 4)
    with pytest.raises(RegistryError, match=r"model 'm' cannot be changed: No space left on device$"):
        four.tag("m", 1, "stage", "new")  # of which there is no file yet
    assert (four.state("m"), four.audit("m")) == (state, lines)
    assert sorted(os.listdir(four.path / "m")) == before
    assert four.check_audit("m") == []


def test_a_change_in_its_place_stands_though_the_disk_promises_nothing(
    four: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    four.set_alias("m", "champion", 3)

    def failing(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr(files, "sync_directory", failing)
        four.set_alias("m", "champion", 4)
    assert "m/.audit-head was not replaced: Input/output error" in caplog.text
    assert four.state("m").aliases == {"champion": 4}
    assert replay(four.audit("m")) == four.state("m")
    assert four.check_audit("m") == []
    four.set_alias("m", "champion", 2)
    assert four.check_audit("m") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_registry_that_may_only_be_read(four: Registry) -> None:
    (four.path / "m").chmod(0o555)
    try:
        with pytest.raises(RegistryError, match=r"cannot be changed: Permission denied \(its directory must"):
            four.set_alias("m", "champion", 4)
    finally:
        (four.path / "m").chmod(0o755)


def test_a_read_only_file_system(four: Registry, read_only: Callable[[], None]) -> None:
    read_only()
    with pytest.raises(RegistryError, match=r"model 'm' cannot be changed: Read-only file system"):
        four.set_loaded("m", False)
    four.set_loaded("m", True)
    assert four.state("m") == ModelState()


def test_every_change_changes_the_fingerprint(four: Registry) -> None:
    seen = [four.fingerprint("m")]
    assert four.fingerprint("m") == seen[0]
    changes: tuple[Callable[[], object], ...] = (
        lambda: four.set_alias("m", "champion", 1),
        lambda: four.set_alias("m", "champion", 2),
        lambda: four.rollback("m", "champion"),
        lambda: four.archive("m", 3, True),
        lambda: four.tag("m", 4, "stage", "prod"),
        lambda: four.set_loaded("m", False),
        lambda: four.remove_alias("m", "champion"),
        lambda: versions(four, 5),
        lambda: (four.path / "m/aliases.json").write_text('{"champion": 5}'),
        lambda: (four.path / "m/desired.json").write_text('{"loaded": true}'),
    )
    for change in changes:
        time.sleep(0.015)  # a file system's clock goes in ticks
        change()
        seen.append(four.fingerprint("m"))
    assert len(set(seen)) == len(seen)
