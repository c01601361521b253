"""NannyML: chunks, and alarms beyond three standard deviations over the reference's chunks."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.drift.contestants import (
    FEATURES,
    REFERENCE_ROWS,
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

CHUNKS = 10
MEASURES = {"jensen_shannon": "Jensen-Shannon (default)", "kolmogorov_smirnov": "KS"}


def calculator(before: Any, chunk_rows: int, *methods: str) -> Any:
    make = library("nannyml").UnivariateDriftCalculator
    options = {"continuous_methods": list(methods)} if methods else {}
    return make(column_names=list(before.columns), chunk_size=chunk_rows, **options).fit(before)


def feed(rows: Matrix) -> Callable[[Any], Any]:
    after, ready = named(rows), calculator(named(reference()), len(rows) // CHUNKS)
    return lambda _: ready.calculate(after)


def chunks(ready: Any, live: Any) -> Any:
    return ready.calculate(live).filter(period="analysis").to_df()


def read(before: Sample, live: Sample) -> list[Reading]:
    """Of the first chunk, which holds the outlier."""
    ready = calculator(single(before), REFERENCE_ROWS // CHUNKS, *MEASURES)
    first = chunks(ready, single(live)).iloc[0]["x"]
    return [
        Reading(f"{said}, first of 10 chunks", float(first[name, "value"]), bool(first[name, "alert"]))
        for name, said in MEASURES.items()
    ]


def alarms(before: Matrix, windows: list[Matrix]) -> Iterator[Flags]:
    found = chunks(calculator(named(before), len(windows[0])), named(np.concatenate(windows)))
    alerts = [found[f"f{f}", "jensen_shannon", "alert"].to_numpy(bool) for f in range(FEATURES)]
    return iter(np.column_stack(alerts))


RULE = "JS > mean + 3 sd of the reference's chunks"
NANNYML = Contestant("NannyML univariate", "JS of ten chunks of a frame", RULE, feed, read, alarms)
TOOL = Tool("NannyML", "nannyml", __name__, (NANNYML,), ("nannyml==0.13.1", "statsmodels"))
