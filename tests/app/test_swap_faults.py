"""Processes die in the middle of swaps: the registry stays sound and the others go on answering."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

from fastserve.registry import Registry
from tests import models
from tests.app.test_hot_swap import SETTINGS, Site
from tests.lifecycle import hostile
from tests.processes import alive, children
from tests.registries import publish
from tests.servers import running
from tests.waiting import until

PAIR = {**SETTINGS, "server": {"workers": 2}}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    publish(registry, "m", models.scaled(1.0), alias="champion")
    return registry


@pytest.fixture
def pair(registry: Registry, tmp_path: Path) -> Iterator[Site]:
    with running(registry.path, tmp_path, PAIR) as server:
        yield Site(registry, server, tmp_path)


def workers(site: Site) -> list[int]:
    """Processes below the supervisor that serve; test loads happen further down."""
    return children(site.server.process.pid)


def everywhere(site: Site, version: str) -> bool:
    """New connections land on either worker: so many answers in a row mean both."""
    try:
        return all(site.version() == version for _ in range(20))
    except OSError:
        return False


def test_a_model_that_cannot_be_read_at_the_start_is_not_forgotten(
    registry: Registry, tmp_path: Path
) -> None:
    """No load balancer shall send traffic to a server that answers 404 for it."""
    (registry.path / "m" / "aliases.json").write_text('{"champion": ')
    publish(registry, "other", models.scaled(3.0))
    with running(registry.path, tmp_path, {**PAIR, "server": {"workers": 1}}, ready=False) as server:
        until(lambda: server.request("GET", "/v2/models/other/ready").status == 200)
        assert server.request("GET", "/v2/health/ready").status == 503
        for path in ("/v2/models/m", "/v2/models/m/ready"):
            answer = server.request("GET", path)
            assert answer.status == 503, path
        told = server.request("GET", "/v2/models/m").error
        assert told.startswith("model 'm' is not ready: ") and "aliases.json" in told
        rows = server.request("POST", "/v2/repository/index", b"{}").json()
        (row,) = [row for row in rows if row["name"] == "m"]
        assert row["state"] == "UNAVAILABLE" and "aliases.json" in row["reason"]
        (registry.path / "m" / "aliases.json").write_text('{"champion": 1}')
        until(lambda: server.request("GET", "/v2/health/ready").status == 200)


def test_a_worker_killed_in_the_middle_of_a_swap_comes_back_with_the_champion(pair: Site) -> None:
    until(lambda: len(workers(pair)) == 2 and everywhere(pair, "1"))
    for round_ in range(3):
        version = pair.publish(models.scaled(2.0 + round_))
        pair.registry.set_alias("m", "champion", version)
        time.sleep(0.03 * round_)
        victim = workers(pair)[round_ % 2]
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(workers(pair)) == 2 and victim not in workers(pair))  # noqa: B023
        until(lambda: everywhere(pair, str(version)))  # noqa: B023
    assert pair.registry.check_audit("m") == []
    assert "starting it again" in pair.server.log.read_text()


def test_a_supervisor_killed_in_the_middle_of_a_swap_leaves_a_sound_registry(
    registry: Registry, tmp_path: Path
) -> None:
    with running(registry.path, tmp_path, PAIR) as server:
        site = Site(registry, server, tmp_path)
        until(lambda: len(workers(site)) == 2)
        left = workers(site)
        site.publish(models.scaled(2.0))
        registry.set_alias("m", "champion", 2)
        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: not any(alive(pid) for pid in left))
    assert registry.check_audit("m") == []
    assert registry.state("m").aliases == {"champion": 2}
    with running(registry.path, tmp_path, PAIR) as server:
        assert everywhere(Site(registry, server, tmp_path), "2")


def test_a_worker_that_still_loads_does_not_outlive_a_killed_supervisor(
    registry: Registry, tmp_path: Path
) -> None:
    """It would keep the port, and connections waiting, for as long as its loads take."""
    lifecycle = {**PAIR["lifecycle"], "probe_timeout_s": 600}
    with running(registry.path, tmp_path, {**PAIR, "lifecycle": lifecycle}) as server:
        site = Site(registry, server, tmp_path)
        until(lambda: len(workers(site)) == 2 and everywhere(site, "1"))
        directory = registry.path / "hangs" / "1"
        directory.mkdir(parents=True)
        (directory / "model.onnx").write_bytes(hostile.endless_loop())
        until(lambda: "LOADING" in {state for state, _ in site.states("hangs").values()})
        victim, survivor = workers(site)
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(set(workers(site)) - {victim}) == 2)
        (loading,) = set(workers(site)) - {victim, survivor}
        time.sleep(1.0)
        os.kill(server.process.pid, signal.SIGKILL)
        until(lambda: not alive(loading) and not alive(survivor))


def test_a_worker_replaced_while_the_registry_is_away_says_so_to_whoever_connects(pair: Site) -> None:
    until(lambda: len(workers(pair)) == 2 and everywhere(pair, "1"))
    path = pair.registry.path
    path.rename(path.with_name("away"))
    survivor, victim = workers(pair)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(set(workers(pair)) - {victim}) == 2)
    assert {pair.ask()[0] for _ in range(20)} == {200, 503}
    path.with_name("away").rename(path)
    until(lambda: everywhere(pair, "1"))
    assert survivor in workers(pair)


def test_a_run_that_never_ends_does_not_keep_a_server_alive(registry: Registry, tmp_path: Path) -> None:
    settings = {**SETTINGS, "server": {"drain_s": 1.0}, "batching": {"inline_max_us": 0}}
    with running(registry.path, tmp_path, settings) as server, ThreadPoolExecutor(1) as pool:
        site = Site(registry, server, tmp_path)
        assert site.publish(hostile.as_long_as_told(), "loop") == 1
        until(lambda: site.ask(model="loop")[0] == 200)
        answer = pool.submit(site.ask, model="loop", value=1e18)
        time.sleep(0.5)
        server.process.terminate()
        assert server.process.wait(20) == 0
        with suppress(OSError, HTTPException):
            assert answer.result()[0] == 503


def test_a_version_that_crashes_its_process_on_load_takes_a_child_along_and_nobody_else(pair: Site) -> None:
    until(lambda: len(workers(pair)) == 2 and everywhere(pair, "1"))
    before = workers(pair)
    directory = pair.registry.path / "m" / "2"
    directory.mkdir()
    (directory / "model.onnx").write_bytes(hostile.deep_tree())
    # Either worker may be asked, and each tries again now and then.
    until(lambda: pair.is_unavailable("2", "crashed a test process"))
    assert pair.version() == "1"
    assert workers(pair) == before


def test_a_worker_that_keeps_dying_is_started_ever_more_slowly(pair: Site) -> None:
    until(lambda: len(workers(pair)) == 2)
    survivor, victim = workers(pair)
    started: set[int] = {victim}
    give_up_s = time.monotonic() + 3.0
    while time.monotonic() < give_up_s:
        for pid in set(workers(pair)) - {survivor}:
            started.add(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    assert 2 <= len(started) <= 5  # at once, after 1 s, after 2 s more
    assert survivor in workers(pair)
