"""Evidently: its report, and for clean windows the tests that the report picks, without its seconds."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.drift.contestants import (
    Contestant,
    Flags,
    Matrix,
    Reading,
    Sample,
    Tool,
    library,
    named,
    reference,
    single,
)

METHODS = {"PSI": {"method": "psi"}, "Jensen-Shannon": {"method": "jensenshannon"}, "W1/sd (default)": {}}


def values(before: Any, live: Any, **options: Any) -> list[dict[str, Any]]:
    report, preset = library("evidently").Report, library("evidently.presets").DataDriftPreset
    metrics = report([preset(**options)]).run(live, before).dict()["metrics"]
    return [one for one in metrics if one["metric_name"].startswith("ValueDrift")]


def tested(before: Any, live: Any) -> list[Any]:
    tests, number = library("evidently.legacy.calculations.stattests"), library("evidently.legacy.core")
    kind = number.ColumnType.Numerical
    pairs = [(before[name], live[name]) for name in before]
    return [tests.get_stattest(*pair, kind, None)(*pair, kind, None) for pair in pairs]


def feed(compare: Callable[[Any, Any], Any]) -> Callable[[Matrix], Callable[[Any], Any]]:
    def prepare(rows: Matrix) -> Callable[[Any], Any]:
        before, live = named(reference()), named(rows)
        return lambda _: compare(before, live)

    return prepare


def read(before: Sample, live: Sample) -> list[Reading]:
    found = []
    for name, options in METHODS.items():
        one = values(single(before), single(live), **options)[0]
        found.append(Reading(name, float(one["value"]), bool(one["value"] >= one["config"]["threshold"])))
    return found


def alarms(before: Matrix, windows: list[Matrix]) -> Iterator[Flags]:
    first = named(before)
    reported = [one["value"] for one in values(first, named(windows[0]))]
    if not np.allclose(reported, [one.drift_score for one in tested(first, named(windows[0]))]):
        raise ValueError("the tests alone do not give what the report gives")
    for rows in windows:
        yield np.array([one.drifted for one in tested(first, named(rows))], bool)


RULE = "W1/sd > 0.1 (reference of more than 1,000 rows)"
TOOL = Tool(
    "Evidently",
    "evidently",
    __name__,
    (
        Contestant(
            "Evidently DataDriftPreset", "drift report of two frames", RULE, feed(values), read, alarms
        ),
        Contestant("Evidently, tests alone", "W1 of two frames, no report", RULE, feed(tested)),
    ),
    ("evidently==0.7.23", "pandas<3"),
)
