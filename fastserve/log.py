"""Logging for people and for collectors; every logger is `fastserve.<room>`."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Literal, Protocol

import orjson


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
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(fields).decode()


def configure_logging(options: _Settings) -> None:
    """Send `fastserve.*`, and what uvicorn and OpenTelemetry warn of, to stderr in the form asked for."""
    handler = logging.StreamHandler(sys.stderr)
    if options.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    level = options.level.upper()
    levels = {"fastserve": level, "uvicorn.error": "WARNING", "opentelemetry": "WARNING"}
    for name, at in levels.items():
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(at)
        logger.propagate = False


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
