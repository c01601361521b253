"""Plots of one feature as inline SVG: bars of both sides beside each other, and a line over time.

Colours come from the page's style by class: `r` reference, `l` live, `t` text, `g` grid, `s` a line.
"""

import math
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from fastserve.monitoring.comparing import FeatureComparison
from fastserve.text import visible

MAX_CATEGORIES = 20
_WIDTH, _LEFT, _RIGHT = 560, 40, 556
_TOP, _BASE = 8, 138
_LABELS, _DIGIT, _MOST_DIGITS, _LONGEST = 9, 7, 10, 7
_ROW, _NAMES = 19, 170
_LINE = (272, 84, 40, 266, 8, 76)


class Slot(NamedTuple):
    """A bin or category: shares of all rows, 0 to 1."""

    name: str
    reference: float
    live: float
    odd: bool = False
    """Out of range, unseen or missing: hatched."""
    ends: tuple[str, str] = ("", "")
    """The edges of a bin in range, for the axis."""


def slots(feature: FeatureComparison, bins: int) -> list[Slot]:
    """Give what the bars stand for.

    Of a number's bins in range there are at most `bins`; beyond that neighbours are taken together.
    """
    made = list(_number_slots(feature, bins) if feature.kind == "number" else _category_slots(feature))
    missing = _shares(feature, feature.reference.missing, feature.live.missing)
    if any(missing):
        made.append(Slot("missing", *missing, odd=True))
    return made


def _shares(feature: FeatureComparison, reference: int, live: int) -> tuple[float, float]:
    return reference / max(feature.reference.rows, 1), live / max(feature.live.rows, 1)


def _number_slots(feature: FeatureComparison, bins: int) -> Iterator[Slot]:
    edges, last = feature.edges, len(feature.edges) - 1
    ours, theirs = feature.reference.counts, feature.live.counts
    step = max(math.ceil(last / bins), 1)
    shown = (*edges[:last:step], edges[last])
    said, label = digits_apart(shown, 6), digits_apart(shown)
    yield Slot(f"≤ {short(shown[0], said)}", *_shares(feature, ours[0], theirs[0]), odd=True)
    for place, (low, high) in enumerate(pairwise(shown)):
        inside = slice(place * step + 1, min((place + 1) * step, last) + 1)
        shares = _shares(feature, sum(ours[inside]), sum(theirs[inside]))
        name = f"{short(low, said)} to {short(high, said)}"
        yield Slot(name, *shares, ends=(short(low, label), short(high, label)))
    yield Slot(f"> {short(shown[-1], said)}", *_shares(feature, ours[-1], theirs[-1]), odd=True)


def _category_slots(feature: FeatureComparison) -> Iterator[Slot]:
    """The largest on either side, the others as one, the unseen."""
    ours, theirs = feature.reference.counts, feature.live.counts

    def largest(at: int) -> float:
        return max(_shares(feature, ours[at], theirs[at]))

    order = sorted(range(len(feature.categories)), key=largest, reverse=True)
    for at in order[:MAX_CATEGORIES]:
        yield Slot(cut(feature.categories[at], 200), *_shares(feature, ours[at], theirs[at]))
    rest = order[MAX_CATEGORIES:]
    if rest:
        shares = _shares(feature, sum(ours[at] for at in rest), sum(theirs[at] for at in rest))
        yield Slot(f"{len(rest)} others", *shares)
    yield Slot("unseen", *_shares(feature, feature.reference.outside, feature.live.outside), odd=True)


def columns(shown: Sequence[Slot], title: str) -> str:
    """Draw a number's bins from left to right, the edges below."""
    wide = (_RIGHT - _LEFT) / len(shown)
    top = _ceiling(max(max(one.reference, one.live) for one in shown))
    paths = dict.fromkeys(("r", "r o", "l", "l o"), "")
    for place, one in enumerate(shown):
        start = _LEFT + (place + 0.06) * wide
        for side, share, shift in (("r", one.reference, 0.0), ("l", one.live, 0.44)):
            if share > 0:
                high = max(share / top * (_BASE - _TOP), 0.5)
                bar = f"M{start + shift * wide:.1f} {_BASE}v-{high:.1f}h{wide * 0.44:.1f}V{_BASE}z"
                paths[f"{side} o" if one.odd else side] += bar
    parts = [_open(_WIDTH, _BASE + 46, title), _grid(top, _LEFT, _RIGHT, _TOP, _BASE)]
    parts += [f'<path class="{side}" d="{path}"/>' for side, path in paths.items() if path]
    parts += _edges(shown, wide)
    return "".join([*parts, "</svg>"])


def _edges(shown: Sequence[Slot], wide: float) -> Iterator[str]:
    inside = [place for place, one in enumerate(shown) if not one.odd]
    longest = max((len(text) for one in shown for text in one.ends), default=0)
    step = max(math.ceil((len(inside) + 1) / _LABELS), math.ceil(longest * _DIGIT / wide), 1)
    for place in inside[::step]:
        yield _text(_LEFT + place * wide, _BASE + 14, shown[place].ends[0])
    if inside and len(inside) % step == 0:
        yield _text(_LEFT + (inside[-1] + 1) * wide, _BASE + 14, shown[inside[-1]].ends[1])
    yield _text(_LEFT + 0.5 * wide, _BASE + 28, "below")
    yield _text(_LEFT + (len(inside) + 1.5) * wide, _BASE + 28, "above")
    if shown[-1].name == "missing":
        yield _text(_RIGHT, _BASE + 42, "missing", anchor="end")


def rows(shown: Sequence[Slot], title: str) -> str:
    """Draw categories from top to bottom, their names at the left."""
    top = _ceiling(max(max(one.reference, one.live) for one in shown))
    high = len(shown) * _ROW + 6
    parts = [_open(_WIDTH, high + 16, title), _grid(top, _NAMES, _RIGHT - 14, 0, high, upright=True)]
    for place, one in enumerate(shown):
        y, more = place * _ROW + 6, " o" if one.odd else ""
        parts.append(_text(_NAMES - 6, y + 11, _beside_bars(one.name), anchor="end"))
        for side, share, shift in (("r", one.reference, 0), ("l", one.live, 7)):
            if share > 0:
                wide = max(share / top * (_RIGHT - 14 - _NAMES), 0.5)
                parts.append(f'<path class="{side}{more}" d="M{_NAMES} {y + shift}h{wide:.1f}v7H{_NAMES}z"/>')
    return "".join([*parts, "</svg>"])


def _beside_bars(name: str) -> str:
    """Cut a name to the room that there is, by about what its letters take at 11 px: its beginning counts."""
    room = _NAMES - 8.0
    for place, letter in enumerate(name):
        is_wide = letter in "MW@" or unicodedata.east_asian_width(letter) in "WF"
        room -= 11.0 if is_wide else 8.0 if letter.isupper() else 6.6
        if room < 0:
            return cut(name, place)
    return name


def line(
    points: Sequence[tuple[float, float | None]], title: str, *, percent: bool = False, least: float = 0.0
) -> str:
    """Draw values over time, which goes from 0 to 1; None is a gap.

    The axis goes to `least` at least: what is nothing is to look like nothing.
    """
    width, height, left, right, top, base = _LINE
    values = [value for _, value in points if value is not None]
    if not values:
        return f'<p class="none">{escape(title)}: no window with rows enough</p>'
    high, below = _ceiling(max(least, *values)), max(-value for value in values)
    low = -_ceiling(below) if below > 0 else 0.0
    scale = (base - top) / (high - low)
    path, before, alone = "", False, False
    for at, value in points:
        if value is None:
            path += "h.1" if alone else ""
            before = alone = False
            continue
        path += f"{'L' if before else 'M'}{left + at * (right - left):.1f} {base - (value - low) * scale:.1f}"
        before, alone = True, not before
    path += "h.1" if alone else ""
    return "".join(
        [
            _open(width, height, title),
            _grid(high, left, right, top, base, low=low, percent=percent),
            f'<path class="s" d="{path}"/></svg>',
        ]
    )


def spark(shown: Sequence[Slot]) -> str:
    """Draw the live shares very small, for a table."""
    top, wide = max(one.live for one in shown) or 1.0, 96 / len(shown)
    path = "".join(
        f"M{place * wide:.1f} 18v-{max(one.live / top * 17, 0.5):.1f}h{wide * 0.8:.1f}V18z"
        for place, one in enumerate(shown)
        if one.live > 0
    )
    head = '<svg viewBox="0 0 96 18" width="96" height="18" aria-hidden="true">'
    return f'{head}<path class="l" d="{path}"/></svg>'


def short(value: float | None, digits: int = 4) -> str:
    """Say a number in a few digits, with up to seven before the point in full; a dash when there is none.

    A subnormal one is 0: the first edge of a feature that begins at 0 lies as little below it.
    """
    if value is None:
        return "–"
    is_long = 10**digits - 0.5 <= abs(value) < 10**_LONGEST
    said = f"{value:.0f}" if is_long else f"{0 if abs(value) < sys.float_info.min else value:.{digits}g}"
    return said.replace("-", "−")


def digits_apart(values: Sequence[float | None], least: int = 4) -> int:
    """Give the digits, few but at most ten, that tell values apart: the days of a year, say."""

    def apart(digits: int) -> int:
        return len({short(value, digits) for value in values})

    most = apart(_MOST_DIGITS)
    return next(digits for digits in range(least, _MOST_DIGITS + 1) if apart(digits) == most)


def cut(text: str, limit: int) -> str:
    """Give text of about so many characters at most, none of which turns the text around it."""
    return visible(text if len(text) <= limit else f"{text[: limit - 1]}…")


def _open(width: int, height: int, title: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text class="t" x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{escape(text)}</text>'


def _grid(
    high: float,
    left: int,
    right: int,
    top: int,
    base: int,
    *,
    low: float = 0.0,
    percent: bool = True,
    upright: bool = False,
) -> str:
    """Lines and labels at the lower end, the middle and the upper end of the axis of values.

    Where it goes below 0 that is the middle, and an end too near it has none.
    """
    parts, path = [], ""
    ends = [value for value in (low, high) if abs(value) > (high - low) / 5]
    for value in [*ends, 0.0] if low < 0 else (low, (low + high) / 2, high):
        share = (value - low) / (high - low)
        label = f"{value * 100:.3g}%" if percent else short(value)
        if upright:
            x = left + share * (right - left)
            path += f"M{x:.1f} {top}V{base}"
            parts.append(_text(x, base + 12, label))
        else:
            y = base - share * (base - top)
            path += f"M{left} {y:.1f}H{right}"
            parts.append(_text(left - 4, y + 4, label, anchor="end"))
    return f'<path class="g" d="{path}"/>' + "".join(parts)


def _ceiling(value: float) -> float:
    """Give the next of 1, 2, 2.5, 5 times a power of ten, for the end of an axis; 1 for nothing."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(next((step * power for step in (1, 2, 2.5, 5) if value <= step * power), 10 * power))
