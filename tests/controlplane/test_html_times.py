"""The curves of a report's page."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from fastserve.controlplane.html import render_html
from fastserve.controlplane.reporting import TimePoint
from tests.controlplane.fleets import number, report


def windows(*rows: int, missing: float = 0.0) -> tuple[TimePoint, ...]:
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
        for at, each in enumerate(rows)
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
