"""How a report looks in a terminal: the worst features first."""

from rich.console import RenderableType
from rich.text import Text

from fastserve.cli.tables import Fitting, figure, share, text
from fastserve.controlplane.reporting import Report
from fastserve.controlplane.svg import digits_apart, short, slots
from fastserve.monitoring.comparing import FeatureComparison

_HEADERS = ("FEATURE", "ROLE", "PSI", "JS", "KS", "MISSING", "OUTSIDE", "MEAN", "LIVE")
_SPARE = ("JS", "KS", "ROLE", "LIVE", "MEAN", "OUTSIDE", "MISSING")
_BARS = " ▁▂▃▄▅▆▇█"
_BINS = 16
_STYLES = {"some": "yellow", "high": "red"}


def report_parts(report: Report, top: int) -> list[RenderableType]:
    """Give what a report comes to: what is compared, the first features, how many more there are."""
    aliases = f" ({', '.join(report.aliases)})" if report.aliases else ""
    span = f"{report.start:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} {report.end.tzname() or ''}"
    parts: list[RenderableType] = [
        text(f"{report.model} version {report.version}{aliases}", style="bold"),
        text(f"{report.rows:,} live rows, {span.rstrip()}; {report.reference_rows:,} reference rows"),
    ]
    if report.source == "live":
        parts.append(text("the reference is live traffic: the first rows that were served", style="yellow"))
    cells = [_cells(one) for one in report.features[:top]]
    parts.append(Fitting(_HEADERS, cells, right=_HEADERS[2:8], spare=_SPARE))
    if len(report.features) > top:
        parts.append(text(f"… {len(report.features)} features in all", style="dim"))
    return parts


def _cells(feature: FeatureComparison) -> list[str | Text]:
    found, sides = feature.distances, (feature.reference, feature.live)
    means = [side.moments.mean if side.moments else None for side in sides]
    digits = digits_apart(means)
    return [
        feature.feature,
        feature.role,
        text(figure(found.get("psi"), "z.3f"), style=_STYLES.get(feature.grade, "")),
        figure(found.get("jensen_shannon"), ".3f"),
        figure(found.get("kolmogorov_smirnov"), ".3f"),
        text(
            " → ".join(share(side.missing, side.rows) for side in sides),
            style=_STYLES.get(feature.missing.grade, ""),
        ),
        text(
            " → ".join(share(side.outside, side.rows) for side in sides),
            style=_STYLES.get(feature.outside.grade, ""),
        ),
        "–" if means == [None, None] else " → ".join(short(one, digits).replace("−", "-") for one in means),
        _bars(feature),
    ]


def _bars(feature: FeatureComparison) -> str:
    """The live shares as a line of blocks."""
    shares = [one.live for one in slots(feature, _BINS)]
    top = max(shares, default=0.0)
    return "".join(_BARS[min(max(round(one / top * 8), 1), 8) if one else 0] for one in shares)
