"""whylogs: mergeable sketches of a frame, compared by its own drift scores."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.drift.contestants import (
    FEATURES,
    Contestant,
    Flags,
    Matrix,
    Reading,
    Sample,
    Tool,
    library,
    named,
    single,
)


def view(frame: Any) -> Any:
    return library("whylogs").log(frame).view()


def scores(live: Any, before: Any, **options: Any) -> Any:
    module = library("whylogs.viz.drift.column_drift_algorithms")
    return module.calculate_drift_scores(live, before, with_thresholds=True, **options)


def feed(rows: Matrix) -> Callable[[Any], Any]:
    log, frame = library("whylogs").log, named(rows)
    return lambda _: log(frame).profile()


def read(before: Sample, live: Sample) -> list[Reading]:
    hellinger = library("whylogs.viz.drift.column_drift_algorithms").Hellinger()
    first, second = view(single(before)), view(single(live))
    ks = scores(second, first)["x"]
    distance = scores(second, first, drift_map={"x": hellinger})["x"]
    possible = "Hellinger, possible drift"
    return [
        Reading("KS (default)", float(ks["statistic"]), ks["drift_category"] == "DRIFT"),
        Reading(possible, float(distance["statistic"]), distance["drift_category"] != "NO_DRIFT"),
    ]


def alarms(before: Matrix, windows: list[Matrix]) -> Iterator[Flags]:
    first = view(named(before))
    for rows in windows:
        found = scores(view(named(rows)), first)
        yield np.array([found[f"f{f}"]["drift_category"] == "DRIFT" for f in range(FEATURES)])


WHYLOGS = Contestant("whylogs log", "sketches of a pandas frame", "KS p < 0.05", feed, read, alarms)
TOOL = Tool(
    "whylogs",
    "whylogs",
    __name__,
    (WHYLOGS,),
    (
        "whylogs[viz]==1.6.4",
        "pandas",
    ),
)
