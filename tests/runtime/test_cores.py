"""The cores that a container really gives, from copies of what kernels write."""

import os
from pathlib import Path

import pytest

from fastserve.runtime import available_cores, threads_per_worker


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


def machine(tmp_path: Path, cgroup: str, files: dict[str, str]) -> int:
    (tmp_path / "cgroup").write_bytes(os.fsencode(cgroup))
    for name, content in files.items():
        path = tmp_path / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return available_cores(tmp_path / "sys", tmp_path / "cgroup")


V2 = "0::/system.slice/app.service\n"
V1 = "5:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        pytest.param("", {}, 16, id="no cgroups"),
        pytest.param("0::/\n", {"cpu.max": "400000 100000\n"}, 4, id="v2, the mount is the container's own"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, 16, id="v2, no limit"),
        pytest.param("0::/\n", {"cpu.max": "250000 100000\n"}, 2, id="two and a half cores are two threads"),
        pytest.param("0::/\n", {"cpu.max": "50000 100000\n"}, 1, id="half a core is one thread"),
        pytest.param("0::/\n", {"cpu.max": "9900000 100000\n"}, 16, id="more than there is"),
        pytest.param(V2, {"system.slice/app.service/cpu.max": "300000 100000"}, 3, id="v2, nested"),
        pytest.param(
            V2,
            {"system.slice/app.service/cpu.max": "800000 100000", "system.slice/cpu.max": "200000 100000"},
            2,
            id="v2, a parent is tighter",
        ),
        pytest.param(
            V1,
            {
                "cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "600000",
                "cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000",
            },
            6,
            id="v1",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
            id="v1, own mount",
        ),
        pytest.param(
            V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16, id="v1, no limit"
        ),
        pytest.param("0::/\n1:cpu:/\n", {"unified/cpu.max": "500000 100000"}, 5, id="hybrid"),
        pytest.param("0::/../../other\n", {"cpu.max": "400000 100000"}, 4, id="a path above the mount"),
        pytest.param("0::/pod:cri:ab\n", {"pod:cri:ab/cpu.max": "400000 100000"}, 4, id="colons"),
        pytest.param("0::/\n", {"cpu.max/x": ""}, 16, id="what cannot be read"),
        pytest.param("0::/über\n", {"über/cpu.max": "400000 100000"}, 4, id="a name that is not ASCII"),
        pytest.param("0::/\udcff\n", {"\udcff/cpu.max": "400000 100000"}, 4, id="a name that is no text"),
        pytest.param("nonsense\n0::/\n", {"cpu.max": "many 100000"}, 16, id="not a number"),
        pytest.param("0::/\n", {"cpu.max": "100000 0"}, 16, id="a period of nothing"),
        pytest.param("0::/\n", {"cpu.max": ""}, 16, id="empty"),
    ],
)
def test_quotas(tmp_path: Path, cgroup: str, files: dict[str, str], cores: int) -> None:
    assert machine(tmp_path, cgroup, files) == cores


def test_affinity_without_cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert machine(tmp_path, "0::/\n", {"cpu.max": "400000 100000\n"}) == 1


def test_a_system_without_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert machine(tmp_path, "", {}) == 12


def test_this_machine() -> None:
    assert available_cores() >= 1


@pytest.mark.parametrize(
    ("workers", "cores", "threads"), [(1, 8, 8), (2, 8, 4), (3, 8, 2), (8, 8, 1), (16, 8, 1)]
)
def test_workers_share_the_cores(workers: int, cores: int, threads: int) -> None:
    assert threads_per_worker(workers, cores) == threads
