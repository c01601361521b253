"""JSON text to Python values: orjson, bounds on nesting before it, the name of the field after a failure."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

from fastserve.errors import InvalidRequest
from fastserve.frontends.http.errors import printable
from fastserve.types import Array

_MINUS_ZERO = re.compile(rb"-0(?![.eE0-9])")
"""1e-0 too, passed over later: a pattern that begins with plain bytes is found twenty times as fast."""

_BLOCK_BYTES = 1 << 20
_DIAGNOSIS_BYTES = 1 << 20
"""Bodies up to this size are read a second time, slowly, to say where the mistake is."""

_LONG_NUMBER = re.compile(
    rb"(?<![-+.\w])-?(?=[\d.]{769})(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][-+]?\d++)?(?![-+.\w])"
)
"""Of 768 digits or more: orjson takes any others behind them for more than zero."""
_RUN_BYTES = 192
"""So many digits, from a multiple of it on, stand in every long number, wherever its point is."""

_SHOWN = 40

_MAX_CONTAINERS = 1_000_000
"""Lists and objects in one document: as Python values each takes 30 times the bytes that it took to send."""

_NO_BRACKET = bytes(set(range(256)) - set(b'[]{}"'))
_STEP = np.zeros(256, np.int8)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_GOES_ON = np.zeros(256, np.bool_)
_GOES_ON[list(b".eE0123456789")] = True
_FRACTION = np.frombuffer(b".0", np.uint8)


def loads(text: bytes, max_depth: int) -> Any:
    """Parse a JSON document.

    The last of equal keys wins; -0 is the number -0.0, which JSON libraries read as the integer 0.

    Raises
    ------
    InvalidRequest
        Not JSON, nested deeper than `max_depth` levels, or more than a million lists and objects.
    """
    # Brackets in strings are counted too, at first: most documents have few of either.
    if text.count(b"[") + text.count(b"{") > max_depth:
        containers, depth = nesting(text)
        if containers > _MAX_CONTAINERS:
            raise InvalidRequest(
                f"the JSON has more than {_MAX_CONTAINERS} lists and objects; send data flat or in binary",
                "body",
            )
        if depth > max_depth:
            raise InvalidRequest(f"the JSON is nested deeper than {max_depth} levels", "body")
    if any(text[at : at + _RUN_BYTES].isdigit() for at in range(0, len(text) - _RUN_BYTES, _RUN_BYTES)):
        text = _with_short_numbers(text)
    if b"-0" in text and _MINUS_ZERO.search(text):
        text = _with_fractions(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _diagnose(text, error) from None


def _unescaped(text: bytes) -> bytes:
    """Write other bytes, as many, for the escapes in which a quote does not end a string."""
    return text.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in text else text


def _blocks(text: bytes) -> Iterator[tuple[Array, Array]]:
    """Cut the text, whose strings may be millions, into blocks of bytes, and tell which are in a string."""
    text = _unescaped(text)
    inside = False
    for start in range(0, len(text), _BLOCK_BYTES):
        block = np.frombuffer(text, np.uint8, min(_BLOCK_BYTES, len(text) - start), start)
        quotes = np.cumsum(block == ord('"'), dtype=np.uint8)  # odd or even is all that matters
        within = (quotes & 1).astype(np.bool_) ^ inside
        inside = bool(within[-1])
        yield block, within


def nesting(text: bytes) -> tuple[int, int]:
    """Count the lists and objects outside strings, and the levels that they nest to, without recursion.

    A backslash outside strings is no JSON: what comes after it is not counted rightly.
    """
    brackets = _unescaped(text).translate(None, _NO_BRACKET).replace(b'""', b"")
    if b'"' not in brackets:  # no string has a bracket in it: nothing but brackets is left
        text = brackets
    containers = depth = deepest = 0
    for block, within in _blocks(text):
        steps = np.where(within, 0, _STEP[block])
        depths = np.cumsum(steps[steps != 0], dtype=np.int64)
        if depths.size:
            containers += int(np.count_nonzero(steps > 0))
            deepest = max(deepest, depth + int(depths.max()))
            depth += int(depths[-1])
    return containers, deepest


def _with_fractions(text: bytes) -> bytes:
    """Write -0.0 for every -0 outside strings."""
    whole = np.frombuffer(text + b"  ", np.uint8)
    pieces: list[bytes] = []
    start = done = 0
    for block, within in _blocks(text):
        at = start + np.flatnonzero((block == ord("-")) & ~within)
        at = at[(whole[at + 1] == ord("0")) & ~_GOES_ON[whole[at + 2]] & (whole[at - 1] | 0x20 != ord("e"))]
        start += len(block)
        stop = max(start, int(at[-1]) + 2) if at.size else start
        ends = np.repeat(at + 2 - done, len(_FRACTION))
        pieces.append(np.insert(whole[done:stop], ends, np.tile(_FRACTION, at.size)).tobytes())
        done = stop
    return b"".join(pieces)


def _with_short_numbers(text: bytes) -> bytes:
    """Write the nearest double's own digits for every long number outside strings."""
    plain = _unescaped(text)
    pieces: list[bytes] = []
    done = quotes = 0
    for found in _LONG_NUMBER.finditer(plain):
        quotes += plain.count(b'"', done, found.start())
        value = math.inf if quotes % 2 else float(found[0])
        pieces += text[done : found.start()], found[0] if math.isinf(value) else b"%r" % value
        done = found.end()
    return b"".join([*pieces, text[done:]])


class _NotJson(str):
    """A NaN or Infinity token where JSON has no such thing."""


class _TooLarge(str):
    """A number beyond the largest double."""


def _number(text: str) -> str | None:
    if not math.isinf(float(text)):
        return None
    return _TooLarge(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def _diagnose(text: bytes, error: orjson.JSONDecodeError) -> InvalidRequest:
    """Find the field of a number that JSON cannot carry; for every other mistake say what the parser said."""
    plain = InvalidRequest(f"the body is not valid JSON: {error}", "body")
    if len(text) > _DIAGNOSIS_BYTES:
        return plain
    try:
        document = json.loads(text, parse_constant=_NotJson, parse_float=_number, parse_int=_number)
    except (ValueError, RecursionError):
        return plain
    for path, value in _leaves(document):
        if isinstance(value, _NotJson):
            field, place = _named(path, document)
            return InvalidRequest(
                f"{place} is {value}, which is not JSON; send null for a missing number", field
            )
        if isinstance(value, _TooLarge):
            field, place = _named(path, document)
            return InvalidRequest(f"{place} is {value}, which is out of the range of FP64", field)
    return plain


def _leaves(document: object) -> Iterator[tuple[list[str | int], object]]:
    """Walk a document in its order: the keys and indexes that lead to a value, and the value."""
    path: list[str | int] = []
    levels: list[Iterator[tuple[str | int, object]]] = [iter([("", document)])]
    while levels:
        for key, value in levels[-1]:
            path[len(levels) - 1 :] = [key]
            if isinstance(value, dict):
                levels.append(iter(value.items()))
            elif isinstance(value, list):
                levels.append(iter(enumerate(value)))
            else:
                yield path[1:], value
                continue
            break
        else:
            levels.pop()


def _named(path: list[str | int], document: Any) -> tuple[str, str]:
    """Name the field that a person knows and the place within it, of the first value that JSON cannot carry.

    A field ends at `data`, whose values are counted through, however they are nested.
    """
    field = ""
    for depth, key in enumerate(path):
        document = document[key]
        if isinstance(key, int):
            field += f"[{key}]"
            continue
        field += f".{printable(key, 64)}" if field else printable(key, 64)
        if depth and key == "data":
            wrong = (isinstance(value, _NotJson | _TooLarge) for _, value in _leaves(document))
            return field, f"{field}: value {next(at for at, found in enumerate(wrong) if found)}"
    return field or "body", field or "body"
