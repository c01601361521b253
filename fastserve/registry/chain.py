"""What a line of an audit log is, as bytes: each carries the hash of the line before it.

Nothing here touches the disk: `audit` writes, `reading` reads, this module says what the bytes mean.
"""

import hashlib
import json
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastserve.errors import RegistryError
from fastserve.registry.names import is_version

MAX_LINE_BYTES = 64 * 1024
MAX_HEAD_BYTES = 4 * 1024
START = "0" * 64
"""What the first line carries, having no line before it."""
BROKEN = "audit-broken"
"""The event with which a log goes on after somebody has damaged it, so that the damage stays known."""

_HEX = frozenset("0123456789abcdef")
_LINE_KEYS = ["seq", "at", "by", "event", "details", "previous"]
_HEAD_KEYS = {"seq": "seq", "sha256": "sha256", "bytes": "size", "newest_version": "newest_version"}


@dataclass(frozen=True, slots=True)
class AuditLine:
    """One thing that happened to a model."""

    seq: int
    at: str
    """UTC, ISO 8601; told by the writer's clock, which may be wrong: the order is that of `seq`."""
    by: str
    """user@host"""
    event: str
    details: Mapping[str, Any]
    previous: str
    """The sha256 of the line before."""

    def to_bytes(self) -> bytes:
        """Give the line as it is written; RegistryError when it is too long or no JSON."""
        content = {key: getattr(self, key) for key in _LINE_KEYS}
        try:
            data = json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise RegistryError(f"'{self.event}' cannot be written into the audit log: {error}") from error
        if len(data) > MAX_LINE_BYTES:
            raise RegistryError(
                f"'{self.event}' cannot be written into the audit log: it takes {len(data)} bytes, "
                f"a line has at most {MAX_LINE_BYTES}"
            )
        return data


@dataclass(frozen=True, slots=True)
class Head:
    """What is kept apart from the log: how far it went when it was last written to."""

    seq: int = 0
    sha256: str = START
    """Of the last line, its end of line included."""
    size: int = 0
    """Bytes of the log."""
    newest_version: int = 0
    """The highest number that was ever published here, so that none is given twice."""

    def to_bytes(self) -> bytes:
        """Give the file's content."""
        content = {key: getattr(self, name) for key, name in _HEAD_KEYS.items()}
        return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def new_line(head: Head, event: str, details: Mapping[str, Any]) -> AuditLine:
    """Make the line that follows what `head` knows: now, by whoever runs this process."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return AuditLine(head.seq + 1, at, whoami(), event, dict(details), head.sha256)


def head_after(head: Head, line: AuditLine, data: bytes) -> Head:
    """Give the head that covers one line more."""
    newest = head.newest_version
    version = line.details.get("version")
    if line.event == "publish" and is_version(version):
        newest = max(newest, version)
    return Head(line.seq, digest(data), head.size + len(data), newest)


def digest(data: bytes) -> str:
    """Give the hash that the next line carries."""
    return hashlib.sha256(data).hexdigest()


def parse_line(data: bytes) -> AuditLine:
    """Read one line, its end of line included; ValueError when it is none."""
    content = _object(data, MAX_LINE_BYTES)
    if not data.endswith(b"\n") or list(content) != _LINE_KEYS:
        raise ValueError("not an audit line")
    line = AuditLine(**content)
    are_texts = all(isinstance(text, str) for text in (line.at, line.by, line.event))
    if not (_is_count(line.seq) and are_texts and isinstance(line.details, dict) and _is_hash(line.previous)):
        raise ValueError("not an audit line")
    return line


def parse_head(data: bytes) -> Head:
    """Read a head; ValueError when it is none."""
    content = _object(data, MAX_HEAD_BYTES)
    if content.keys() != _HEAD_KEYS.keys():
        raise ValueError("not the head of an audit log")
    head = Head(**{name: content[key] for key, name in _HEAD_KEYS.items()})
    if not (all(map(_is_count, (head.seq, head.size, head.newest_version))) and _is_hash(head.sha256)):
        raise ValueError("not the head of an audit log")
    return head


def whoami() -> str:
    """Name who runs this process: user@host, also where the user has no name."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except (KeyError, OSError):
        user = f"uid{os.geteuid()}"  # a container that runs under an arbitrary number
    return f"{user}@{os.uname().nodename}"[:256]


def _object(data: bytes, limit_bytes: int) -> dict[str, Any]:
    if len(data) > limit_bytes:
        raise ValueError("too long")
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= _HEX
