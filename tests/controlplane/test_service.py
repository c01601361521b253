"""What the control plane does by itself: one trouble keeps nothing else from being done."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.controlplane import service
from fastserve.controlplane.database import open_database
from fastserve.controlplane.errors import NotWatched, ProfileUnavailable, StoreUnavailable
from fastserve.controlplane.fleet import Version
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.service import Control
from fastserve.monitoring.comparing import FeatureComparison, Side
from fastserve.monitoring.snapshot import VersionNow
from tests.controlplane.snapshots import Clock, delta, normal, profile, snapshot

REFERENCE = profile()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    made = Control(ControlOptions(), tmp_path, open_database(f"sqlite:///{tmp_path}/a.db"), Clock())
    yield made
    made.close()


def test_what_is_no_models_name_is_asked_of_no_database(url: str, tmp_path: Path) -> None:
    """PostgreSQL takes no NUL in a text, and would seem to be away."""
    control = Control(ControlOptions(), tmp_path, open_database(url), Clock())

    async def scene() -> None:
        await control.intake.prepare()
        for ask in (control.report, control.by_count):
            with pytest.raises(NotWatched):
                await ask("a\0b", 1, None, 60_000)

    asyncio.run(scene())
    control.close()


def test_what_fails_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    troubles = [StoreUnavailable("it is off"), ValueError("nobody thought of this"), asyncio.CancelledError()]

    async def work() -> None:
        raise troubles.pop(0)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(service._every(0.001, work))
    assert troubles == []
    assert "it is off" in caplog.text and "ValueError: nobody thought of this" in caplog.text
    assert caplog.text.count("Traceback") == 1


def test_everything_is_done_from_time_to_time(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"_sweep", "_compare", "keep_house", "look"}
    done: set[str] = set()

    async def scene() -> None:
        for name in wanted:

            async def note(name: str = name) -> None:
                done.add(name)

            monkeypatch.setattr(control.intake if name == "look" else control, name, note)
        working = asyncio.create_task(control.run())
        async with asyncio.timeout(20):
            while done != wanted:
                await asyncio.sleep(0.001)
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working

    asyncio.run(scene())
    assert control.ready


def test_what_is_wrong_with_one_version_keeps_no_other_from_being_compared(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    troubles: list[Exception] = [ValueError("odd"), ProfileUnavailable("d", "missing"), NotWatched("m", 1)]
    side = Side(rows=1, missing=0, counts=(), outside=0)
    found = [
        FeatureComparison(
            tensor="x",
            role="input",
            feature="x",
            kind="number",
            reference=side,
            live=side,
            distances={},
            phi=1.0,
        )
    ]

    def compare(version: Version, _: int) -> list[FeatureComparison]:
        if version == ("m", 1):
            raise troubles[0]
        return found

    async def scene() -> None:
        await control.intake.prepare()
        monkeypatch.setattr(control._drift, "compare", compare)
        now = [VersionNow(model="m", version=n, state="READY", profile=REFERENCE.digest()) for n in (1, 2)]
        for number in range(1, 4):
            rows = [delta(REFERENCE, normal(5), version=n) for n in (1, 2)]
            await control.intake.submit(snapshot(number, rows, profiles=(REFERENCE,), now=now))
            control.fleet.drift.clear()
            control._drift._compared_s.clear()
            await control._compare()
            assert control.fleet.drift == {("m", 2): found} and control.intake.watched == set()
            troubles.pop(0)
        troubles.append(StoreUnavailable("it is off"))
        control._drift._compared_s.clear()
        with pytest.raises(StoreUnavailable):
            await control._compare()
        (worker,) = control.fleet.workers.values()
        await control._sweep()
        assert control.fleet.workers
        worker.patience_s = -1.0
        await control._sweep()
        assert not control.fleet.workers

    asyncio.run(scene())
