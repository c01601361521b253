"""The page of metrics by prometheus_client's own families and writer: the oracle of the quick one."""

from collections.abc import Iterable

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fastserve.controlplane.fleet import Fleet
from fastserve.controlplane.metrics import PHASES, STATISTICS, feature_names
from fastserve.lifecycle.states import VersionState
from fastserve.monitoring.buckets import bound
from fastserve.monitoring.snapshot import HistogramDelta

Found = tuple[str, str]


class Twin(Collector):
    """Everything with labels, of a fleet whose versions are all shown in full."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def collect(self) -> Iterable[Metric]:
        return [*self.totals(), *self.standing(), *self.drift(), *self.processes()]

    def versions(self) -> list[tuple[tuple[str, int], Found]]:
        return [(one, (one[0], str(one[1]) if one[0] else "")) for one in sorted(self.fleet.present())]

    def totals(self) -> Iterable[Metric]:
        requests = CounterMetricFamily("fastserve_requests", "d", labels=["model", "version", "code"])
        watched = CounterMetricFamily("fastserve_rows_watched", "d", labels=["model", "version"])
        seconds = HistogramMetricFamily(
            "fastserve_request_duration_seconds", "d", labels=["model", "version", "phase"]
        )
        rows = HistogramMetricFamily("fastserve_batch_rows", "d", labels=["model", "version"])
        for version, labels in self.versions():
            total = self.fleet.totals.get(version)
            if total is None:
                continue
            for code, count in total.codes.items():
                requests.add_metric([*labels, code], count)
            if version[0]:
                watched.add_metric(labels, total.watched_rows)
            for name, found in total.histograms.items():
                if name in PHASES:
                    seconds.add_metric([*labels, name], buckets(found, 6, 24, 1e6), found.total / 1e9)
                else:
                    rows.add_metric(labels, buckets(found, 0, 13, 1), found.total)
        return [requests, watched, seconds, rows]

    def standing(self) -> Iterable[Metric]:
        queued = GaugeMetricFamily("fastserve_queue_rows", "d", labels=["model", "version"])
        state = GaugeMetricFamily("fastserve_model_state", "d", labels=["model", "version", "state"])
        for version, labels in self.versions():
            held = [
                one
                for worker in self.fleet.workers.values()
                for one in worker.versions
                if (one.model, one.version) == version
            ]
            if held:
                queued.add_metric(labels, sum(one.queue_rows for one in held))
                for name in VersionState:
                    state.add_metric([*labels, name], sum(one.state == name for one in held))
        return [queued, state]

    def drift(self) -> Iterable[Metric]:
        of_it = ["model", "version", "feature"]
        distance = GaugeMetricFamily("fastserve_drift_distance", "d", labels=[*of_it, "statistic"])
        excess = GaugeMetricFamily("fastserve_drift_excess", "d", labels=of_it)
        missing = GaugeMetricFamily("fastserve_missing_share", "d", labels=of_it)
        outside = GaugeMetricFamily("fastserve_out_of_range_share", "d", labels=of_it)
        left_out = GaugeMetricFamily("fastserve_features_not_exported", "d", labels=of_it[:2])
        for version, labels in self.versions():
            if version not in self.fleet.drift:
                continue
            features = self.fleet.drift[version]
            left_out.add_metric(labels, 0)
            for name, feature in zip(feature_names(features), features, strict=True):
                for statistic in STATISTICS:
                    value = feature.distances.get(statistic)
                    if value is not None:
                        distance.add_metric([*labels, name, statistic], value)
                if feature.excess is not None:
                    excess.add_metric([*labels, name], feature.excess)
                if feature.live.rows:
                    missing.add_metric([*labels, name], feature.live.missing / feature.live.rows)
                    outside.add_metric([*labels, name], feature.live.outside / feature.live.rows)
        return [distance, excess, missing, outside, left_out]

    def processes(self) -> Iterable[Metric]:
        memory = GaugeMetricFamily("fastserve_process_resident_memory_bytes", "d", labels=["worker"])
        cpu = CounterMetricFamily("fastserve_process_cpu_seconds", "d", labels=["worker"])
        files = GaugeMetricFamily("fastserve_process_open_fds", "d", labels=["worker"])
        threads = GaugeMetricFamily("fastserve_process_threads", "d", labels=["worker"])
        for (host, place), one in self.fleet.workers.items():
            label = [f"{host}/{place}"]
            memory.add_metric(label, one.process.resident_bytes)
            cpu.add_metric(label, one.cpu_before_s + one.process.cpu_s)
            files.add_metric(label, one.process.open_fds)
            threads.add_metric(label, one.process.threads)
        return [memory, cpu, files, threads]


def buckets(found: HistogramDelta, first: int, last: int, units: float) -> list[tuple[str, float]]:
    """Events at or below each power of two, summed anew for each."""
    made: list[tuple[str, float]] = []
    for power in range(first, last + 1):
        at_most = sum(count for index, count in found.buckets.items() if bound(index) <= 2**power)
        made.append((str(2**power / units), at_most))
    return [*made, ("+Inf", sum(found.buckets.values()))]


def page(fleet: Fleet) -> bytes:
    """The text of everything with labels."""
    return generate_latest(Twin(fleet))
