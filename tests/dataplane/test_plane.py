"""What the data plane says of versions that do not serve."""

from typing import Any, cast

import orjson

from fastserve.dataplane import DataPlane
from fastserve.lifecycle import Record, VersionState


class Manager:
    """As much of the manager as the index asks."""

    def records(self) -> list[Record]:
        return [Record("m", 1, VersionState.UNAVAILABLE, "model.yaml: 'x\ud800' is not a setting")]

    def problems(self) -> dict[str, str]:
        return {"n": "cannot read n/\udcff"}


def test_a_reason_that_is_not_unicode_leaves_the_index_readable() -> None:
    nothing = cast(Any, None)
    plane = DataPlane(cast(Any, Manager()), nothing, nothing)
    reasons = [entry.reason for entry in plane.index()]
    assert orjson.loads(orjson.dumps(reasons)) == ["model.yaml: 'x?' is not a setting", "cannot read n/?"]
