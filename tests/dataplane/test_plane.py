"""What the data plane says of versions that do not serve, and where the fast path finds those that do."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import orjson
import pytest

from fastserve.batching import BatchingOptions
from fastserve.dataplane import DataPlane
from fastserve.errors import ModelNotFound, NotReady
from fastserve.lifecycle import Loaded, Record, Route, VersionState
from fastserve_core.batching import NO_DEADLINE
from fastserve_core.lane import Lane, Predict
from tests.batching.bench import asynchronous
from tests.batching.puppet import PuppetRuntime


class Manager:
    """As much of the manager as the index asks."""

    def records(self) -> list[Record]:
        return [Record("m", 1, VersionState.UNAVAILABLE, "model.yaml: 'x\ud800' is not a setting")]

    def withdraw(self, model: str, version: int, reason: str) -> None:
        raise AssertionError("nothing fails here")

    def problems(self) -> dict[str, str]:
        return {"n": "cannot read n/\udcff"}


def test_a_reason_that_is_not_unicode_leaves_the_index_readable() -> None:
    nothing = cast(Any, None)
    plane = DataPlane(cast(Any, Manager()), nothing, nothing)
    reasons = [entry.reason for entry in plane.index()]
    assert orjson.loads(orjson.dumps(reasons)) == ["model.yaml: 'x?' is not a setting", "cannot read n/?"]


def targets(served: dict[str, Lane | None]) -> dict[bytes, Lane | None]:
    """Every address of every version of "m", numbers and aliases alike."""
    found = {}
    for name, lane in served.items():
        found[(f"/v2/models/m/versions/{name}/infer" if name else "/v2/models/m/infer").encode()] = lane
        for kind in ("versions", "labels") if name else ("",):
            path = f"/v1/models/m/{kind}/{name}:predict" if name else "/v1/models/m:predict"
            found[path.encode()] = lane
    return found


def lanes(plane: DataPlane) -> dict[bytes, Lane]:
    routes = plane.fast_routes
    assert all(isinstance(route, Predict) == target.startswith(b"/v1/") for target, route in routes.items())
    return {target: route.lane if isinstance(route, Predict) else route for target, route in routes.items()}


@asynchronous
async def test_the_fast_path_knows_what_serves_now() -> None:
    with ThreadPoolExecutor(1) as executor:
        plane = DataPlane(cast(Any, Manager()), asyncio.get_running_loop(), executor)
        one, two = (
            plane.prepare(Loaded("m", number, PuppetRuntime(), 8, 1.0, 1.0, BatchingOptions()))
            for number in (1, 2)
        )
        plane.add(two)
        plane.add(one)
        assert plane.versions("m") == ["1", "2"]
        plane.route("m", Route(1, {"stable": 1}))
        served = {"": one.lane, "1": one.lane, "2": two.lane, "stable": one.lane}
        assert lanes(plane) == targets(served)
        plane.route("m", Route(2))
        drained: list[int] = []
        plane.remove(one, lambda: drained.append(1))
        assert lanes(plane) == targets({"": two.lane, "2": two.lane})
        plane.route("m", Route())
        plane.remove(two, lambda: drained.append(2))
        assert drained == [1, 2] and not plane._retired, "nothing keeps what has gone"
        assert plane.fast_routes == {} and list(plane.served()) == [] == plane.versions("m")
        with pytest.raises(ModelNotFound):
            plane.versions("other")


@asynchronous
async def test_who_waits_for_a_version_that_goes_is_told_when_the_server_ends() -> None:
    with ThreadPoolExecutor(1) as executor:
        plane = DataPlane(cast(Any, Manager()), asyncio.get_running_loop(), executor)
        one = plane.prepare(Loaded("m", 1, PuppetRuntime(), 8, 1.0, 1.0, BatchingOptions()))
        plane.add(one)
        waiting = asyncio.ensure_future(one.infer({"x": np.zeros((1, 2), np.float32)}, NO_DEADLINE))
        await asyncio.sleep(0)
        plane.remove(one, lambda: None)
        plane.close()
        with pytest.raises(NotReady):
            await waiting
