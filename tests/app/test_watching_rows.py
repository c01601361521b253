"""Rows of every kind through real servers: what is counted is what was answered, and memory stays bounded."""

import gzip
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastserve.monitoring import NumberFeature, Profile
from fastserve.monitoring.building import Described, build_profile
from fastserve.monitoring.comparing import FeatureComparison
from fastserve.registry import Registry
from fastserve.runtime import inspect
from fastserve.types import Array
from tests import models
from tests.app.watched import Load, Watched, catch_up, watching
from tests.processes import children, rss_bytes
from tests.servers import Answer, Server
from tests.waiting import until

MIB = 2**20


def publish_profiled(
    registry: Registry,
    tmp: Path,
    content: bytes,
    rows: Sequence[Array],
    *,
    outputs: Sequence[Array] = (),
    model: str = "m",
    **options: Any,
) -> Profile:
    """Publish a version with a profile of reference rows: one array an input, and one an output if any."""
    path = tmp / "model.onnx"
    path.write_bytes(content)
    signature = inspect(path)
    tensors = [
        Described(spec, "input", tuple(f"{spec.name}{f}" for f in range(block.shape[1])))
        for spec, block in zip(signature.inputs, rows, strict=True)
    ] + [
        Described(spec, "output", tuple(f"{spec.name}{f}" for f in range(block.shape[1])))
        for spec, block in zip(signature.outputs, outputs, strict=False)
    ]
    profile = build_profile(tensors, lambda: [[*rows, *outputs]], **options)
    registry.publish(model, path, inspect=inspect, profile=profile.to_bytes())
    return profile


def send_floats(server: Server, rows: Array, model: str = "m") -> Answer:
    """Send FP32 rows [n, width] as binary data, which holds infinities too."""
    size = {"binary_data_size": rows.nbytes}
    one = {"name": "x", "shape": list(rows.shape), "datatype": "FP32", "parameters": size}
    head = json.dumps({"inputs": [one]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    return server.request("POST", f"/v2/models/{model}/infer", head + rows.tobytes(), headers)


def send_texts(server: Server, texts: Sequence[str], model: str = "m") -> None:
    one = {"name": "x", "shape": [len(texts), 1], "datatype": "BYTES", "data": list(texts)}
    assert server.request("POST", f"/v2/models/{model}/infer", {"inputs": [one]}).status == 200


def worker_rss_bytes(watched: Watched) -> int:
    (worker,) = set(children(watched.server.process.pid)) - {watched.control_pid()}
    return rss_bytes(worker)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.mark.slow
def test_two_thousand_features(registry: Registry, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    reference = rng.standard_normal((2_000, 2_000)).astype(np.float32)
    publish_profiled(registry, tmp_path, models.scaled(width=2_000), [reference], outputs=[2 * reference])
    with watching(registry, tmp_path) as watched:
        send_floats(watched.server, reference[:50])
        catch_up(watched)
        before = worker_rss_bytes(watched)
        for _ in range(100):
            assert send_floats(watched.server, reference[:50]).status == 200
        catch_up(watched)
        grown = worker_rss_bytes(watched) - before
        assert watched.metric("fastserve_rows_watched_total") == 101 * 50
        found = watched.report("m")
        # An answer of these is 1 MB of JSON, the states of a snapshot 0.8 MB: a few of each, whatever was sent.
        assert grown < 24 * MIB, grown / MIB
    assert found.rows == 101 * 50
    assert len(found.features) == 4_000
    assert all(sum(one.live.counts) == 101 * 50 for one in found.features)


def test_unseen_categories_take_no_memory(registry: Registry, tmp_path: Path) -> None:
    known = np.array([[f"category {i}"] for i in range(100_000)], object)
    content = models.identity(8, "batch", 1)
    publish_profiled(registry, tmp_path, content, [known], max_categories=100_000)
    with watching(registry, tmp_path) as watched:
        send_texts(watched.server, known[:2_000, 0].tolist())
        catch_up(watched)
        before = worker_rss_bytes(watched)
        for start in range(0, 200_000, 2_000):
            send_texts(watched.server, [f"{start + i:0200}" for i in range(2_000)])
        catch_up(watched)
        grown = worker_rss_bytes(watched) - before
        (found,) = watched.report("m").features
    assert (found.live.rows, found.live.outside, found.live.missing) == (202_000, 200_000, 0)
    assert (sum(found.live.counts), max(found.live.counts), len(found.live.counts)) == (2_000, 1, 100_000)
    # To keep what was unseen would take 50 MB.
    assert grown < 24 * MIB, grown / MIB


def test_odd_values_move_their_own_bins_only(registry: Registry, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    reference = rng.standard_normal((5_000, 5)).astype(np.float32)
    reference[:, 0] = 5.0
    reference[:, 1] = np.nan
    profile = publish_profiled(
        registry, tmp_path, models.scaled(width=5), [reference], outputs=[reference * np.float32(2)]
    )
    live = rng.standard_normal((400, 5)).astype(np.float32)
    live[:, :2] = (5.0, np.nan)
    odd = live[:8].copy()
    odd[:, 2:] = 0.0
    odd[0, 2], odd[1, 2], odd[2, 3], odd[3, 3], odd[4, 4], odd[5, 4] = (
        np.inf,
        -np.inf,
        1e38,
        -1e38,
        np.nan,
        3e38,
    )
    odd[6, 0], odd[7, 1] = 6.0, 1.0
    with watching(registry, tmp_path) as watched:
        assert send_floats(watched.server, live).status == 200
        for row in odd:
            assert send_floats(watched.server, row[None]).status == 200
        catch_up(watched)
        found = watched.report("m")
        assert watched.metric("fastserve_rows_watched_total") == 408
    every = np.concatenate([live, odd])
    with np.errstate(over="ignore"):
        doubled = every * np.float32(2)
    for tensor, rows in zip(profile.tensors, (every, doubled), strict=True):
        mine = {one.feature: one.live for one in found.features if one.role == tensor.role}
        for f, feature in enumerate(tensor.features):
            one = mine[feature.name]
            column = rows[:, f].astype(float)
            assert isinstance(feature, NumberFeature)
            edges = feature.edges
            numbers = column[~np.isnan(column)]
            assert one.rows == 408
            assert one.missing == np.isnan(column).sum()
            assert one.infinite == np.isinf(column).sum()
            finite = numbers[np.isfinite(numbers)]
            inside = np.bincount(np.searchsorted(edges, finite), minlength=len(edges) + 1)
            inside[0] += np.isneginf(column).sum()
            inside[-1] += np.isposinf(column).sum()
            assert list(one.counts) == inside.tolist(), (tensor.role, feature.name)
            assert one.moments is not None
            if finite.size:
                assert (one.moments.minimum, one.moments.maximum) == (finite.min(), finite.max())


def test_a_version_swapped_away_under_load(registry: Registry, tmp_path: Path) -> None:
    reference = np.random.default_rng(5).standard_normal((1_000, 3)).astype(np.float32)
    publish_profiled(registry, tmp_path, models.scaled(2.0), [reference])
    registry.set_alias("m", "champion", 1)
    with watching(registry, tmp_path, lifecycle={"versions": 1}) as watched:
        load = Load(watched.server, "m")
        until(lambda: load.answered > 50)
        publish_profiled(registry, tmp_path, models.scaled(3.0), [reference + np.float32(1)])
        registry.set_alias("m", "champion", 2)
        until(lambda: watched.metric("fastserve_requests_total", model="m", version="2", code="200") > 50)
        load.stop()
        # The worker remembers what it has unloaded for as long as the registry has it.
        shutil.rmtree(registry.path / "m" / "1")
        until(lambda: 'version="1"' not in watched.get("/metrics").decode())
        catch_up(watched)
        second = watched.metric("fastserve_requests_total", model="m", version="2", code="200")
        assert watched.metric("fastserve_rows_watched_total", version="2") == second
        first = watched.report("m", 1).rows
        assert watched.report("m", 2).rows == second
        listed = json.loads(watched.get("/v2/control/models"))["models"]
    assert not load.failed
    assert first > 0
    assert first + second == load.answered
    assert [(one["version"], one["watched_rows"], one["present"]) for one in listed] == [
        (1, first, False),
        (2, second, True),
    ]


def test_rows_whose_run_fails_are_not_counted(registry: Registry, tmp_path: Path) -> None:
    reference = np.arange(3, dtype=np.int64).repeat(40)[:, None]
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    publish_profiled(
        registry, tmp_path, models.failing_on_negative(), [reference], outputs=[table[reference[:, 0]]]
    )
    sent = [0, 1, 0, 2, 2, 1, 1, 2] * 6 + [0, 1, 9, 2, 2, 9, 1, 2] * 6
    with watching(
        registry,
        tmp_path,
        lifecycle={"withdraw_after_runs": 0},
        batching={"max_queue_delay_us": 50_000},
    ) as watched:

        def ask(picks: list[int]) -> None:
            for pick in picks:
                one = {"name": "row", "shape": [1, 1], "datatype": "INT64", "data": [pick]}
                answer = watched.server.request("POST", "/v2/models/m/infer", {"inputs": [one]})
                assert answer.status == (500 if pick == 9 else 200)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(ask, [sent[at::8] for at in range(8)]))
        catch_up(watched)
        # Some ran together and some alone, as all do that were in a batch with a bad one.
        name = "fastserve_batch_rows_bucket"
        assert 0 < watched.metric(name, model="m", le="1.0") < watched.metric(name, model="m", le="+Inf")
        assert watched.metric("fastserve_rows_watched_total") == 84
        found = watched.report("m")
    assert found.rows == 84
    picked = next(one for one in found.features if one.role == "input").live
    assert picked.moments is not None
    assert (picked.moments.minimum, picked.moments.maximum) == (0.0, 2.0)
    assert picked.moments.mean == pytest.approx(np.mean([pick for pick in sent if pick != 9]))


def test_rows_of_requests_that_run_alone(registry: Registry, tmp_path: Path) -> None:
    """A model that does not keep rows apart is served without batching: a request is one entry of its queue."""
    reference = np.random.default_rng(6).standard_normal((1_000, 3)).astype(np.float32)
    publish_profiled(registry, tmp_path, models.unique_rows(), [reference])
    with watching(registry, tmp_path) as watched:
        for at in range(5):
            assert send_floats(watched.server, reference[at * 12 : at * 12 + 12]).status == 200
        catch_up(watched)
        until(lambda: watched.metric("fastserve_rows_watched_total") == 60)
        found = watched.report("m")
    assert found.rows == 60
    assert {one.live.rows for one in found.features} == {60}


def test_every_way_in_counts_the_same(registry: Registry, tmp_path: Path) -> None:
    """Plain JSON of one row is decoded in place, gzip takes the ordinary path, /v1 has rows of its own."""
    kinds = {"carrier": "BYTES", "origin": "BYTES", "distance": "FP32", "hour": "INT64"}
    types = {"BYTES": object, "FP32": np.float32, "INT64": np.int64}
    columns = models.pipeline_rows(200, seed=1)
    reference = [np.array(columns[name], types[kind])[:, None] for name, kind in kinds.items()]
    ways = ("plain", "gzip", "v1")
    for way in ways:
        publish_profiled(registry, tmp_path, models.pipeline(), reference, model=way)
    live = models.pipeline_rows(40, seed=2)
    live["carrier"][:5] = ["ZZ"] * 5
    with watching(registry, tmp_path) as watched:
        for at in range(40):
            row = {name: [live[name][at]] for name in kinds}
            inputs = [
                {"name": name, "shape": [1, 1], "datatype": kind, "data": row[name]}
                for name, kind in kinds.items()
            ]
            body = json.dumps({"inputs": inputs}).encode()
            packed = gzip.compress(body)
            headers = {"content-encoding": "gzip"}
            asked = [
                watched.server.request("POST", "/v2/models/plain/infer", body),
                watched.server.request("POST", "/v2/models/gzip/infer", packed, headers),
                watched.server.request("POST", "/v1/models/v1:predict", {"instances": [row]}),
            ]
            assert [one.status for one in asked] == [200, 200, 200], [one.body for one in asked]
        catch_up(watched)
        seen = [{one.feature: one for one in watched.report(way).features} for way in ways]
        for way in ways:
            assert watched.metric("fastserve_requests_total", model=way, code="200") == 40
            name = "fastserve_request_duration_seconds_count"
            assert watched.metric(name, model=way, phase="total") == 40
    assert (seen[0]["carrier0"].live.rows, seen[0]["carrier0"].live.outside) == (40, 5)
    for other in seen[1:]:
        assert other.keys() == seen[0].keys()
        for name, one in seen[0].items():
            assert facts(other[name]) == facts(one)
            assert other[name].distances == one.distances


def facts(one: FeatureComparison) -> tuple[object, ...]:
    """What does not depend on how rows were spread over snapshots."""
    moments = one.live.moments
    ends = None if moments is None else (moments.minimum, moments.maximum)
    return one.live.rows, one.live.missing, one.live.outside, one.live.counts, ends


def test_series_of_a_version_that_is_unloaded_go_although_its_directory_stays(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    reference = np.random.default_rng(5).standard_normal((1_000, 3)).astype(np.float32)
    publish_profiled(registry, tmp_path, models.scaled(2.0), [reference])
    registry.set_alias("m", "champion", 1)
    with watching(registry, tmp_path, lifecycle={"versions": 1}) as watched:
        assert send_floats(watched.server, reference[:1]).status == 200
        until(lambda: watched.metric("fastserve_requests_total", version="1") == 1)
        publish_profiled(registry, tmp_path, models.scaled(3.0), [reference])
        registry.set_alias("m", "champion", 2)
        until(lambda: watched.metric("fastserve_model_state", version="2", state="READY") == 1)
        until(lambda: 'model="m",version="1"' not in watched.get("/metrics").decode())
