"""The plots of a report's page: what is drawn of few rows and of long names."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from fastserve.controlplane.html import render_html
from fastserve.controlplane.reporting import TimePoint
from fastserve.controlplane.svg import Slot, rows, short
from tests.controlplane.fleets import number, report


def windows(*sizes: int, missing: float = 0.0) -> tuple[TimePoint, ...]:
    """One an hour."""
    start, hour = datetime(2013, 7, 1, tzinfo=UTC), timedelta(hours=1)
    return tuple(
        TimePoint(
            start=start + at * hour,
            end=start + (at + 1) * hour,
            rows=each,
            psi=(0.2 if each else None,),
            missing_share=(missing if each else None,),
        )
        for at, each in enumerate(sizes)
    )


@pytest.mark.parametrize(
    ("timeline", "drawn", "said"),
    [
        (windows(30, 40, 50), "MLL", False),
        (windows(30, 0, 50), "Mh.1Mh.1", False),
        (windows(30, 29, 50), "Mh.1Mh.1", True),
        (windows(59, 58, 60, missing=0.5), "Mh.1", True),
        (windows(29, 1), "", True),
    ],
)
def test_the_psi_of_a_few_rows_is_not_drawn(timeline: tuple[TimePoint, ...], drawn: str, said: bool) -> None:
    """Of six bins less than thirty values: it is large without any drift."""
    page = render_html(report(number(), timeline=timeline))
    psi, missing = page.split("PSI over time", 1)[1].split("missing share over time", 1)
    found = "".join(re.findall(r'class="s" d="([^"]*)"', psi))
    assert re.sub(r"[0-9.]+ [0-9.]+", "", found) == drawn
    assert ("windows of fewer than 30 values left out" in psi) == said
    assert 'class="s"' in missing and "left out" not in missing


def test_what_is_nothing_looks_like_nothing() -> None:
    """A PSI of 0.0002 filled its plot, and there was no room for the zeros of its axis."""
    quiet = [
        point.model_copy(update={"psi": (0.0002 * (-1) ** at,), "missing_share": (0.0001 * (at % 2),)})
        for at, point in enumerate(windows(500, 500, 500))
    ]
    page = render_html(report(number(), timeline=tuple(quiet)))
    psi, missing = page.split("PSI over time", 1)[1].split("missing share over time", 1)
    labels = r'text-anchor="end">([^<]*)<'
    assert set(re.findall(labels, psi)) == {"0", "0.1"}
    assert set(re.findall(labels, missing)) == {"0%", "0.5%", "1%"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("carrier", "carrier"),
        ("a merchant of the north sea coast", "a merchant of the north…"),
        ("INTERNATIONAL WHOLESALE GOODS", "INTERNATIONAL WHOLE…"),
        ("とてもとても長い名前の市町村とても長い名前", "とてもとても長い名前の市町…"),
    ],
)
def test_a_long_name_beside_bars_keeps_its_beginning(name: str, shown: str) -> None:
    """It ends at the bars: what has no room is cut off at the left by the edge of the plot."""
    assert f'text-anchor="end">{shown}</text>' in rows([Slot(name, 0.5, 0.5)], "t")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (52_340.6, "52341"),
        (-9_999.6, "−10000"),
        (9_999.4, "9999"),
        (9_999_999.4, "9999999"),
        (1.76446e12, "1.764e+12"),
        (0.000123456, "0.0001235"),
        (float("inf"), "inf"),
        (None, "–"),
    ],
)
def test_a_salary_is_said_in_full(value: float | None, said: str) -> None:
    assert short(value) == said
