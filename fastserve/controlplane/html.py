"""A report as one HTML file that needs nothing else: no network, and no script to be read.

Names of features and categories come from strangers: everything is escaped, and the page's policy lets in no
script, style or address but its own.
"""

import base64
import hashlib
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from fastserve.controlplane.html_style import HATCHES, SCRIPT, STYLE
from fastserve.controlplane.reporting import Report, TimePoint
from fastserve.controlplane.svg import Slot, columns, cut, digits_apart, line, rows, short, slots, spark
from fastserve.monitoring.comparing import HIGH, SOME, FeatureComparison

MAX_FEATURES = 2_000
"""Features that the page shows, the worst ones."""

MAX_BYTES = 19 * 10**6
"""Beyond that no more plots are drawn: long names of strangers must not make a file that no browser opens."""

_VALUES_A_BIN = 5
"""Of a window whose PSI is drawn: with fewer it is large without any drift."""

_FEW = 0.01
"""Missing, to which an axis goes at least."""

_HEADS = (
    ("feature", "text"),
    ("role", "text"),
    ("PSI", "number"),
    ("Jensen–Shannon", "number"),
    ("KS", "number"),
    ("missing", "number"),
    ("out of range or unseen", "number"),
    ("mean", "number"),
    ("live", ""),
)
_DISTANCES = (
    ("psi", "PSI"),
    ("jensen_shannon", "Jensen–Shannon"),
    ("hellinger", "Hellinger"),
    ("total_variation", "total variation"),
    ("kolmogorov_smirnov", "Kolmogorov–Smirnov"),
    ("wasserstein", "Wasserstein"),
    ("chi_square", "chi-square"),
    ("degrees", "degrees of freedom"),
)
_WORDS = (
    {"high": "PSI is high", "some": "PSI is raised", "none": "nothing to compare"},
    {"high": "the share of missing values is another", "some": "the share of missing values has moved"},
    {
        "high": "the share out of range or unseen is another",
        "some": "the share out of range or unseen has moved",
    },
)


_Steps = list[tuple[float, Sequence[TimePoint]]]
"""A timeline: where the middle of each step lies, from 0 to 1, and the windows that it takes together."""


def render_html(report: Report) -> str:
    """Write the report: at most 2,000 features, the first, which are the worst; below 20 MB as UTF-8."""
    shown = report.features[:MAX_FEATURES]
    bins, points = (40, 120) if len(shown) <= 500 else (20, 48)
    bars = [slots(one, bins) for one in shown]
    steps = _steps(report.timeline, points)
    parts = [*_head(report), *_facts(report, len(shown)), *_summary(shown, bars)]
    size = sum(len(part.encode()) for part in parts)
    for place, feature in enumerate(shown):
        section = "".join(_feature(place, feature, bars[place], steps))
        size += len(section.encode())
        if size > MAX_BYTES:
            parts.append(
                f'<p class="note">The file is full: {len(shown) - place:,} features have no plots.</p>'
            )
            break
        parts.append(section)
    parts.append(f"</main><script>{SCRIPT}</script></body></html>\n")
    return "".join(parts)


def _head(report: Report) -> Iterator[str]:
    name = escape(f"{cut(report.model, 200)} version {report.version}")
    policy = f"default-src 'none'; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; base-uri 'none'"
    yield '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{name}: live rows beside the reference</title><style>{STYLE}</style></head>"
    yield f"<body>{HATCHES}<main><h1>{name}</h1>"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _facts(report: Report, shown: int) -> Iterator[str]:
    facts = {
        "aliases": ", ".join(report.aliases[:50]),
        "live rows": f"{report.rows:,}, {_when(report.start)} to {_when(report.end)}",
        "reference": f"{report.reference_rows:,} rows"
        + (f": {cut(report.description, 1_000)}" if report.description else ""),
        "profile": report.profile,
    }
    yield '<p class="soft">Live rows beside the reference; the features that differ most come first.</p>'
    if report.source == "live":
        yield (
            '<p class="note">The reference is live traffic: the first rows that this version served. '
            "What was off by then looks right here; a profile of the training data would show it.</p>"
        )
    if not report.rows:
        yield '<p class="note">No rows were served in this span.</p>'
    if shown < len(report.features):
        yield (
            f'<p class="note">Of {len(report.features):,} features the {shown:,} that differ most are shown; '
            "the report as JSON has all of them.</p>"
        )
    yield "<dl>"
    yield from (
        f"<dt>{word}</dt><dd>{escape(cut(value, 2_000))}</dd>" for word, value in facts.items() if value
    )
    yield "</dl>"


def _summary(shown: Sequence[FeatureComparison], bars: Sequence[list[Slot]]) -> Iterator[str]:
    heads = "".join(f'<th scope="col" data-sort="{sort}">{word}</th>' for word, sort in _HEADS)
    yield '<p data-script hidden><label>Only features with <input id="filter" type="search"></label></p>'
    yield '<div class="wide"><table id="summary"><caption>'
    yield f"PSI from {SOME} is worth a look, from {HIGH} another population. "
    yield "Nothing is marked that chance alone easily gives. "
    yield "Missing, out of range and mean: reference → live.</caption>"
    yield f"<thead><tr>{heads}</tr></thead><tbody>"
    for place, (feature, mine) in enumerate(zip(shown, bars, strict=True)):
        found, before, after = feature.distances, feature.reference, feature.live
        gone = [_share(side.missing, side.rows) for side in (before, after)]
        outside = [_share(side.outside, side.rows) for side in (before, after)]
        means = [side.moments.mean if side.moments else None for side in (before, after)]
        digits = digits_apart(means)
        psi, grades = found.get("psi"), _grades(feature)
        cells = [
            f'<td><a href="#f{place}">{_name(feature.feature)}</a></td>',
            f'<td class="left">{escape(cut(feature.role, 32))}</td>',
            _cell(psi, _marked(grades[0], short(psi))),
            _cell(found.get("jensen_shannon"), short(found.get("jensen_shannon"))),
            _cell(found.get("kolmogorov_smirnov"), short(found.get("kolmogorov_smirnov"))),
            _cell(gone[1], _marked(grades[1], f"{_percent(gone[0])} → {_percent(gone[1])}")),
            _cell(outside[1], _marked(grades[2], f"{_percent(outside[0])} → {_percent(outside[1])}")),
            _cell(
                means[1], " → ".join(short(one, digits) for one in means) if means != [None, None] else "–"
            ),
            f"<td>{spark(mine)}</td>",
        ]
        yield f'<tr data-of="f{place}">{"".join(cells)}</tr>'
    yield "</tbody></table></div>"


def _feature(place: int, feature: FeatureComparison, mine: list[Slot], steps: _Steps) -> Iterator[str]:
    name, side = _name(feature.feature), escape(cut(feature.role, 32))
    yield f'<section id="f{place}"><h2>{name} <span class="soft">{side} {_name(feature.tensor)}</span> '
    said = [(one, words.get(one)) for one, words in zip(_grades(feature), _WORDS, strict=True)]
    yield ", ".join(_marked(one, words) for one, words in said if words) + "</h2>"
    found = [(word, feature.distances.get(key)) for key, word in _DISTANCES]
    found += [
        ("overdispersion φ", feature.phi if feature.phi_windows else None),
        ("chi-square / degrees / φ", feature.excess),
    ]
    figures = ", ".join(f"{word} {short(value)}" for word, value in found if value is not None)
    unmeasured = "" if feature.phi_windows else "φ was not measured and counts as 1"
    live = f"{feature.live.rows:,} live rows, {feature.live.infinite:,} infinite"
    yield f'<p class="soft">{"; ".join(filter(None, (figures, unmeasured, live)))}</p>'
    yield '<div class="plots"><figure>'
    yield from _bars(feature, mine)
    yield "</figure><div>"
    yield from _lines(place, feature, steps)
    yield "</div></div></section>"


def _bars(feature: FeatureComparison, mine: list[Slot]) -> Iterator[str]:
    """Both sides beside each other, and the same as numbers."""
    yield '<figcaption>Share of rows: <span class="key r"></span>reference <span class="key l"></span>live'
    yield "; hatched: out of range, unseen or missing</figcaption>"
    draw = columns if feature.kind == "number" else rows
    yield draw(mine, f"shares of {cut(feature.feature, 100)}")
    yield "<details><summary>numbers</summary><table><tr><th>rows</th><th>reference</th><th>live</th></tr>"
    for one in mine:
        shares = f"<td>{_percent(one.reference)}</td><td>{_percent(one.live)}</td>"
        yield f"<tr><td><bdi>{escape(one.name)}</bdi></td>{shares}</tr>"
    yield "</table></details>"


def _lines(place: int, feature: FeatureComparison, steps: _Steps) -> Iterator[str]:
    """Both curves; of windows taken together the worst one is drawn."""
    (_, first), (_, last) = steps[0], steps[-1]
    span = f"{_when(first[0].start)} to {_when(last[-1].end)}"
    worst = ", the highest of each few windows" if len(first) > 1 else ""
    enough = _VALUES_A_BIN * (int(feature.distances.get("degrees") or 0) + 1)
    for title, least, percent, high in (
        ("PSI over time", enough, False, SOME),
        ("missing share over time", 0, True, _FEW),
    ):
        points = [(at, _worst(step, place, percent, least)) for at, step in steps]
        few = any(0 < _values(one, place) < least for _, step in steps for one in step)
        more = f", windows of fewer than {least:,} values left out" if few else ""
        yield f"<figure>{line(points, title, percent=percent, least=high)}"
        yield f"<figcaption>{title}{worst}{more}: {span}</figcaption></figure>"


def _worst(step: Sequence[TimePoint], place: int, missing: bool, least: int) -> float | None:
    enough = [one for one in step if _values(one, place) >= least]
    values = [(one.missing_share if missing else one.psi)[place] for one in enough]
    return max((value for value in values if value is not None), default=None)


def _values(point: TimePoint, place: int) -> float:
    """How many rows of a window have a value."""
    return point.rows * (1 - (point.missing_share[place] or 0.0))


def _steps(timeline: Sequence[TimePoint], limit: int) -> _Steps:
    """Take neighbours together where there are more than `limit` windows."""
    size = math.ceil(len(timeline) / limit)
    steps = [timeline[at : at + size] for at in range(0, len(timeline), size)]
    begin, whole = timeline[0].start, timeline[-1].end - timeline[0].start
    return [(((step[0].start - begin) + (step[-1].end - begin)) / 2 / whole, step) for step in steps]


def _grades(feature: FeatureComparison) -> tuple[str, str, str]:
    """Give the grades of its PSI, of what is missing and of what is out of range."""
    return feature.grade, feature.missing.grade, feature.outside.grade


def _marked(grade: str, text: str) -> str:
    return f'<span class="{grade}">{text}</span>'


def _name(name: str) -> str:
    """Write a name that may run from right to left, without what stands beside it."""
    return f"<bdi>{escape(cut(name, 256))}</bdi>"


def _cell(value: float | None, shown: str) -> str:
    return f'<td data-v="{"" if value is None else value}">{shown}</td>'


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share * 100:.3g}%"


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
