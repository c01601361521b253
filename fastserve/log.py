"""Logging for people and for collectors; every logger is `fastserve.<room>`."""

import logging
import sys
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
