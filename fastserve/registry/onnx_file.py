"""What an ONNX file says of itself, read from its bytes before any runtime opens it.

One pass forward over the protobuf wire format, which opens only what can hold an operator or a tensor and
seeks over the weights. The `onnx` package could tell too, but is no dependency, and reads every weight to do
so. Whatever the bytes are, memory, depth and work are bounded. The file is read, not mapped: a map of a file
that somebody cuts short kills the process.
"""

import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

from fastserve.errors import ModelRejected
from fastserve.registry import files

MAX_BYTES = 2**31 - 1
"""Where protobuf ends: no runtime reads a larger file."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_MODEL, _GRAPH, _NODE, _ATTRIBUTE, _FUNCTION, _TRAINING, _SPARSE, _TENSOR, _ENTRY, _OPSET = range(10)

_CHILDREN: dict[int, dict[int, int]] = {
    _MODEL: {7: _GRAPH, 8: _OPSET, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _FUNCTION: {7: _NODE, 9: _OPSET, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {13: _ENTRY},
    _ENTRY: {},
    _OPSET: {},
}
"""Field numbers of onnx.proto by message, as far as operators and tensors can be below them."""

_ONCE: dict[int, frozenset[int]] = {
    _MODEL: frozenset({7}),
    _ATTRIBUTE: frozenset({5, 6, 22}),
    _TRAINING: frozenset({1, 2}),
    _SPARSE: frozenset({1, 2}),
}
"""Messages that are not repeated: a parser merges a second one into the first, which is a way to hide."""

_TEXTS: dict[int, frozenset[int]] = {
    _NODE: frozenset({4, 7}),
    _FUNCTION: frozenset({1, 10}),
    _ENTRY: frozenset({1, 2}),
    _OPSET: frozenset({1}),
}
"""Operator and domain; name and domain; key and value; domain."""

_NUMBERS: dict[int, frozenset[int]] = {
    _MODEL: frozenset({1}),
    _TENSOR: frozenset({14}),
    _OPSET: frozenset({2}),
}
"""IR version; data location; version."""

_SILENT = frozenset({_ATTRIBUTE, _TENSOR})
"""Messages that say nothing by being there."""

_WINDOW_BYTES = 16 * 1024
_LOOK_AHEAD_BYTES = 32
"""Enough for one tag and one length."""
_MAX_DEPTH = 100
"""Messages in messages; protobuf itself goes no deeper."""
_MAX_STEPS = 1_000_000
_MAX_ENTRIES = 16
_MAX_TEXT_BYTES = 4096
_MAX_FACTS = 100_000
_NONE: frozenset[int] = frozenset()

_OTHER_FORMATS = {
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches what it points to",
    b"PK\x03\x04": "a ZIP archive, as torch.save and Keras write; export the model to ONNX",
    b"\x80": "a Python pickle; convert the model to ONNX",
    b"\x89HDF": "HDF5, as Keras writes; convert the model to ONNX",
    b"\x1f\x8b": "compressed with gzip",
}
"""First bytes of what is published by mistake."""

_NO_TEXTS: dict[int, str] = {}
_NO_NUMBERS: dict[int, int] = {}
_NO_ENTRIES: dict[str, str] = {}

_Fact = TypeVar("_Fact")


@dataclass(frozen=True, slots=True)
class External:
    """Where one tensor outside the file lies; None: from the beginning, to the end."""

    location: str
    offset: str | None
    length: str | None


@dataclass(slots=True)
class OnnxFacts:
    """What an ONNX file says of itself; `operators` and `functions` are pairs of domain and name."""

    ir_version: int = 0
    opsets: set[tuple[str, int]] = field(default_factory=set)
    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    external: set[External] = field(default_factory=set)


class Malformed(Exception):
    """What the file is instead of ONNX, as the end of a sentence."""


def read_facts(path: Path, label: str) -> OnnxFacts:
    """Read an ONNX file's facts; ModelRejected, with `label` for the file, when it is none."""
    with files.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise ModelRejected(f"{label} is empty")
        if size > MAX_BYTES:
            raise ModelRejected(
                f"{label} is larger than 2 GiB, which no runtime reads: keep its weights as external data"
            )
        try:
            return _Walk(file.fileno(), size).run()
        except (Malformed, UnicodeDecodeError) as error:
            raise ModelRejected(f"{label} is not an ONNX file: {_format(file.fileno()) or error}") from error


def _format(descriptor: int) -> str:
    """Name the format that a file which is not ONNX has, as the end of a sentence; empty when unknown."""
    start = os.pread(descriptor, _LOOK_AHEAD_BYTES, 0)
    return next((f"it is {what}" for magic, what in _OTHER_FORMATS.items() if start.startswith(magic)), "")


class _Message:
    """One message that is being read."""

    __slots__ = ("entries", "kind", "numbers", "seen", "stop", "texts")

    def __init__(self, kind: int, stop: int) -> None:
        self.kind = kind
        self.stop = stop
        self.seen = _NONE
        # Most messages have none of these: a model of a million parts is read in half the time.
        self.texts = _NO_TEXTS
        self.numbers = _NO_NUMBERS
        self.entries = _NO_ENTRIES


class _Walk:
    """The pass over one file."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._window = b""
        self._base = 0
        self._stack = [_Message(_MODEL, size)]
        self._facts = OnnxFacts()

    def run(self) -> OnnxFacts:
        """Go from the first byte to the last."""
        at = steps = 0
        stack = self._stack
        while stack:
            message = stack[-1]
            if at == message.stop:
                stack.pop()
                self._finish(message)
                continue
            steps += 1
            if steps > _MAX_STEPS:
                raise Malformed(f"it has more than {_MAX_STEPS} parts")
            start = self._look(at)
            stop = min(message.stop - self._base, len(self._window))
            dull = _dull(message.kind).match(self._window, start, stop)
            # By windows, so that other threads get their turn in between.
            at = self._field(message, start, stop) if dull is None else self._base + dull.end()
        return self._facts

    def _look(self, at: int) -> int:
        """Have the bytes from `at` in the window; give their place in it."""
        start, end = at - self._base, self._base + len(self._window)
        if (at + _LOOK_AHEAD_BYTES > end and end < self._size) or not self._window:
            self._window = os.pread(self._descriptor, _WINDOW_BYTES, at)
            self._base, start = at, 0
            if len(self._window) < min(_LOOK_AHEAD_BYTES, self._size - at):
                raise Malformed("it became shorter while it was read")
        return start

    def _field(self, message: _Message, start: int, stop: int) -> int:
        """Read one field of a message, opening it when it is a message too; give where reading goes on."""
        tag, start = _varint(self._window, start, stop)
        number, kind = tag >> 3, tag & 7
        if tag >= 2**32 or number == 0:
            raise Malformed("a field has an impossible number")
        if kind == _VARINT:
            value, start = _varint(self._window, start, stop)
            if number in _NUMBERS.get(message.kind, _NONE):
                message.numbers = {**message.numbers, number: value}
            return self._base + start
        if kind == _BYTES:
            size, start = _varint(self._window, start, stop)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise Malformed(f"it has a field of unknown wire type {kind}")
        at = self._base + start
        if size > message.stop - at:
            raise Malformed("a field is longer than what holds it")
        if kind == _BYTES and self._open(message, number, at, size):
            return at
        return at + size

    def _open(self, message: _Message, number: int, at: int, size: int) -> bool:
        """Begin to read a field that is a message of interest, or note a text; False: it is passed over."""
        child = _CHILDREN[message.kind].get(number)
        if child is not None:
            if number in _ONCE.get(message.kind, _NONE):
                if number in message.seen:
                    raise Malformed("a part that can be there once is there twice")
                message.seen |= {number}
            if child in _SILENT and self._is_dull(child, at, size):
                return False
            if len(self._stack) >= _MAX_DEPTH:
                raise Malformed(f"it is nested more than {_MAX_DEPTH} deep")
            self._stack.append(_Message(child, at + size))
            return True
        if number in _TEXTS.get(message.kind, _NONE):
            if size > _MAX_TEXT_BYTES:
                raise Malformed(f"it has a name of {size} bytes")
            message.texts = {**message.texts, number: self._text(at, size)}
        return False

    def _is_dull(self, kind: int, at: int, size: int) -> bool:
        """Tell at one glance whether a small message says nothing here: most attributes do not."""
        start = at - self._base
        stop = start + size
        return stop <= len(self._window) and _dull(kind).fullmatch(self._window, start, stop) is not None

    def _text(self, at: int, size: int) -> str:
        start = at - self._base
        if start + size <= len(self._window):
            return self._window[start : start + size].decode()
        return os.pread(self._descriptor, size, at).decode()

    def _finish(self, message: _Message) -> None:
        """Keep what a message said, now that all of it is known."""
        kind, texts, facts = message.kind, message.texts, self._facts
        if kind == _NODE:
            _keep(facts.operators, (texts.get(7, ""), texts.get(4, "")))
        elif kind == _ENTRY:
            self._add_entry(self._stack[-1], texts.get(1, ""), texts.get(2, ""))
        elif kind == _TENSOR:
            if message.entries or message.numbers.get(14):
                _keep(facts.external, _external(message.entries))
        elif kind == _FUNCTION:
            _keep(facts.functions, (texts.get(10, ""), texts.get(1, "")))
        elif kind == _OPSET:
            _keep(facts.opsets, (texts.get(1, ""), message.numbers.get(2, 0)))
        elif kind == _MODEL:
            facts.ir_version = message.numbers.get(1, 0)
            if 7 not in message.seen:
                raise Malformed("it has no graph")

    def _add_entry(self, tensor: _Message, key: str, value: str) -> None:
        if key in tensor.entries:
            raise Malformed(f"a tensor has {key[:64]!r} twice")
        if len(tensor.entries) == _MAX_ENTRIES:
            raise Malformed(f"a tensor has more than {_MAX_ENTRIES} entries of external data")
        tensor.entries = {**tensor.entries, key: value}


def _keep(found: set[_Fact], fact: _Fact) -> None:
    if len(found) == _MAX_FACTS:
        raise Malformed(f"it has more than {_MAX_FACTS} different operators or tensors")
    found.add(fact)


def _external(entries: dict[str, str]) -> External:
    location = entries.get("location")
    if location is None:
        raise Malformed("a tensor is said to lie outside, but not where")
    return External(location, entries.get("offset"), entries.get("length"))


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    if at < stop and data[at] < 0x80:
        return data[at], at + 1
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed("a number is cut off")


@cache
def _dull(kind: int) -> re.Pattern[bytes]:
    """Match a run of fields that say nothing here: trees have millions, which take Python alone too long.

    Fields 1 to 15, and 20: the type of an attribute. An atomic group, so that nothing is tried twice; as a
    possessive repetition the same goes wrong before Python 3.11.5 (gh-106052).
    """
    interesting = {*_CHILDREN[kind], *_TEXTS.get(kind, _NONE)}

    def tags(wire: int, without: set[int] | frozenset[int]) -> bytes:
        return b"[%s]" % b"".join(b"\\x%02x" % (n << 3 | wire) for n in range(1, 16) if n not in without)

    short = b"|".join(b"\\x%02x.{%d}" % (size, size) for size in range(128))
    return re.compile(
        b"(?s)(?>(?:(?:%s|\\xa0\\x01)[\\x80-\\xff]{0,9}[\\x00-\\x7f]|%s.{4}|%s.{8}|%s(?:%s))+)"
        % (
            tags(_VARINT, _NUMBERS.get(kind, _NONE)),
            tags(_FIXED32, _NONE),
            tags(_FIXED64, _NONE),
            tags(_BYTES, interesting),
            short,
        )
    )
