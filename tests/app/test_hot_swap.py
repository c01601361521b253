"""A real server follows its registry: new versions, aliases, broken ones, sick ones, vanished ones."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastserve.registry import Registry
from fastserve.runtime import inspect
from fastserve.types import Signature
from tests import models
from tests.registries import publish
from tests.servers import Server, running
from tests.waiting import until

TOKEN = "a token of this test, long enough"
SETTINGS: dict[str, Any] = {
    "lifecycle": {"settle_s": 0.5, "poll_s": 1.0, "withdraw_after_runs": 3, "retry_s": 0.1},
    "http": {"load_control": True, "admin_token": TOKEN},
}


class Site:
    """A registry and the server that follows it."""

    def __init__(self, registry: Registry, server: Server, files: Path) -> None:
        self.registry = registry
        self.server = server
        self.files = files

    def publish(self, content: bytes, model: str = "m") -> int:
        return publish(self.registry, model, content)

    def ask(self, where: str = "", model: str = "m", value: float = 1.0) -> tuple[int, Any]:
        body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [value] * 3}]}
        answer = self.server.request("POST", f"/v2/models/{model}{where}/infer", body)
        return answer.status, answer.json()

    def version(self, where: str = "", model: str = "m") -> str | None:
        status, body = self.ask(where, model)
        return str(body["model_version"]) if status == 200 else None

    def states(self, model: str = "m") -> dict[str, tuple[str, str]]:
        entries = self.server.request("POST", "/v2/repository/index").json()
        return {e["version"]: (e["state"], e["reason"]) for e in entries if e["name"] == model}

    def is_unavailable(self, version: str, reason: str) -> bool:
        """True between two attempts to load: in the next one the version is LOADING, with the last reason."""
        state, why = self.states().get(version, ("", ""))
        return state == "UNAVAILABLE" and reason in why

    def ready(self) -> bool:
        return self.server.request("GET", "/v2/health/ready").status == 200


@pytest.fixture
def poll_s() -> float:
    return 1.0


@pytest.fixture
def site(tmp_path: Path, poll_s: float) -> Iterator[Site]:
    registry = Registry(tmp_path / "registry")
    publish(registry, "m", models.scaled(1.0))
    settings = {**SETTINGS, "lifecycle": {**SETTINGS["lifecycle"], "poll_s": poll_s}}
    with running(registry.path, tmp_path, settings) as server:
        yield Site(registry, server, tmp_path)


def test_a_new_model_is_announced(tmp_path: Path) -> None:
    """Its directory is there some time before its first version is: to test-load it takes that long."""
    registry = Registry(tmp_path / "registry")
    registry.path.mkdir()
    (tmp_path / "first.onnx").write_bytes(models.scaled(1.0))

    def slowly(path: Path) -> Signature:
        time.sleep(1)
        return inspect(path)

    with running(registry.path, tmp_path, {"lifecycle": {"poll_s": 3600.0}}, ready=False) as server:
        site = Site(registry, server, tmp_path)
        for model in ("m", "another"):
            registry.publish(model, tmp_path / "first.onnx", inspect=slowly)
            until(lambda name=model: site.version(model=name) == "1", 30.0)  # type: ignore[misc]


@pytest.mark.parametrize("poll_s", [3_600.0])
def test_an_alias_is_announced(site: Site) -> None:
    """Nobody waits for the next look at the registry."""
    registry = site.registry
    assert site.version() == "1"
    assert site.publish(models.scaled(2.0)) == 2
    until(lambda: site.version() == "2")  # no champion: the highest READY
    registry.set_alias("m", "champion", 1)
    until(lambda: site.version() == "1")
    registry.set_alias("m", "challenger", 2)
    until(lambda: site.version("/versions/challenger") == "2")
    assert site.version("/versions/champion") == "1"
    assert site.version("/versions/2") == "2"
    registry.set_alias("m", "champion", 2)
    until(lambda: site.version() == "2")
    assert registry.rollback("m", "champion") == (2, 1)
    until(lambda: site.version() == "1")
    answer = site.server.request(
        "POST", "/v1/models/m/labels/challenger:predict", {"instances": [{"x": [1.0, 1.0, 1.0]}]}
    )
    assert answer.status == 200
    assert answer.json()["predictions"] == [[2.0, 2.0, 2.0]]
    status, body = site.ask("/versions/nobody")
    assert status == 404
    assert "nobody" in body["error"]


def test_a_version_dropped_in_by_other_hands_counts_when_it_is_whole(site: Site) -> None:
    directory = site.registry.path / "m" / "5"
    directory.mkdir()
    content = models.scaled(5.0)
    (directory / "model.onnx").write_bytes(content[: len(content) // 2])
    time.sleep(0.3)
    assert site.version() == "1"
    (directory / "model.onnx").write_bytes(content)
    until(lambda: site.version() == "5")
    assert site.registry.describe("m", 5).manifest is None


def test_a_version_whose_file_appears_long_after_its_directory_is_noticed(site: Site) -> None:
    directory = site.registry.path / "m" / "5"
    directory.mkdir()
    (directory / ".model.onnx.x7Qz").write_bytes(models.scaled(5.0))  # as rsync does
    time.sleep(4.0)  # longer than any look at a directory is doubted
    (directory / ".model.onnx.x7Qz").rename(directory / "model.onnx")
    until(lambda: site.version() == "5", 10.0)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda content: content[:-20], "bytes"),
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "checksum"),
    ],
    ids=["truncated", "lying checksum"],
)
def test_a_broken_version_changes_nothing_and_says_why(
    site: Site, harm: Callable[[bytes], bytes], reason: str
) -> None:
    staged = site.files / "staged"
    site.publish(models.scaled(2.0), "other")
    shutil.copytree(site.registry.path / "other" / "1", staged)
    manifest = (staged / "manifest.json").read_bytes().replace(b'"other"', b'"m"')
    manifest = manifest.replace(b'"version": 1', b'"version": 2')
    for name, content in (
        ("manifest.json", manifest),
        ("model.onnx", harm((staged / "model.onnx").read_bytes())),
    ):
        (staged / name).unlink()
        (staged / name).write_bytes(content)
    staged.rename(site.registry.path / "m" / "2")
    until(lambda: site.is_unavailable("2", reason))
    assert site.version() == "1"
    until(site.ready)  # the other model may still be loading
    # It is tried again now and then, and says so meanwhile.
    until(lambda: reason in site.ask("/versions/2")[1]["error"])
    assert site.ask("/versions/2")[0] == 503


def pick(site: Site, row: int) -> tuple[int, Any]:
    body = {"inputs": [{"name": "row", "shape": [1, 1], "datatype": "INT64", "data": [row]}]}
    answer = site.server.request("POST", "/v2/models/sick/infer", body)
    return answer.status, answer.json().get("model_version")


def test_a_version_that_fails_every_run_is_withdrawn_and_the_one_before_takes_over(site: Site) -> None:
    site.publish(models.failing_on_negative(), "sick")
    assert site.publish(models.failing_on_negative(), "sick") == 2
    until(lambda: pick(site, 0) == (200, "2"))
    # A good run in between, and nothing happens.
    for row in (9, 9, 0, 9, 9, 0):
        pick(site, row)
    time.sleep(0.2)
    assert pick(site, 0) == (200, "2")
    for _ in range(3):
        assert pick(site, 9)[0] == 500
    until(lambda: pick(site, 0) == (200, "1"))
    until(lambda: site.states("sick")["2"][0] == "UNAVAILABLE")  # drained first
    reason = site.states("sick")["2"][1]
    assert "3 runs in a row failed" in reason
    until(lambda: any(line.event == "withdraw" for line in site.registry.audit("sick")))
    assert site.registry.check_audit("sick") == []


def test_a_version_deleted_while_it_serves_hands_over_to_another(site: Site) -> None:
    site.publish(models.scaled(2.0))
    until(lambda: site.version() == "2")
    shutil.rmtree(site.registry.path / "m" / "2")
    until(lambda: site.version() == "1")
    shutil.rmtree(site.registry.path / "m" / "1")
    time.sleep(0.5)
    assert site.version() == "1", "the only one serves on from memory"
    shutil.rmtree(site.registry.path / "m")
    until(lambda: site.ask()[0] == 404)


def test_unreadable_aliases_leave_everything_as_it_was(site: Site) -> None:
    site.registry.set_alias("m", "champion", 1)
    site.publish(models.scaled(2.0))
    until(lambda: site.states().get("2", ("", ""))[0] == "READY")
    (site.registry.path / "m" / "aliases.json").write_text("{")
    until(lambda: "aliases.json" in site.server.log.read_text())
    assert site.version() == "1"


def test_load_control_writes_what_is_wished_for(site: Site) -> None:
    url = "/v2/repository/models/m/"
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
        answer = site.server.request("POST", url + "unload", headers=headers)
        assert answer.status == 401, headers
        assert answer.header("www-authenticate") == "Bearer"
        given = headers.get("Authorization", "").startswith("Bearer")
        assert ("not the right one" in answer.json()["error"]) == given
    assert site.server.request("POST", url + "unload", headers=bearer).status == 200
    assert site.ask()[0] == 503
    assert site.registry.state("m").loaded is False
    assert site.ready(), "nothing that is wished for is missing"
    assert site.server.request("POST", url + "load", headers=bearer).status == 200
    assert site.version() == "1"
    assert [line.event for line in site.registry.audit("m")][-2:] == ["unload", "load"]
    bad = site.server.request("POST", url + "load", {"parameters": {"config": "{}"}}, bearer)
    assert bad.status == 400
    assert "config" in bad.error
    missing = site.server.request("POST", "/v2/repository/models/nobody/load", headers=bearer)
    assert missing.status == 404


def test_load_control_is_off_unless_enabled(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry", tmp_path) as server:
        answer = server.request("POST", "/v2/repository/models/m/load")
        assert answer.status == 501
        assert "load_control" in answer.error


def test_a_registry_without_models_is_told_of(tmp_path: Path) -> None:
    """Nor is it known whether that is the one that was meant."""
    (tmp_path / "registry").mkdir()
    with running(tmp_path / "registry", tmp_path) as server:
        until(lambda: "ready" in server.log.read_text())
        assert "ready, but the registry has no models" in server.log.read_text()
        assert server.request("GET", "/v2/health/ready").status == 200
        publish(Registry(tmp_path / "registry"), "m", models.scaled(2.0))
        until(lambda: server.request("GET", "/v2/models/m/ready").status == 200)


def test_a_model_that_comes_later_is_served_and_ready_waits_for_it(site: Site) -> None:
    assert site.publish(models.scaled(9.0), "late") == 1
    until(lambda: site.version(model="late") == "1")
    assert site.ready()


def test_all_that_is_wished_for_is_known_while_the_first_small_models_load(tmp_path: Path) -> None:
    """They are loaded in one go: until they serve, nobody is told that they do not exist."""
    registry = Registry(tmp_path / "registry")
    for number in range(60):
        publish(registry, f"m{number:02}", models.mlp.__wrapped__(32, 64, 64, 2, seed=number))
    with running(registry.path, tmp_path, {"lifecycle": {"probe": False}}, ready=False) as server:
        seen: list[tuple[int, int, int]] = []

        def all_ready() -> bool:
            entries = server.request("POST", "/v2/repository/index").json()
            stats = server.request("GET", "/v2/models/m59/stats").status
            ready = server.request("GET", "/v2/health/ready").status
            if entries:
                seen.append((len(entries), stats, ready))
            return ready == 200

        until(all_ready)
    assert {(found, stats) for found, stats, _ in seen} == {(60, 200)}
    assert seen[0][2] == 503, "it was ready before anybody could ask"
