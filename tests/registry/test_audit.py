"""The audit log: whatever is done to it by hand is found, whatever a killed writer leaves is settled."""

import json
import os
import pwd
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.errors import RegistryError
from fastserve.registry import Registry, audit, chain, reading
from fastserve.registry.checking import check, replaced


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model's directory with a log of five lines."""
    return written(tmp_path / "m", 5)


def written(directory: Path, lines: int, text: str = "") -> Path:
    directory.mkdir()
    with audit.writing(directory) as log:
        for number in range(lines):
            log.commit("note", {"number": number, "text": text})
    return directory


def raw(directory: Path) -> list[bytes]:
    return (directory / "audit.jsonl").read_bytes().splitlines(keepends=True)


def rewrite(directory: Path, lines: list[bytes]) -> None:
    (directory / "audit.jsonl").write_bytes(b"".join(lines))


def numbers(directory: Path) -> list[Any]:
    return [line.details.get("number") for line in reading.lines(directory)]


def test_a_line_carries_the_hash_of_the_line_before(directory: Path) -> None:
    previous = "0" * 64
    for seq, data in enumerate(raw(directory), 1):
        content = json.loads(data)
        assert list(content) == ["seq", "at", "by", "event", "details", "previous"]
        assert (content["seq"], content["previous"]) == (seq, previous)
        previous = chain.digest(data)
    head = json.loads((directory / ".audit-head").read_text())
    size = (directory / "audit.jsonl").stat().st_size
    assert head == {"seq": 5, "sha256": previous, "bytes": size, "newest_version": 0}
    assert check(directory) == []


def test_appending_does_not_read_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = written(tmp_path / "m", 150, "x" * 4000)
    read: list[int] = []
    really = os.pread

    def counted(descriptor: int, size: int, at: int) -> bytes:
        data = really(descriptor, size, at)
        read.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    for module in (audit, reading):
        monkeypatch.setattr(module, "raw_lines", None)
    with audit.writing(directory) as log:
        log.commit("note", {})
    assert chain.parse_line(raw(directory)[-1]).event == "note"
    assert sum(read) <= 3 * (chain.MAX_LINE_BYTES + 1)


@pytest.mark.parametrize("clock", ["1999-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_clock_that_jumps_does_not_matter(
    directory: Path, monkeypatch: pytest.MonkeyPatch, clock: str
) -> None:
    really = chain.new_line

    def then(*arguments: Any) -> chain.AuditLine:
        line = really(*arguments)
        return chain.AuditLine(line.seq, clock, line.by, line.event, line.details, line.previous)

    with monkeypatch.context() as patched:
        patched.setattr(chain, "new_line", then)
        with audit.writing(directory) as log:
            log.commit("note", {"number": 5})
    with audit.writing(directory) as log:
        log.commit("note", {"number": 6})
    assert check(directory) == []
    assert numbers(directory) == list(range(7))


def test_a_user_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert chain.whoami() == f"uid{os.geteuid()}@{os.uname().nodename}"


@pytest.mark.parametrize("details", [{"x": "y" * 70_000}, {"x": object()}, {"x": float("nan")}])
def test_what_makes_no_line_changes_nothing(directory: Path, details: dict[str, Any]) -> None:
    before = raw(directory)
    with (
        audit.writing(directory) as log,
        pytest.raises(RegistryError, match=r"'note' cannot be written into the audit log"),
    ):
        log.commit("note", details, lambda: pytest.fail("must not be applied"))
    assert raw(directory) == before


def test_a_change_that_fails_leaves_no_line(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted((path.name, path.read_bytes()) for path in directory.iterdir())

    def fail() -> None:
        raise ValueError("no")

    with audit.writing(directory) as log:
        with pytest.raises(ValueError, match=r"^no$"):
            log.commit("note", {}, fail)
        assert sorted((path.name, path.read_bytes()) for path in directory.iterdir()) == before
        (directory / "1").mkdir()
        with monkeypatch.context() as patched:
            patched.setattr(os, "ftruncate", lambda *_: os.close(-1))  # the line cannot be taken back
            with pytest.raises(ValueError, match=r"^no$"):
                log.commit("gc", {"version": 1}, fail)
        log.commit("note", {"number": 5})
    assert numbers(directory) == list(range(6))
    assert check(directory) == []


def test_the_newest_version_is_remembered(directory: Path) -> None:
    with audit.writing(directory) as log:
        assert log.newest_version() == 0
        log.commit("publish", {"version": 7}, (directory / "7").mkdir)
        log.commit("gc", {"version": 7}, (directory / "7").rmdir)
        log.commit("note", {"version": 9})
    with audit.writing(directory) as log:
        assert log.newest_version() == 7
    (directory / ".audit-head").unlink()
    with audit.writing(directory) as log:
        assert log.newest_version() == 7
    rewrite(directory, [])  # now the head alone knows
    with audit.writing(directory) as log:
        assert log.newest_version() == 7


TAMPERED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "edited": (lambda lines: [lines[0], lines[1].replace(b"note", b"nope"), *lines[2:]], "line 3 does not"),
    "first edited": (lambda lines: [lines[0].replace(b"note", b"nope"), *lines[1:]], "line 2 does not"),
    "last edited": (lambda lines: [*lines[:4], lines[4].replace(b"note", b"nope")], "last line is not"),
    "removed": (lambda lines: lines[:2] + lines[3:], "line 3 does not continue"),
    "first removed": (lambda lines: lines[1:], "line 1 does not continue"),
    "reordered": (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "line 2 does not continue"),
    "repeated": (lambda lines: [*lines, lines[4], lines[4]], "more than one line beyond"),
    "a foreign line": (lambda lines: [*lines, lines[4]], "does not follow"),
    "tail cut": (lambda lines: lines[:3], "its end was cut off"),
    "cut within a line": (lambda lines: [*lines[:4], lines[4][:-9]], "is not an audit line"),
    "emptied": (lambda lines: [], "its end was cut off"),
    "no line at all": (lambda lines: [b"x\n", *lines[1:]], "line 1 is not an audit line"),
    "one long line": (lambda lines: [b"x" * 200_000, *lines], "line 1 is not an audit line"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_is_found_and_stays_found(directory: Path, how: str) -> None:
    tamper, message = TAMPERED[how]
    rewrite(directory, tamper(raw(directory)))
    assert any(message in problem for problem in check(directory)), check(directory)
    # Work goes on, and no later line covers it up.
    for number in (6, 7):
        with audit.writing(directory) as log:
            log.commit("note", {"number": number})
        assert check(directory) != []
    assert b'"number":7' in raw(directory)[-1]


@pytest.mark.parametrize("how", ["cut within a line", "repeated", "emptied"])
def test_the_line_that_tells_of_damage_stands_by_itself(directory: Path, how: str) -> None:
    knew = reading.read_head(directory)
    assert knew is not None
    rewrite(directory, TAMPERED[how][0](raw(directory)))
    with audit.writing(directory):
        pass
    lines = [line for _, _, line in reading.entries(directory)]
    assert lines[-1] is not None and lines[-1].event == chain.BROKEN
    assert (lines[-1].seq, lines[-1].previous) == (knew.seq + 1, knew.sha256), "it follows what was known"
    assert b"\n" not in raw(directory), "no empty line before it"


def test_a_head_that_is_gone_damaged_or_of_another_log(directory: Path) -> None:
    head = directory / ".audit-head"
    kept = head.read_bytes()
    for content in (None, b"", b"{}", b"[" * 3000, kept.replace(b'"seq":5', b'"seq":4'), kept + b" " * 5000):
        head.unlink(missing_ok=True)
        if content is not None:
            head.write_bytes(content)
        assert check(directory) != []
    head.unlink()
    with audit.writing(directory) as log:
        log.commit("note", {"number": 5})
    assert any(".audit-head is missing" in problem for problem in check(directory))
    assert [line.event for line in reading.lines(directory)] == ["note"] * 5 + ["audit-broken", "note"]
    assert [line.seq for line in reading.lines(directory)] == list(range(1, 8))


def test_a_log_that_is_gone(directory: Path) -> None:
    size = (directory / "audit.jsonl").stat().st_size
    (directory / "audit.jsonl").unlink()
    problem = f"m/audit.jsonl has 0 bytes, but .audit-head knows of {size}: its end was cut off"
    assert check(directory) == [problem]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_byte_and_any_cut_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = written(tmp_path_factory.mktemp("a") / "m", 4)
    content = bytearray((directory / "audit.jsonl").read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at : at + data.draw(st.integers(1, 2000))]
    (directory / "audit.jsonl").write_bytes(bytes(content))
    assert check(directory) != []


def test_a_rewritten_log_with_right_hashes_is_found(directory: Path) -> None:
    head, lines = chain.Head(), []
    for data in raw(directory):
        line = chain.parse_line(data)
        forged = chain.AuditLine(line.seq, line.at, "somebody@else", line.event, line.details, head.sha256)
        lines.append(forged.to_bytes())
        head = chain.head_after(head, forged, lines[-1])
    rewrite(directory, lines)
    assert check(directory) != []


def beyond(directory: Path, event: str, details: dict[str, Any]) -> bytes:
    head = reading.read_head(directory)
    assert head is not None
    return chain.new_line(head, event, details).to_bytes()


def assert_cut_off(directory: Path, line: bytes) -> None:
    """A line behind the five of the log counts for nobody, and goes with the next writer."""
    rewrite(directory, [*raw(directory), line])
    assert check(directory) == []
    assert len(list(reading.lines(directory))) == 5
    with audit.writing(directory):
        pass
    assert len(raw(directory)) == 5


@pytest.mark.parametrize("keep", [1, 20, -1])
def test_a_torn_line_is_no_problem_and_cut_off(directory: Path, keep: int) -> None:
    rewrite(directory, [*raw(directory), beyond(directory, "note", {"number": 5})[:keep]])
    assert check(directory) == []
    assert numbers(directory) == [0, 1, 2, 3, 4]
    with audit.writing(directory) as log:
        log.commit("note", {"number": 6})
    assert check(directory) == []
    assert numbers(directory) == [0, 1, 2, 3, 4, 6]


@pytest.mark.parametrize(
    ("event", "details", "made"),
    [
        ("note", {}, None),
        ("publish", {"version": 8}, "8"),
        ("gc", {"version": 8}, None),
        ("alias", {"alias": "champion", "version": 3}, "aliases.json"),
    ],
)
def test_a_whole_line_beyond_the_head_counts_when_its_change_is_made(
    directory: Path, event: str, details: dict[str, Any], made: str | None
) -> None:
    head, line = reading.read_head(directory), beyond(directory, event, details)
    assert head is not None
    rewrite(directory, [*raw(directory), line])
    if made == "8":
        (directory / "8").mkdir()
    elif made:
        (directory / made).write_text('{"champion": 3}')
    assert check(directory) == []
    assert [one.event for one in reading.lines(directory)][5:] == [event]
    with audit.writing(directory) as log:
        assert reading.read_head(directory) == chain.head_after(head, chain.parse_line(line), line)
        assert log.newest_version() == (8 if event == "publish" else 0)
    assert raw(directory)[-1] == line


@pytest.mark.parametrize(
    ("event", "details"),
    [
        ("publish", {"version": 8}),
        ("publish", {"version": 9, "manifest_sha256": "0" * 64}),
        ("gc", {"version": 9}),
        ("unalias", {"alias": "champion"}),
    ],
)
def test_a_whole_line_beyond_the_head_goes_when_its_change_was_not_made(
    directory: Path, event: str, details: dict[str, Any]
) -> None:
    (directory / "9").mkdir()
    (directory / "aliases.json").write_text('{"champion": 9}')
    assert_cut_off(directory, beyond(directory, event, details))


@pytest.mark.parametrize("event", ["publish", "gc", "profile"])
@pytest.mark.parametrize("version", ["x\0y", "y" * 5000, "3", None, 10**30])
def test_a_whole_line_beyond_the_head_goes_when_it_is_of_no_version(
    directory: Path, event: str, version: object
) -> None:
    details = {"version": version, "manifest_sha256": "0" * 64, "sha256": "0" * 64}
    assert_cut_off(directory, beyond(directory, event, details))


def test_the_number_of_no_version_does_not_break_the_head(directory: Path) -> None:
    line = beyond(directory, "publish", {"version": 10**30})
    rewrite(directory, [*raw(directory), line, line])
    for _ in range(2):
        with audit.writing(directory) as log:
            assert log.newest_version() == 0
    assert [line.event for line in reading.lines(directory)].count(chain.BROKEN) == 1


@pytest.mark.parametrize("make", ["link", "pipe"])
def test_a_log_that_is_no_file(directory: Path, tmp_path: Path, make: str) -> None:
    log = directory / "audit.jsonl"
    log.unlink()
    if make == "link":
        log.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(log)
    with pytest.raises((OSError, RegistryError)), audit.writing(directory):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["audit.jsonl", ".audit-head"])
@pytest.mark.parametrize("make", ["circle", "pipe"])
def test_a_log_or_a_head_that_cannot_be_read(directory: Path, name: str, make: str) -> None:
    (directory / name).unlink()
    if make == "circle":
        (directory / name).symlink_to(directory / name)
    else:
        os.mkfifo(directory / name)
    with pytest.raises(RegistryError, match=r"cannot be read|not a regular file"):
        check(directory)


def test_lines_that_cannot_be_read_hide_no_others(published: Registry) -> None:
    for _ in range(3):
        published.record("m", "note", version=1, reason="")
    first, second, *rest = raw(published.path / "m")
    rewrite(published.path / "m", [b"x\n", b"\n", first, b"x\n", second, *rest])
    lines, unreadable = published.read_audit("m")
    assert [line.seq for line in lines] == [line.seq for line in published.audit("m")] == [1, 2, 3, 4]
    assert unreadable == [range(1, 3), range(4, 5)]
    assert "m/audit.jsonl: line 1 is not an audit line" in published.check_audit("m")
    assert replaced(published.path / "m", [1]) == {}


def test_readers_beside_writers_see_a_sound_log(tmp_path: Path) -> None:
    directory, problems, done = tmp_path / "m", [], threading.Event()
    directory.mkdir()

    def write(mine: int) -> None:
        for number in range(25):
            with audit.writing(directory) as log:
                log.commit("note", {"number": mine + number})

    def read() -> None:
        while not done.is_set():
            problems.extend(check(directory))
            seqs = [line.seq for line in reading.lines(directory)]
            problems.extend([] if seqs == list(range(1, len(seqs) + 1)) else [str(seqs)])

    writers = [threading.Thread(target=write, args=(mine,)) for mine in (0, 100)]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert problems == []
    assert sorted(numbers(directory)) == [*range(25), *range(100, 125)]
