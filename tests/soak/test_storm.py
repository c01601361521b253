"""A short swap storm; `make soak` runs the long one, where limits on time and memory are checked too."""

from pathlib import Path

import pytest

from tests.soak import storm


@pytest.mark.parametrize(("mode", "swaps"), [("publish", 12), ("alias", 25)])
def test_nothing_fails_and_nobody_gets_what_was_not_wished_for(tmp_path: Path, mode: str, swaps: int) -> None:
    happened = storm.run(tmp_path, swaps, mode, connections=64, quiet_s=0.5, pause_s=0.05)
    assert happened.problems() == []
    assert {version for version, _, _ in happened.seen["slots"]} == {v for _, v in happened.wishes}
    assert happened.seen["phases"]["swaps"]["answers"] > 100
