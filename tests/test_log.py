"""What keeps a log short."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import re
import resource
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from fastserve.log import Seldom, configure_logging


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_text_comes_once_a_period_and_then_says_how_often() -> None:
    clock = Clock()
    seldom = Seldom(60.0, 10, clock)
    assert [seldom.admit("no") for _ in range(1_235)] == ["no"] + [None] * 1_234
    clock.now_s += 59.9
    assert seldom.admit("no") is None
    clock.now_s += 0.2
    assert seldom.admit("no") == "no (and 1,235 times more before)"
    clock.now_s += 60
    assert seldom.admit("no") == "no"


def test_other_texts_come_through_up_to_a_bound() -> None:
    clock = Clock()
    seldom = Seldom(60.0, 10, clock)
    came = [text for number in range(10_000) if (text := seldom.admit(f"row {number}")) is not None]
    assert came == [f"row {number}" for number in range(10)]
    clock.now_s += 60
    assert seldom.admit("row 9999") == "row 9999"
    clock.now_s += 1_000_000
    assert [seldom.admit("row 1") for _ in range(2)] == ["row 1", None]


@dataclass
class Settings:
    level: str = "info"
    format: Literal["text", "json"] = "text"


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    names = ("fastserve", "uvicorn.error", "opentelemetry", "psycopg")
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in names}
    yield
    for name, (handlers, level) in before.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = True


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("form", ["text", "json"])
def test_what_libraries_say_of_every_request_is_logged_seldom(
    form: Literal["text", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(Settings(format=form))
    for _ in range(1_000):
        logging.getLogger("opentelemetry.trace.span").warning("Invalid tracestate %s", "x" * 5_000)
        logging.getLogger("fastserve.http").warning("ours")
    lines = capsys.readouterr().err.splitlines()
    assert sum("Invalid tracestate x" in line for line in lines) == 1
    assert sum("ours" in line for line in lines) == 1_000
    assert max(map(len, lines)) < 1_200


@pytest.mark.usefixtures("logging_as_before")
def test_a_path_that_is_not_utf_8_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # as in a worker, which the supervisor has forked
        configure_logging(Settings(format="json"))
    logging.getLogger("fastserve.app").info("serving %s", os.fsdecode(b"/srv/mod\xe8les"))
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "serving /srv/mod\\udce8les"


@pytest.mark.usefixtures("logging_as_before")
def test_times_have_their_zone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    record = logging.LogRecord("fastserve.app", logging.INFO, "", 0, "ready", None, None)
    record.created = 1e9 + 0.0625
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    try:
        for settings in (Settings(), Settings(format="json")):
            configure_logging(settings)
            logging.getLogger("fastserve").handle(record)
    finally:
        monkeypatch.undo()
        time.tzset()
    text, as_json = capsys.readouterr().err.splitlines()
    assert text.split()[0] == json.loads(as_json)["time"] == "2001-09-09T07:16:40.062+05:30"


@pytest.mark.usefixtures("logging_as_before")
def test_names_of_strangers_write_no_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings())
    logging.getLogger("fastserve.lifecycle").error("output '%s'", "o\x1b[2J\n2026 INFO ready\u202e")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("ERROR   fastserve.lifecycle: output 'o\\x1b[2J\\n2026 INFO ready\\u202e'")


@pytest.mark.usefixtures("logging_as_before")
def test_collectors_get_the_level_the_room_and_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(format="json"))
    logging.getLogger("psycopg").warning("what SQLAlchemy reports anyway")
    logging.getLogger("fastserve.app").error("it crashed", exc_info=ValueError("a fault"))
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["level"], said["logger"], said["message"]) == ("error", "fastserve.app", "it crashed")
    assert said["exception"] == "ValueError: a fault"


@pytest.mark.usefixtures("logging_as_before")
def test_times_are_what_collectors_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    configure_logging(Settings(format="json"))
    try:
        logging.getLogger("fastserve.app").info("ready")
    finally:
        monkeypatch.undo()
        time.tzset()
    said = json.loads(capsys.readouterr().err)["time"]
    # RFC 3339: the offset with a colon; milliseconds, or lines of one second have no order.
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+05:45", said)


@pytest.mark.usefixtures("logging_as_before")
def test_a_request_that_ends_with_the_server_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings())
    log = logging.getLogger("uvicorn.error")
    log.error("Exception in ASGI application", exc_info=asyncio.CancelledError("timeout"))
    log.error("Cancel %s running task(s), timeout graceful shutdown exceeded", 3)
    assert capsys.readouterr().err == ""
    log.error("Exception in ASGI application", exc_info=ValueError("a fault"))
    log.error(OSError("another"))
    told = capsys.readouterr().err
    assert "ValueError: a fault" in told and "another" in told


@pytest.mark.usefixtures("logging_as_before")
def test_nobody_waits_for_who_does_not_read_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 8_192)
    with open(writer, "w", encoding="utf-8") as written, open(reader, "rb"):
        monkeypatch.setattr(sys, "stderr", written)
        configure_logging(Settings())
        log = logging.getLogger("fastserve.app")

        def work() -> None:
            for number in range(200):
                log.info("line %d %s", number, "x" * 100)
            log.info("%s", "y" * 20_000)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        said = os.read(reader, 8_192).decode().splitlines()
        assert 20 < len(said) < 100 and said[-1].endswith("x")
        log.info("read again")
        gap, last = os.read(reader, 8_192).decode().splitlines()
        assert f"WARNING fastserve.log: {201 - len(said)} lines are missing here" in gap
        assert last.endswith("read again")
        log.info("%s", "y" * 20_000)  # begun, and cut off
        log.info("lost")
        assert os.read(reader, 8_192).endswith(b"y")
        log.info("read again")
        end, gap, last = os.read(reader, 8_192).decode().split("\n", 2)
        assert end == "" and "2 lines are missing here" in gap and "read again" in last
        thread = threading.Thread(target=log.info, args=("%s", "€" * 20_000), daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), "letters of several bytes are no more than a pipe takes either"


@pytest.mark.usefixtures("logging_as_before")
def test_a_log_that_nobody_can_read_any_more_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    (reader, writer), lines = os.pipe(), 0
    with contextlib.suppress(BrokenPipeError), open(writer, "w", encoding="utf-8") as written:
        monkeypatch.setattr(sys, "stderr", written)
        configure_logging(Settings())
        os.close(reader)
        while lines < 2:
            logging.getLogger("fastserve.app").info("as into `head`, which has ended")
            lines += 1
    assert lines == 2


@pytest.mark.usefixtures("logging_as_before")
def test_a_log_goes_on_behind_what_a_full_disk_did_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("w") as written:
        monkeypatch.setattr(sys, "stderr", written)
        configure_logging(Settings(format="json"))
        log = logging.getLogger("fastserve.app")
        log.info("first")
        resource.setrlimit(resource.RLIMIT_FSIZE, (written.tell() + 40, limits[1]))
        try:
            for number in range(3):
                log.info("line %d", number)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.info("last")
    first, torn, gap, last = (tmp_path / "log").read_text().splitlines()
    assert len(torn) == 40
    said = [json.loads(line)["message"] for line in (first, gap, last)]
    assert said == ["first", "3 lines are missing here: nobody took them", "last"]
