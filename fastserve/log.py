"""Logging for people and for collectors; every logger is `fastserve.<room>`."""

import asyncio
import logging
import os
import select
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, Protocol, TextIO

import orjson

from fastserve.text import visible

# psycopg warns of what SQLAlchemy reports anyway.
_LIBRARIES = {"uvicorn.error": "WARNING", "opentelemetry": "WARNING", "psycopg": "ERROR"}

_PIECE = 4_096
"""Bytes that a pipe takes at once where it takes anything."""
_PATIENCE_MS = 500


class _Settings(Protocol):
    @property
    def level(self) -> str: ...
    @property
    def format(self) -> Literal["text", "json"]: ...


class JsonFormatter(logging.Formatter):
    """One JSON object a line, written by a serialiser."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        fields = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        # A path need not be UTF-8.
        return orjson.dumps({name: _encodable(text) for name, text in fields.items()}).decode()


def _time(record: logging.LogRecord) -> str:
    """Local time with its offset from UTC, as ISO 8601 writes it."""
    return datetime.fromtimestamp(record.created, UTC).astimezone().isoformat(timespec="milliseconds")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class _TextFormatter(logging.Formatter):
    """One line a message: what strangers wrote into it moves no cursor and begins no line of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return _time(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        record.message = visible(record.message)
        return super().formatMessage(record)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to stderr, and leaves out what nobody takes: no process waits for who does not read its log."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._lost = 0
        self._cut = False
        """The last line that was begun has no end."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write it while there is room; when there is again, how many were not."""
        try:
            if not (self._catch_up() and self._write(self.format(record))):
                self._lost += 1
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def _catch_up(self) -> bool:
        """Tell how many lines are missing, if any; False while there is no room for that either."""
        if self._lost:
            gap = {"name": "fastserve.log", "levelno": logging.WARNING, "levelname": "WARNING"}
            gap["msg"] = f"{self._lost} lines are missing here: nobody took them"
            if not self._write(self.terminator * self._cut + self.format(logging.makeLogRecord(gap))):
                return False
            self._lost = 0
        return True

    def _write(self, line: str) -> bool:
        """Write past the stream's buffer, which would keep what failed and try again; False: not all."""
        line += self.terminator
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError):  # it is no file
            self.stream.write(line)
            return True
        rest = memoryview(line.encode(self.stream.encoding, "backslashreplace"))
        while rest:
            try:
                written = os.write(descriptor, rest[:_PIECE]) if self._has_room(descriptor) else 0
            except OSError:  # the disk is full, or the reader is gone
                written = 0
            if not written:
                return False
            self._cut, rest = True, rest[written:]
        self._cut = False
        return True

    def _has_room(self, descriptor: int) -> bool:
        room = select.poll()
        room.register(descriptor, select.POLLOUT)
        return bool(room.poll(0 if self._lost else _PATIENCE_MS))


def configure_logging(options: _Settings) -> None:
    """Send `fastserve.*`, and what libraries have to say, to stderr in the form asked for."""
    levels = {"fastserve": options.level.upper(), **_LIBRARIES}
    for name, at in levels.items():
        handler = _Handler()
        if options.format == "json":
            handler.setFormatter(JsonFormatter())
        else:
            handler.setFormatter(_TextFormatter())
        if name in _LIBRARIES:
            handler.addFilter(_not_cancelled)
            handler.addFilter(_SeldomFilter())
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(at)
        logger.propagate = False


def _not_cancelled(record: logging.LogRecord) -> bool:
    """What is given up because the server ends is no error of anybody's."""
    if isinstance(record.msg, str) and record.msg.startswith("Cancel %s running task"):  # of uvicorn
        return False
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class Seldom:
    """Keeps a log short while something goes wrong thousands of times: each text once a period.

    Parameters
    ----------
    period_s
        Length of a period, in seconds.
    most
        Different texts that a period lets through.
    now_s
        A clock that never goes back.
    """

    def __init__(
        self, period_s: float = 60.0, most: int = 60, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._period_s = period_s
        self._most = most
        self._now_s = now_s
        self._began_s = now_s()
        self._held: dict[str, int] = {}
        self._before: dict[str, int] = {}

    def admit(self, text: str) -> str | None:
        """What to log: the text, with how often it was held back in the period before; None: nothing."""
        now_s = self._now_s()
        if now_s - self._began_s >= self._period_s:
            self._began_s = now_s
            self._before, self._held = self._held, {}
        if text in self._held:
            self._held[text] += 1
            return None
        if len(self._held) >= self._most:
            return None
        self._held[text] = 0
        more = self._before.pop(text, 0)
        return f"{text} (and {more:,} times more before)" if more else text


class _SeldomFilter(logging.Filter):
    """Lets a record through as often as a `Seldom` admits its text, of which the beginning is enough.

    For what libraries log of every request: a client may write to it as often as it likes.
    """

    _TEXT_LIMIT = 1_000

    def __init__(self) -> None:
        super().__init__()
        self._seldom = Seldom()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged; its text says how often it was not."""
        text = self._seldom.admit(record.getMessage()[: self._TEXT_LIMIT])
        if text is None:
            return False
        record.msg, record.args = text, ()
        return True
