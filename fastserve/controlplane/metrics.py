"""What Prometheus scrapes: the fleet's totals, how its workers stand, and how far live rows have drifted."""

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

from fastserve import __version__
from fastserve.controlplane.exposition import HistogramLines, Ladder, Lines, labelled, plain
from fastserve.controlplane.fleet import Fleet, Place, Version, VersionTotals, WorkerNow
from fastserve.controlplane.options import ControlOptions
from fastserve.lifecycle.states import VersionState
from fastserve.monitoring.comparing import FeatureComparison

MAX_VERSIONS = 500
"""Versions that one page shows, the first by model and version."""

PHASES = ("queue", "compute", "total")
STATISTICS = (
    "psi",
    "jensen_shannon",
    "hellinger",
    "total_variation",
    "kolmogorov_smirnov",
    "wasserstein",
    "chi_square",
)
_STATES = tuple(VersionState)
_DURATIONS = Ladder(range(6, 25), 1e6)
_ROWS = Ladder(range(14), 1.0)
_STATISTICS = [(name, f",{labelled(statistic=name)}") for name in STATISTICS]


def render(fleet: Fleet, options: ControlOptions) -> bytes:
    """Write the page in text format 0.0.4; versions that no worker holds any more are left out.

    Of a version the first `metrics_max_features` features of the profile are shown: always the same ones, so
    that a series does not come and go with the drift.
    """
    present = sorted(fleet.present())
    shown = {version: _labels(version) for version in present[:MAX_VERSIONS]}
    totals = [(labels, fleet.totals[one]) for one, labels in shown.items() if one in fleet.totals]
    watched = [(labels, fleet.totals[one]) for one, labels in shown.items() if one[0] and one in fleet.totals]
    drift = [(labels, fleet.drift[one]) for one, labels in shown.items() if one in fleet.drift]
    families = [
        _requests(totals),
        _durations(totals),
        _batches(totals),
        _watched(watched),
        *_standing(fleet, shown),
        *_drift(drift, options.metrics_max_features),
        *_processes(fleet.workers),
    ]
    parts = [part for family in families for part in family.parts]
    parts.append(_whole(len(present) - len(shown), len(fleet.workers)))
    # A lone surrogate has no UTF-8: a page with a question mark is better than none.
    return "".join(parts).encode("utf-8", "replace")


def _labels(version: Version) -> str:
    """Model and version; both empty for requests that no model answered."""
    return labelled(model=version[0], version=str(version[1]) if version[0] else "")


def _requests(totals: Sequence[tuple[str, VersionTotals]]) -> Lines:
    words = "Requests by HTTP status; those without a model were answered by none."
    family = Lines("counter", "fastserve_requests", words)
    for labels, total in totals:
        for code, count in sorted(total.codes.items()):
            family.add(f"{labels},{labelled(code=code)}", count)
    return family


def _durations(totals: Sequence[tuple[str, VersionTotals]]) -> Lines:
    words = "Time of requests: waiting (queue), in the model (compute), both and the writing (total)."
    family = HistogramLines("fastserve_request_duration_seconds", words, _DURATIONS)
    for labels, total in totals:
        for phase in PHASES:
            if phase in total.histograms:
                found = total.histograms[phase]
                family.count(f"{labels},{labelled(phase=phase)}", found, found.total / 1e9)
    return family


def _batches(totals: Sequence[tuple[str, VersionTotals]]) -> Lines:
    family = HistogramLines("fastserve_batch_rows", "Rows that a model was run with at once.", _ROWS)
    for labels, total in totals:
        if "batch_rows" in total.histograms:
            found = total.histograms["batch_rows"]
            family.count(labels, found, found.total)
    return family


def _watched(totals: Sequence[tuple[str, VersionTotals]]) -> Lines:
    words = "Rows that were counted to compare them with a profile."
    family = Lines("counter", "fastserve_rows_watched", words)
    for labels, total in totals:
        family.add(labels, total.watched_rows)
    return family


def _standing(fleet: Fleet, shown: Mapping[Version, str]) -> tuple[Lines, Lines]:
    queued: dict[Version, int] = {}
    states: dict[Version, dict[str, int]] = {}
    for version, one in fleet.held():
        if version in shown:
            queued[version] = queued.get(version, 0) + one.queue_rows
            counts = states.setdefault(version, dict.fromkeys(_STATES, 0))
            counts[one.state if one.state in counts else VersionState.UNKNOWN] += 1
    rows = Lines("gauge", "fastserve_queue_rows", "Rows that wait, in all workers together.")
    state = Lines("gauge", "fastserve_model_state", "Workers that hold the version in this state.")
    for version in sorted(states):
        rows.add(shown[version], queued[version])
        for name, count in states[version].items():
            state.add(f"{shown[version]},{labelled(state=name)}", count)
    return rows, state


def _drift(found: Sequence[tuple[str, list[FeatureComparison]]], limit: int) -> tuple[Lines, ...]:
    distances = Lines(
        "gauge", "fastserve_drift_distance", "How far the live rows of a feature lie from its reference."
    )
    excess = Lines(
        "gauge",
        "fastserve_drift_excess",
        "Chi-square over its degrees of freedom and phi: about 1 without drift.",
    )
    missing = Lines("gauge", "fastserve_missing_share", "Share of live rows without a value.")
    outside = Lines(
        "gauge",
        "fastserve_out_of_range_share",
        "Share of live rows out of the reference's range, or of an unseen category.",
    )
    left_out = Lines(
        "gauge",
        "fastserve_features_not_exported",
        "Features left out here: the first control.metrics_max_features of the profile are shown.",
    )
    for labels, features in found:
        shown = features[:limit]
        left_out.add(labels, len(features) - len(shown))
        for name, feature in zip(feature_names(shown), shown, strict=True):
            of_it = f"{labels},{labelled(feature=name)}"
            for statistic, label in _STATISTICS:
                distance = feature.distances.get(statistic)
                if distance is not None:
                    distances.add(of_it + label, distance)
            if feature.excess is not None:
                excess.add(of_it, feature.excess)
            if feature.live.rows:
                missing.add(of_it, feature.live.missing / feature.live.rows)
                outside.add(of_it, feature.live.outside / feature.live.rows)
    return distances, excess, missing, outside, left_out


def feature_names(features: Iterable[FeatureComparison]) -> list[str]:
    """Name features of one version apart: by themselves, outputs with `output:`, and if need be by tensor."""
    names: dict[str, int] = {}
    """With how often a name was wanted again."""
    for one in features:
        side = "output:" if one.role == "output" else ""
        name = f"{side}{one.feature}"
        if name in names:
            name = f"{side}{one.tensor}.{one.feature}"
        wanted = name
        while name in names:
            names[wanted] += 1
            name = f"{wanted}#{names[wanted]}"
        names[name] = 1
    return list(names)


def _processes(workers: Mapping[Place, WorkerNow]) -> tuple[Lines, ...]:
    resident = Lines("gauge", "fastserve_process_resident_memory_bytes", "Resident memory of a worker.")
    cpu = Lines(
        "counter",
        "fastserve_process_cpu_seconds",
        "User and system time of a worker and of those that had its place before.",
    )
    open_fds = Lines("gauge", "fastserve_process_open_fds", "Open files of a worker.")
    threads = Lines("gauge", "fastserve_process_threads", "Threads of a worker.")
    for host, place in sorted(workers):
        one = workers[host, place]
        labels = labelled(worker=f"{host}/{place}")
        resident.add(labels, one.process.resident_bytes)
        cpu.add(labels, one.cpu_before_s + one.process.cpu_s)
        open_fds.add(labels, one.process.open_fds)
        threads.add(labels, one.process.threads)
    return resident, cpu, open_fds, threads


def _whole(left_out: int, workers: int) -> str:
    """What has no labels: the fleet as a whole, and the control plane's own process."""
    return plain(
        [
            GaugeMetricFamily(
                "fastserve_versions_not_exported",
                f"Versions that are left out here, where {MAX_VERSIONS} are shown at most.",
                left_out,
            ),
            GaugeMetricFamily("fastserve_workers", "Workers that are heard of.", workers),
            InfoMetricFamily(
                "fastserve_build", "The control plane's release; always 1.", {"version": __version__}
            ),
            *ProcessCollector(registry=None).collect(),
        ]
    )
