"""From directories to wishes: what counts, when it counts, and what happens when something cannot be read."""

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from fastserve.clock import NS_PER_S, ManualClock
from fastserve.errors import RegistryError
from fastserve.lifecycle import LifecycleOptions, Scanner, Wish, directory, scanning
from fastserve.lifecycle.directory import regular_files
from fastserve.lifecycle.wishes import wished
from fastserve.registry import Registry
from tests import models
from tests.registry.conftest import glance

LONG_AGO_S = 1_000_000_000


class Look:
    """A scanner over a registry, with clocks that the test moves."""

    def __init__(self, path: Path, **options: object) -> None:
        self.registry = Registry(path)
        self.clock = ManualClock(1)
        self.wall_s = 0.0
        self.file = path.parent / "model.onnx"
        self.file.write_bytes(models.scaled())
        self.scanner = Scanner(
            self.registry, LifecycleOptions.model_validate(options), self.clock, lambda: self.wall_s
        )

    def publish(self, model: str = "m") -> int:
        return self.registry.publish(model, self.file, inspect=glance)

    def drop(self, version: int, model: str = "m") -> Path:
        """What rsync or a person puts there: a directory with a model, no manifest."""
        directory = self.registry.path / model / str(version)
        directory.mkdir(parents=True)
        shutil.copy(self.file, directory / "model.onnx")
        return directory

    def versions(self, model: str = "m") -> tuple[int, ...]:
        return self.scanner.scan()[model].versions

    def pass_s(self, seconds: float) -> None:
        self.clock.advance(ns=int(seconds * NS_PER_S))


@pytest.fixture
def look(tmp_path: Path) -> Look:
    (tmp_path / "registry").mkdir()
    return Look(tmp_path / "registry")


def test_a_directory_without_a_version_is_waited_for(look: Look) -> None:
    directory = look.registry.path / "new"
    directory.mkdir()
    (look.registry.path / "no model's name").mkdir()
    assert look.scanner.scan() == {}
    assert look.scanner.waiting() == [directory]
    look.publish("new")
    assert look.versions("new") == (1,)
    assert look.scanner.waiting() == []


def test_an_alias_waits_for_its_version_to_be_whole(look: Look) -> None:
    look.publish()
    look.registry.set_alias("m", "champion", 1)
    assert look.scanner.scan()["m"].aliases == {"champion": 1}
    look.drop(9)
    look.registry.set_alias("m", "champion", 9)
    wish = look.scanner.scan()["m"]
    assert (wish.versions, wish.aliases) == ((1,), {"champion": 1})
    look.pass_s(60)
    wish = look.scanner.scan()["m"]
    assert (wish.versions, wish.aliases) == ((9, 1), {"champion": 9})


def test_an_unreadable_registry_is_an_error(look: Look) -> None:
    look.registry.path.rmdir()
    with pytest.raises(RegistryError, match="cannot be read"):
        look.scanner.scan()


def test_a_published_version_counts_at_once(look: Look) -> None:
    look.publish()
    assert look.scanner.scan() == {"m": Wish((1,))}
    look.publish()
    look.publish("other")
    assert look.scanner.scan() == {"m": Wish((2, 1)), "other": Wish((1,))}
    assert not look.scanner.unsettled()


def test_aliases_archive_and_unload_are_seen(look: Look) -> None:
    for _ in range(3):
        look.publish()
    look.registry.set_alias("m", "champion", 2)
    look.registry.archive("m", 1, True)
    assert look.scanner.scan()["m"] == Wish((3, 2), {"champion": 2})
    look.registry.set_loaded("m", False)
    assert look.scanner.scan()["m"] == Wish((3, 2), {"champion": 2}, loaded=False)


def test_a_bare_model_counts_when_it_has_not_changed_for_a_while(look: Look) -> None:
    directory = look.drop(7)
    look.wall_s = os.stat(directory / "model.onnx").st_ctime
    assert look.versions() == ()
    assert look.scanner.unsettled()
    look.pass_s(1.9)
    assert look.versions() == ()
    with (directory / "model.onnx").open("ab") as file:
        file.write(b"more")
    look.pass_s(1.9)
    assert look.versions() == (), "it was still being written"
    look.pass_s(2.0)
    assert look.versions() == (7,)
    shutil.rmtree(directory)
    assert look.versions() == ()
    look.drop(7)
    assert look.versions() == (), "it comes anew"


@pytest.mark.parametrize(("served", "looked_at"), [(1, 16), (20, 20)])
def test_how_many_of_the_newest_have_to_be_whole_to_count(look: Look, served: int, looked_at: int) -> None:
    """More than are served, because those before take the place of failed ones; older ones need an alias."""
    scanner = Scanner(look.registry, LifecycleOptions(versions=served), look.clock, lambda: look.wall_s)
    for number in range(1, looked_at + 2):
        look.drop(number)
    assert scanner.scan()["m"].versions == (1,)
    look.registry.set_alias("m", "old", 1)
    assert scanner.scan()["m"].versions == ()
    look.pass_s(2.1)
    assert scanner.scan()["m"] == Wish(tuple(range(looked_at + 1, 0, -1)), {"old": 1})


@pytest.mark.parametrize(
    ("settle_s", "age_s", "versions"), [(0.5, 1.9, ()), (0.5, 2.1, (7,)), (9, 8.9, ()), (9, 9.1, (7,))]
)
def test_how_long_a_bare_model_has_to_have_lain_there_to_count_at_once(
    look: Look, monkeypatch: pytest.MonkeyPatch, settle_s: float, age_s: float, versions: tuple[int, ...]
) -> None:
    """Two seconds at least: a file may change again within one tick of its file system's clock."""
    look.drop(7)
    look.wall_s = LONG_AGO_S
    changed_ns = int((LONG_AGO_S - age_s) * NS_PER_S)
    monkeypatch.setattr(scanning, "stamp", lambda *_: (("model.onnx", 1, changed_ns, changed_ns),))
    options = LifecycleOptions(settle_s=settle_s)
    scanner = Scanner(look.registry, options, look.clock, lambda: look.wall_s)
    assert scanner.scan()["m"].versions == versions


def test_a_bare_model_whose_files_cannot_be_seen_waits(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    look.drop(7)
    look.wall_s = 2.0**33
    monkeypatch.setattr(scanning, "stamp", lambda *_: ())
    for _ in range(3):
        assert look.versions() == ()
        look.pass_s(60)


def test_what_is_being_written_when_the_server_starts_is_on_its_way(look: Look) -> None:
    directory = look.drop(7)
    look.wall_s = os.stat(directory / "model.onnx").st_ctime
    assert look.scanner.scan() == {"m": Wish((), coming=True)}
    look.pass_s(2.1)
    assert look.scanner.scan() == {"m": Wish((7,))}
    look.drop(8)
    assert look.scanner.scan() == {"m": Wish((7,))}, "a version is there"
    look.drop(1, "never")
    for size in range(70):
        with (look.registry.path / "never" / "1" / "model.onnx").open("ab") as file:
            file.write(b"." * size)
        assert look.scanner.scan()["never"] == Wish((), coming=size < 58)
        look.pass_s(1)


def test_nobody_waits_for_what_has_no_model_file_or_is_put_away(look: Look) -> None:
    look.publish()
    look.registry.archive("m", 1, True)
    plan = look.drop(2)
    (plan / "model.onnx").rename(plan / "model.plan")
    for _ in range(3):
        assert look.scanner.scan() == {"m": Wish((), coming=False)}
        look.pass_s(60)
    shutil.rmtree(plan)
    assert look.versions() == ()


def test_nobody_waits_for_what_is_being_written_where_its_model_cannot_be_read(look: Look) -> None:
    directory = look.drop(7)
    look.wall_s = os.stat(directory / "model.onnx").st_ctime
    assert look.scanner.scan() == {"m": Wish((), coming=True)}
    (directory.parent / "aliases.json").write_text('{"champion": ')
    assert look.scanner.scan() == {"m": Wish(())}


def test_a_bare_model_that_has_lain_there_for_long_counts_at_once(look: Look) -> None:
    look.drop(7)
    look.wall_s = 2.0**33
    assert look.versions() == (7,)


def test_a_bare_model_beside_which_a_file_is_still_written_waits(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    look.drop(7)
    look.wall_s = 2.0**33
    now_ns = int(look.wall_s) * NS_PER_S
    monkeypatch.setattr(
        scanning, "stamp", lambda *_: (("model.onnx", 1, 5, 1, 1), ("weights", 2, 5, now_ns, now_ns))
    )
    assert look.versions() == ()
    look.pass_s(2.1)
    assert look.versions() == (7,)


def test_files_numbered_anew_at_each_look_are_at_rest(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()

    def renumbered(path: Path | str) -> Iterator[tuple[str, Any]]:
        for name, status in regular_files(path):
            kept = {fact: getattr(status, fact) for fact in ("st_size", "st_mtime_ns", "st_ctime_ns")}
            yield name, SimpleNamespace(**kept, st_ino=next(numbers))

    monkeypatch.setattr(directory, "regular_files", renumbered)
    look.drop(1)
    assert look.versions() == ()
    look.pass_s(60)
    assert look.versions() == (1,)


def test_a_bare_model_with_a_link_that_leads_nowhere_counts_so_that_its_reason_is_told(look: Look) -> None:
    (look.drop(7) / "weights").symlink_to("nowhere")
    assert look.versions() == ()
    look.pass_s(2.1)
    assert look.versions() == (7,)
    assert not look.scanner.unsettled()
    with pytest.raises(RegistryError, match="leads nowhere"):
        look.registry.verify("m", 7)


def test_a_clock_that_is_set_only_means_waiting(look: Look) -> None:
    directory = look.drop(7)
    for wall_s in (LONG_AGO_S, os.stat(directory / "model.onnx").st_ctime, 2.0**33):
        look.wall_s = wall_s
        assert look.versions() == ()
    look.pass_s(2.1)
    assert look.versions() == (7,)


def test_a_copy_with_manifest_counts_when_every_file_has_its_size(look: Look, tmp_path: Path) -> None:
    look.publish()
    whole = look.registry.path / "m" / "1"
    (tmp_path / "elsewhere").mkdir()
    shutil.move(whole, tmp_path / "elsewhere" / "1")
    whole.mkdir()
    shutil.copy(tmp_path / "elsewhere" / "1" / "manifest.json", whole)
    content = (tmp_path / "elsewhere" / "1" / "model.onnx").read_bytes()
    (whole / "model.onnx").write_bytes(content[:-10])
    look.wall_s = os.stat(whole / "model.onnx").st_ctime
    assert look.versions() == ()
    assert look.scanner.unsettled()
    (whole / "model.onnx").write_bytes(content)
    assert look.versions() == (1,)


def test_a_copy_whose_manifest_came_before_its_weights_waits_for_them(look: Look) -> None:
    model, weights = models.external_data("weights.bin")
    look.file.write_bytes(model)
    look.file.with_name("weights.bin").write_bytes(weights)
    look.publish()
    copy = look.registry.path / "m/1/weights.bin"
    copy.unlink()
    look.wall_s = os.stat(copy.with_name("model.onnx")).st_ctime
    assert look.versions() == ()
    copy.write_bytes(weights)
    assert look.versions() == (1,)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_version_that_stays_wrong_counts_in_the_end_so_that_its_reason_is_told(
    look: Look, name: str
) -> None:
    look.publish()
    file = look.registry.path / "m" / "1" / name
    file.chmod(0o644)
    file.write_bytes(b"cut")
    look.wall_s = os.stat(file).st_ctime
    assert look.versions() == ()
    look.pass_s(2.1)
    assert look.versions() == (1,)


def test_what_cannot_be_read_leaves_the_wish_as_it_was(look: Look, caplog: pytest.LogCaptureFixture) -> None:
    look.publish()
    look.registry.set_alias("m", "champion", 1)
    before = look.scanner.scan()
    (look.registry.path / "m" / "aliases.json").write_text('{"champion": ')
    with caplog.at_level(logging.ERROR, "fastserve.lifecycle"):
        for _ in range(3):
            assert look.scanner.scan() == before
    assert len(caplog.records) == 1, "told once, not at every look"
    assert "aliases.json" in caplog.text
    (look.registry.path / "m" / "aliases.json").write_text('{"champion": 1, "challenger": 1}')
    assert look.scanner.scan()["m"].aliases == {"champion": 1, "challenger": 1}


def test_what_could_never_be_read_is_wished_for_without_being_served(
    look: Look, caplog: pytest.LogCaptureFixture
) -> None:
    look.publish()
    (look.registry.path / "m" / "aliases.json").write_text('{"champion": ')
    for _ in range(3):
        wish = look.scanner.scan()["m"]
        assert "aliases.json" in wish.problem and wished(wish, 1, ()) == []
    assert caplog.text.count("nothing of it is served") == 1
    (look.registry.path / "m" / "aliases.json").write_text('{"champion": 1}')
    assert look.scanner.scan()["m"] == Wish((1,), {"champion": 1})


def test_a_model_that_cannot_be_listed_harms_no_other(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    look.publish("good")
    look.publish("lost")
    real = os.scandir

    def scandir(path: str | Path) -> Any:
        return _deny(path) if str(path).endswith("/lost") else real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    wishes = look.scanner.scan()
    assert wishes["good"] == Wish((1,))
    assert wishes["lost"].problem == "model 'lost' cannot be read: Permission denied"
    assert look.registry.damaged() == []
    look.publish("good")
    assert look.versions("good") == (2, 1)
    monkeypatch.undo()
    assert look.scanner.scan()["lost"] == Wish((1,))


def test_a_second_look_that_fails_is_taken_again(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came within the tick of the first would be lost: its directory looks as it did."""
    monkeypatch.setattr(Registry, "fingerprint", lambda *_: ("the same",))
    look.publish()
    assert look.versions() == (1,)
    look.publish()
    with monkeypatch.context() as failing:
        failing.setattr(os, "scandir", _deny)
        assert look.scanner._look("m").versions == (1,)
    look.pass_s(10)
    assert look.versions() == (2, 1)


def _deny(path: str | Path) -> NoReturn:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_deleted_version_or_model_is_gone(look: Look) -> None:
    look.publish()
    look.publish()
    assert look.versions() == (2, 1)
    shutil.rmtree(look.registry.path / "m" / "2")
    look.registry.set_alias("m", "old", 1)
    assert look.versions() == (1,)
    shutil.rmtree(look.registry.path / "m" / "1")
    assert look.versions() == (), "its directory says that it is not over"
    assert not look.scanner.unsettled(), "nobody waits for what an alias names and is not there"
    shutil.rmtree(look.registry.path / "m")
    assert look.scanner.scan() == {}


def test_an_unchanged_model_is_not_read_again(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    look.publish()
    read: list[str] = []
    real = Registry.places

    def counting(registry: Registry, model: str) -> dict[int, bool]:
        read.append(model)
        return real(registry, model)

    monkeypatch.setattr(Registry, "places", counting)
    look.scanner.scan()
    look.pass_s(2)
    look.scanner.scan()
    assert read == ["m"] * 2, "it may have changed within one tick of the file system's clock"
    look.pass_s(0.1)
    look.scanner.scan()
    assert read == ["m"] * 2
    look.publish()
    assert look.versions() == (2, 1)
    assert read
