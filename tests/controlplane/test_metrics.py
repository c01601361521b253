"""The page that Prometheus scrapes, read by prometheus_client's parser, and beside what its own writer makes."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fastserve import __version__
from fastserve.controlplane.fleet import Fleet, VersionTotals
from fastserve.controlplane.metrics import MAX_VERSIONS, feature_names, render
from fastserve.controlplane.options import ControlOptions
from fastserve.monitoring.comparing import Side
from fastserve.monitoring.snapshot import HistogramDelta
from tests.controlplane.fleets import fleet, holding, number, worker
from tests.oracle import metrics_twin

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]
OPTIONS = ControlOptions()
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def key(name: str, labels: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    if "le" in labels:  # 1 and 1.0 are the same bound
        labels = {**labels, "le": repr(float(labels["le"]))}
    return name, tuple(sorted(labels.items()))


def parsed(page: bytes) -> Series:
    """Every sample by name and labels; none twice, none without a family."""
    found: Series = {}
    for family in text_string_to_metric_families(page.decode()):
        assert family.documentation, family
        assert family.type != "unknown", family
        for sample in family.samples:
            at = key(sample.name, sample.labels)
            assert at not in found, at
            found[at] = sample.value
    assert len(found) == sum(not line.startswith("#") for line in page.decode().split("\n") if line)
    return found


def value(page: bytes, name: str, **labels: str) -> float:
    return parsed(page)[key(name, labels)]


def every(page: bytes, name: str) -> Series:
    return {at: found for at, found in parsed(page).items() if at[0] == name}


def labelled(series: Series) -> Series:
    return {at: found for at, found in series.items() if at[1] and at[0] != "fastserve_build_info"}


def test_the_page_holds_what_prometheus_clients_own_writer_makes() -> None:
    made = fleet()
    assert labelled(parsed(render(made, OPTIONS))) == parsed(metrics_twin.page(made))


@given(names, names)
def test_names_of_strangers(model: str, feature: str) -> None:
    made = fleet(model, feature)
    assert labelled(parsed(render(made, OPTIONS))) == parsed(metrics_twin.page(made))


counts = st.dictionaries(st.integers(0, 192), st.integers(0, 2**40))


@given(counts, counts, st.dictionaries(st.sampled_from(["200", "404", "503"]), st.integers(0, 2**40)))
def test_counts_of_any_size(queue: dict[int, int], rows: dict[int, int], codes: dict[str, int]) -> None:
    made = fleet()
    made.totals["flights", 3] = VersionTotals(
        codes, {"queue": HistogramDelta(buckets=queue), "batch_rows": HistogramDelta(buckets=rows)}
    )
    assert labelled(parsed(render(made, OPTIONS))) == parsed(metrics_twin.page(made))


def test_totals() -> None:
    page, flights = render(fleet(), OPTIONS), {"model": "flights", "version": "3"}
    assert value(page, "fastserve_requests_total", **flights, code="200") == 9
    assert value(page, "fastserve_requests_total", model="", version="", code="404") == 2
    assert value(page, "fastserve_rows_watched_total", **flights) == 4_321
    assert value(page, "fastserve_queue_rows", **flights) == 7


def test_durations_are_seconds_at_powers_of_two_microseconds() -> None:
    page, queue = render(fleet(), OPTIONS), {"model": "flights", "version": "3", "phase": "queue"}
    name = "fastserve_request_duration_seconds"
    bounds = [float(dict(at[1])["le"]) for at in every(page, f"{name}_bucket") if ("phase", "queue") in at[1]]
    assert bounds == [2**power / 1e6 for power in range(6, 25)] + [math.inf]
    # Bucket 47 ends at 256 µs, 48 begins there, 192 has no end.
    assert value(page, f"{name}_bucket", **queue, le="0.000128") == 1
    assert value(page, f"{name}_bucket", **queue, le="0.000256") == 3
    assert value(page, f"{name}_bucket", **queue, le="0.000512") == 6
    assert value(page, f"{name}_bucket", **queue, le="16.777216") == 6
    assert value(page, f"{name}_bucket", **queue, le="+Inf") == 10
    assert value(page, f"{name}_count", **queue) == 10
    assert value(page, f"{name}_sum", **queue) == 1.0
    assert not [at for at in every(page, f"{name}_count") if ("phase", "compute") in at[1]]


def test_batch_rows_are_rows_at_powers_of_two() -> None:
    page, flights = render(fleet(), OPTIONS), {"model": "flights", "version": "3"}
    bounds = [float(dict(at[1])["le"]) for at in every(page, "fastserve_batch_rows_bucket")]
    assert bounds == [2.0**power for power in range(14)] + [math.inf]
    assert value(page, "fastserve_batch_rows_bucket", **flights, le="1.0") == 3
    assert value(page, "fastserve_batch_rows_bucket", **flights, le="8.0") == 4
    assert value(page, "fastserve_batch_rows_bucket", **flights, le="16.0") == 5
    assert value(page, "fastserve_batch_rows_count", **flights) == 6
    assert value(page, "fastserve_batch_rows_sum", **flights) == 5_000


def test_a_bucket_that_there_is_not_counts_as_the_last() -> None:
    later = HistogramDelta.model_construct(buckets={10**9: 4}, total=0)  # of a release with more of them
    made = Fleet(totals={("", 0): VersionTotals({}, {"total": later})})
    found = every(render(made, OPTIONS), "fastserve_request_duration_seconds_count")
    assert list(found.values()) == [4]


def test_states_are_workers_in_them() -> None:
    page, flights = render(fleet(), OPTIONS), {"model": "flights", "version": "3"}
    found = {dict(at[1])["state"]: count for at, count in every(page, "fastserve_model_state").items()}
    assert found == {"UNKNOWN": 0, "LOADING": 1, "READY": 1, "UNLOADING": 0, "UNAVAILABLE": 0}
    odd = Fleet(workers={("box", 0): worker(0, holding("flights", 3, "DANCING"))})
    assert value(render(odd, OPTIONS), "fastserve_model_state", **flights, state="UNKNOWN") == 1


def test_drift() -> None:
    page, x = render(fleet(), OPTIONS), {"model": "flights", "version": "3", "feature": "x"}
    assert value(page, "fastserve_drift_distance", **x, statistic="psi") == 0.25
    assert value(page, "fastserve_drift_distance", **x, statistic="wasserstein") == 3.5
    assert value(page, "fastserve_drift_excess", **x) == number().excess
    assert value(page, "fastserve_missing_share", **x) == 0.1
    assert value(page, "fastserve_out_of_range_share", **x) == 0.25
    shown = [dict(at[1]) for at in every(page, "fastserve_drift_distance")]
    of_carrier = {one["statistic"] for one in shown if one["feature"] == "carrier"}
    assert of_carrier == {"psi", "jensen_shannon", "hellinger", "total_variation", "chi_square"}


def test_no_rows() -> None:
    made = fleet()
    made.drift["flights", 3] = [number(live=Side(rows=0, missing=0, counts=(0,) * 6, outside=0))]
    assert not every(render(made, OPTIONS), "fastserve_missing_share")


def test_only_the_first_features_of_a_profile_are_shown() -> None:
    made = fleet()
    made.drift["flights", 3] = [number(f"f{place}") for place in range(12)]
    page = render(made, ControlOptions(metrics_max_features=5))
    assert [dict(at[1])["feature"] for at in every(page, "fastserve_missing_share")] == [
        f"f{place}" for place in range(5)
    ]
    assert value(page, "fastserve_features_not_exported", model="flights", version="3") == 7


def test_features_of_one_name_stay_apart() -> None:
    features = [
        number("x"),
        number("x", tensor="more"),
        number("x", tensor="more"),
        number("x", role="output"),
        number("output:x"),
        number("x", role="output"),
    ]
    assert feature_names(features) == [
        "x",
        "more.x",
        "more.x#2",
        "output:x",
        "features.output:x",
        "output:features.x",
    ]
    many = feature_names([number("x")] * 10_000)
    assert len(set(many)) == 10_000
    assert many[-1] == "features.x#9999"


@given(st.lists(st.sampled_from(["x", "t.x", "t.x#2", "t.x#3", "output:x"]), max_size=30))
def test_names_never_clash(wanted: list[str]) -> None:
    features = [number(name, tensor="t", role=("input", "output")[at % 2]) for at, name in enumerate(wanted)]
    assert len(set(feature_names(features))) == len(wanted)


def test_processes() -> None:
    page = render(fleet(), OPTIONS)
    assert value(page, "fastserve_process_cpu_seconds_total", worker="box/0") == 3.5
    assert value(page, "fastserve_process_resident_memory_bytes", worker="box/1") == 1001
    assert value(page, "fastserve_process_open_fds", worker="box/1") == 20
    assert value(page, "fastserve_process_threads", worker="box/1") == 4
    assert value(page, "fastserve_workers") == 2
    assert value(page, "fastserve_build_info", version=__version__) == 1
    assert value(page, "process_resident_memory_bytes") > 2**20


def test_versions_that_nobody_holds_are_left_out() -> None:
    made = fleet()
    made.totals["flights", 2] = made.totals["flights", 3]
    made.drift["gone", 1] = made.drift["flights", 3]
    page = render(made, OPTIONS)
    assert b'version="2"' not in page
    assert b"gone" not in page


def test_no_more_versions_than_the_limit() -> None:
    held = [holding(f"m{place:04}", 1) for place in range(MAX_VERSIONS + 20)]
    made = Fleet(workers={("box", 0): worker(0, *held)})
    page = render(made, OPTIONS)
    shown = [dict(at[1])["model"] for at in every(page, "fastserve_queue_rows")]
    # One of the limit is for requests that no model answered.
    assert shown == [f"m{place:04}" for place in range(MAX_VERSIONS - 1)]
    assert value(page, "fastserve_versions_not_exported") == 21


def test_an_empty_fleet() -> None:
    page = render(Fleet(), OPTIONS)
    assert value(page, "fastserve_workers") == 0
    assert {at[0] for at in labelled(parsed(page))} == set()


def test_a_name_without_utf8_spoils_only_itself() -> None:
    made = fleet()
    made.drift["flights", 3] = [number("a\ud800b")]
    found = every(render(made, OPTIONS), "fastserve_missing_share")
    assert [dict(at[1])["feature"] for at in found] == ["a?b"]


DASHBOARD = Path(__file__).resolve().parents[2] / "configs" / "grafana" / "fastserve.json"
_METRIC = re.compile(r"\b(?:fastserve|process)_[a-z_]+\b")


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text())


def test_the_dashboard_asks_for_metrics_that_there_are(dashboard: Any) -> None:
    known = {at[0] for at in parsed(render(fleet(), OPTIONS))}
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    assert len(queries) > 12
    for query in queries:
        asked = set(_METRIC.findall(query))
        assert asked, query
        assert asked <= known, query


def test_without_errors_their_share_is_nought_and_not_no_data(dashboard: Any) -> None:
    panel = next(one for one in dashboard["panels"] if one["title"] == "Error share")
    for target in panel["targets"]:
        assert re.match(r"\(sum\(rate\(.+?\)\) or vector\(0\)\) / sum\(", target["expr"])


def test_the_dashboard_is_sound(dashboard: Any) -> None:
    assert dashboard["schemaVersion"] >= 39
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "model", "version"]
    assert variables["datasource"]["type"] == "datasource"
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert cells.isdisjoint(taken), panel["title"]
        cells |= taken
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
            assert panel["description"] and panel["targets"], panel["title"]
