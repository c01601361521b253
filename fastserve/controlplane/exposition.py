"""Writes metric families as text format 0.0.4 with heads of prometheus_client and lines of its own.

Its `generate_latest` makes a dictionary of every sample, sorts it, and escapes every name and value anew by
regular expressions: on a page with thousands of series that is most of the time. Here labels are text,
escaped once for all samples that share them.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Literal

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from fastserve.monitoring.buckets import LAST, bound
from fastserve.monitoring.snapshot import HistogramDelta


class _Collected(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def plain(families: Iterable[Metric]) -> str:
    """Give the text of a few families as prometheus_client writes it."""
    return generate_latest(_Collected(families)).decode()


def labelled(**labels: str) -> str:
    """Give labels as they stand between braces."""
    return ",".join([f'{name}="{_escaped(value)}"' for name, value in labels.items()])


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Lines:
    """A family's text as it grows; every sample needs labels."""

    def __init__(self, kind: Literal["counter", "gauge", "histogram"], name: str, words: str) -> None:
        self.parts = [plain([Metric(name, words, kind)])]
        self._name = name
        self._open = f"{name}{'_total' if kind == 'counter' else ''}{{"

    def add(self, labels: str, value: float) -> None:
        """Add a sample, of a finite value."""
        self.parts.append(f"{self._open}{labels}}} {value}\n")


class Ladder:
    """A histogram's upper bounds, and which of them each bucket of the workers lies under."""

    def __init__(self, powers: range, units: float) -> None:
        """Take bounds at powers of two units; so many units are one of what the metric's name says."""
        bounds = [float(2**power) for power in powers]
        self.endings = [f',le="{name}"}} ' for name in (*(one / units for one in bounds), "+Inf")]
        """The end of each bucket's labels."""
        self._slots = [bisect_left(bounds, bound(index)) for index in range(LAST + 1)]

    def counts(self, histogram: HistogramDelta) -> list[int]:
        """Count the events at or below each bound; the last is all of them."""
        slots = [0] * len(self.endings)
        for index, events in histogram.buckets.items():
            slots[self._slots[min(index, LAST)]] += events
        return list(accumulate(slots))


class HistogramLines(Lines):
    """A histogram's text as it grows."""

    def __init__(self, name: str, words: str, ladder: Ladder) -> None:
        super().__init__("histogram", name, words)
        self._ladder = ladder

    def count(self, labels: str, histogram: HistogramDelta, total: float) -> None:
        """Add buckets, count and sum of one series; `total` in what the metric's name says."""
        counts, start = self._ladder.counts(histogram), f"{self._name}_bucket{{{labels}"
        self.parts += [
            f"{start}{ending}{events}\n" for ending, events in zip(self._ladder.endings, counts, strict=True)
        ]
        self.parts.append(f"{self._name}_count{{{labels}}} {counts[-1]}\n")
        self.parts.append(f"{self._name}_sum{{{labels}}} {total}\n")
