"""What a terminal shows: nothing a stranger wrote is read as markup or reaches the terminal as a command."""

import io
import os
import pty
import subprocess
import sys
from typing import Any

import pytest
from rich.console import Console, RenderableType

from fastserve.cli import tables
from fastserve.cli.models import showing
from fastserve.cli.progress import progress
from tests.cli.conftest import environment

EVIL = "[red]x[/red]\x1b[2J\r\u202e"
SHOWN = r"[red]x[/red]\x1b[2J\r\u202e"

ROW: dict[str, Any] = {
    "model": "flights",
    "version": 4,
    "aliases": ["challenger", "champion"],
    "archived": False,
    "tags": {"stage": "prod", "by": "me"},
    "loaded": True,
    "created_at": "2026-11-24T10:00:00+00:00",
    "bytes": 1536,
    "inputs": ["a", "b", "c", "d", "e"],
    "outputs": ["y"],
    "problem": None,
}


LOOKED: dict[str, Any] = {"model": "flights", "version": 4, "bytes": 1536, "signed": False, "problem": None}


def lines(*parts: RenderableType, width: int = 200) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(*parts, sep="\n")
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_version_with_everything() -> None:
    head, row = lines(showing.model_table([ROW]))
    assert head.split()[:6] == ["MODEL", "VERSION", "ALIASES", "TAGS", "CREATED", "SIZE"]
    for words in (
        "challenger, champion",
        "by=me, stage=prod",
        "1.5 KiB",
        "a, b, c, d, … (5 in all) → y",
    ):
        assert words in row


def test_what_is_not_served_is_marked() -> None:
    shown = lines(
        showing.model_table(
            [{**ROW, "archived": True, "aliases": []}, {**ROW, "loaded": False, "inputs": None}]
        )
    )
    assert "(archived)" in shown[1]
    assert "champion (unloaded)" in shown[2]
    assert "not published by fastserve" in shown[2]


def test_a_problem_takes_the_place_of_the_tensors() -> None:
    row = lines(
        showing.model_table([{**ROW, "bytes": None, "created_at": None, "problem": "flights/4: bad"}])
    )[1]
    assert row.endswith("–  flights/4: bad")


@pytest.mark.parametrize(
    "part",
    [
        showing.model_table([{**ROW, "tags": {"k": EVIL}}]),
        showing.model_table([{**ROW, "aliases": [EVIL]}]),
        showing.model_table([{**ROW, "problem": EVIL}]),
        showing.model_table([{**ROW, "inputs": [EVIL]}]),
        showing.audit_table([{"seq": 1, "at": "now", "by": EVIL, "event": "alias", "details": {}}]),
        showing.audit_table([{"seq": 1, "at": "now", "by": "a@b", "event": "e", "details": {"r": EVIL}}]),
        showing.import_table([{"from": EVIL, "model": "m", "version": 1, "alias": None, "problem": None}]),
        showing.import_table([{"from": "f", "model": "m", "version": None, "alias": None, "problem": EVIL}]),
        showing.check_table([{**LOOKED, "model": EVIL}]),
        tables.table([""], [[EVIL]]),
    ],
)
def test_strangers_text_is_only_text(part: RenderableType) -> None:
    shown = "\n".join(lines(part))
    assert SHOWN in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_all_facts_are_only_text() -> None:
    facts = {
        **{key: ROW[key] for key in ("version", "created_at", "archived", "loaded")},
        **dict.fromkeys(("model", "path", "description", "owner"), EVIL),
        "aliases": ["champion"],
        "tags": {"stage": EVIL},
        "signed": True,
        "profile": {"sha256": "cd" * 32, "bytes": 9},
        "signature": {
            "inputs": [{"name": EVIL, "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [],
            "batched": True,
        },
        "files": {EVIL: {"bytes": 3, "sha256": "ab"}},
        "provenance": {EVIL: EVIL, "metrics": {"auc": 0.7}},
    }
    shown = "\n".join(lines(*showing.fact_tables(facts)))
    assert shown.count(SHOWN) == 9
    assert "\x1b" not in shown
    assert shown.splitlines()[1:4] == [
        f"path         {SHOWN}",
        f"description  {SHOWN}",
        f"owner        {SHOWN}",
    ]
    for words in (
        "version 4",
        "aliases      champion",
        "signed       yes",
        "profile      cdcd",
        "[-1, 3]",
        '{"auc": 0.7}',
    ):
        assert words in shown


def test_numbers_are_flush_right() -> None:
    assert lines(tables.table(["N", "WORD"], [["1", "a"], ["100", "b"]], right={0})) == [
        "  N  WORD",
        "  1  a",
        "100  b",
    ]


def test_what_a_narrow_terminal_has_no_line_for_goes_on_in_the_next() -> None:
    assert "".join(lines(tables.table(["X"], [["abcdefghij" * 3]]), width=20)[1:]) == "abcdefghij" * 3


def test_nothing_is_shown_that_has_no_end() -> None:
    shown = lines(tables.table(["X"], [["a" * 100_000]]), width=10_000)
    assert len("".join(shown)) < 3_000


def test_what_was_looked_at() -> None:
    shown = lines(
        showing.check_table([{**LOOKED, "signed": True}, {**LOOKED, "version": 5, "problem": "long story"}])
    )
    assert shown[1].split() == ["flights", "4", "1.5", "KiB", "yes", "sound"]
    assert shown[2].split() == ["flights", "5", "1.5", "KiB", "no", "broken"]


def test_what_an_import_made() -> None:
    row = {"from": "t/1/model.onnx", "model": "m", "version": None, "alias": "champion", "problem": None}
    shown = lines(showing.import_table([row, {**row, "version": 3}, {**row, "problem": "no model"}]))
    assert [line.split("champion  ")[1] for line in shown[1:]] == [
        "the next version",
        "version 3",
        "no model",
    ]


def test_into_a_pipe_a_table_is_as_wide_as_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show(tables.table(["A", "B"], [["a" * 300, "b" * 300]]))
    assert capsys.readouterr().out.splitlines()[1].split() == ["a" * 300, "b" * 300]


@pytest.mark.parametrize("name", ["n" * 24, "n" * 500])
@pytest.mark.parametrize(
    ("width", "heads", "figures"),
    [
        (53, "NAME ONE TWO THREE", "0.1111 0.2222 0.0% → 0.0%"),
        (52, "NAME ONE THREE", "0.1111 0.0% → 0.0%"),
        (44, "NAME ONE", "0.1111"),
        (20, "NAME ONE", "0.1111"),
    ],
)
def test_figures_are_left_out_before_one_is_broken(name: str, width: int, heads: str, figures: str) -> None:
    row = [name, "0.1111", "0.2222", "0.0% → 0.0%"]
    made = tables.Fitting(["NAME", "ONE", "TWO", "THREE"], [row], right=["ONE"], spare=["TWO", "THREE"])
    shown = lines(made, width=width)
    assert shown[0].split() == heads.split()
    assert " ".join(shown[1].split()[1:]) == figures
    assert ("too narrow" in " ".join(shown)) is ("TWO" not in heads)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**30, "3.0 GiB"),
        (2**60, "1048576.0 TiB"),
    ],
)
def test_sizes(count: int | None, shown: str) -> None:
    assert tables.size(count) == shown


def test_nothing_and_none_are_told_apart() -> None:
    assert (tables.figure(0.0, ".3f"), tables.figure(None, ".3f")) == ("0.000", "–")
    assert (tables.share(0, 5), tables.share(0, 0)) == ("0.0%", "–")


def test_progress_is_for_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 100, "bytes", quiet=False) as advance:
        advance(100, "flights/1")
    assert capsys.readouterr() == ("", "")


_BAR = (
    "from fastserve.cli.progress import progress\n"
    "with progress('\\x1b[2Jreading', 2048, 'bytes', quiet={quiet}) as advance:\n"
    "    advance(1024, 'flights/[red]1\\x1b[2J')\n"
    "print('done')\n"
)


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_on_a_terminal(quiet: bool) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _BAR.format(quiet=quiet)],
            env={**environment(), "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
        )
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
    finally:
        os.close(ours)
    assert (done.returncode, done.stdout) == (0, b"done\n")
    assert (rb"flights/[red]1\x1b[2J" in seen) is not quiet
    assert b"\x1b[2J" not in seen
    assert not quiet or seen == b""


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end of a terminal is closed
        return b""
