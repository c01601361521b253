"""How much memory a load may take, from real and from made-up files of the kernel."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from fastserve.lifecycle.memory import NotEnoughMemory, Room, free_bytes
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.probe_child import request_of
from fastserve.registry import VersionRecord

MIB = 2**20


def record(tmp_path: Path, name: str, mib: int) -> VersionRecord:
    """A version without manifest whose model.onnx seems to have so many MiB."""
    path = tmp_path / name / "model.onnx"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(mib * MIB)
    return VersionRecord("m", 1, path, None)


def test_this_machine_tells() -> None:
    free = free_bytes()
    if free is None:
        pytest.skip("neither /proc/meminfo nor a cgroup here")
    assert free > 0


def test_the_smaller_of_machine_and_container_counts(tmp_path: Path) -> None:
    meminfo, memberships = tmp_path / "meminfo", tmp_path / "cgroup"
    memberships.write_text("0::/\n")
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable: 2048 kB\n")
    assert free_bytes(meminfo, tmp_path, memberships) == 2 * MIB
    (tmp_path / "memory.max").write_text(f"{4 * MIB}\n")
    (tmp_path / "memory.current").write_text(f"{3 * MIB + 512 * 1024}\n")
    assert free_bytes(meminfo, tmp_path, memberships) == MIB // 2
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 524288\n")
    assert free_bytes(meminfo, tmp_path, memberships) == MIB
    (tmp_path / "memory.max").write_text("max\n")
    assert free_bytes(meminfo, tmp_path, memberships) == 2 * MIB
    for text in ("nonsense", "MemAvailable:", "MemAvailable: many kB"):
        meminfo.write_text(text)
        assert free_bytes(meminfo, tmp_path, memberships) is None
    meminfo.unlink()
    assert free_bytes(meminfo, tmp_path, memberships) is None


@pytest.mark.parametrize(
    ("membership", "names"),
    [
        pytest.param("0::/system.slice/app", ("memory.max", "memory.current", ""), id="v2, a service"),
        pytest.param(
            "7:memory:/system.slice/app\n1:cpu:/\n0::/",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
            id="v1",
        ),
    ],
)
def test_the_tightest_group_above_this_process_counts(
    tmp_path: Path, membership: str, names: tuple[str, str, str]
) -> None:
    limit, usage, prefix = names
    memberships = tmp_path / "cgroup"
    memberships.write_text(f"{membership}\n")
    root = tmp_path / "memory" if "memory" in membership else tmp_path
    for place, mib in (("system.slice/app", 50), ("system.slice", 40), ("", 2**43)):
        group = root / place
        group.mkdir(parents=True, exist_ok=True)
        (group / limit).write_text(f"{mib * MIB}\n")
        (group / usage).write_text(f"{30 * MIB}\n")
        (group / "memory.stat").write_text(f"{prefix}inactive_file {5 * MIB}\n")
    assert free_bytes(tmp_path / "none", tmp_path, memberships) == 15 * MIB


def load(room: Room, record: VersionRecord) -> int:
    with room.loading(record) as size:
        return size


def test_what_the_limit_leaves(tmp_path: Path) -> None:
    room = Room(100 * MIB, free=lambda: None)
    first = load(room, record(tmp_path, "a", 50))
    with pytest.raises(NotEnoughMemory, match="about 60 MiB of memory and 40 MiB are free"):
        load(room, record(tmp_path, "b", 50))
    room.give(first)
    load(room, record(tmp_path, "c", 50))
    room.keep(100 * MIB)
    with pytest.raises(NotEnoughMemory, match="and 0 MiB are free"):
        load(room, record(tmp_path, "d", 50))


def test_a_load_that_fails_gives_its_memory_back(tmp_path: Path) -> None:
    room, version = Room(100 * MIB, free=lambda: None), record(tmp_path, "a", 50)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), room.loading(version):
            raise ZeroDivisionError


def test_what_is_free(tmp_path: Path) -> None:
    room = Room(free=lambda: 100 * MIB)
    load(room, record(tmp_path, "a", 80))
    with pytest.raises(NotEnoughMemory):
        load(room, record(tmp_path, "b", 90))


def test_loads_side_by_side_do_not_share_what_is_free(tmp_path: Path) -> None:
    """What one has is counted once, whether it has it already or is still to take it."""
    free = 200 * MIB
    room, more = Room(free=lambda: free), record(tmp_path, "more", 60)
    load(room, record(tmp_path, "before", 60))
    with room.loading(record(tmp_path, "a", 120)):
        with pytest.raises(NotEnoughMemory, match="about 72 MiB of memory and 56 MiB are free"):
            load(room, more)
        free = 56 * MIB
        with pytest.raises(NotEnoughMemory, match="56 MiB are free"):
            load(room, more)
        room.give(60 * MIB)
        free = 128 * MIB
        load(room, more)
        free = 56 * MIB
        with pytest.raises(NotEnoughMemory, match="56 MiB are free"):
            load(room, more)
        free = 20 * MIB
        with pytest.raises(NotEnoughMemory, match="20 MiB are free"):
            load(room, more)
    free = 200 * MIB
    load(room, record(tmp_path, "b", 120))


def test_what_a_load_did_not_take_is_free_while_others_go_on(tmp_path: Path) -> None:
    """As on a GPU, or where weights are mapped: a server that begins with many models has always one under way."""
    room, before = Room(free=lambda: 200 * MIB), ExitStack()
    for number in range(9):
        after = ExitStack()
        after.enter_context(room.loading(record(tmp_path, str(number), 60)))
        before.close()
        before = after
    before.close()


def test_what_a_test_load_may_take_depends_on_all_files(tmp_path: Path) -> None:
    path = record(tmp_path, "a", 50).path
    with (path.parent / "weights.bin").open("wb") as file:
        file.truncate(100 * MIB)
    assert request_of(path, LifecycleOptions())["memory_bytes"] == 1024 * MIB + 4 * 150 * MIB
    assert request_of(path, LifecycleOptions(probe_memory_bytes=MIB))["memory_bytes"] == MIB


def test_small_versions_are_never_refused_without_a_limit(tmp_path: Path) -> None:
    assert load(Room(free=lambda: 0), record(tmp_path, "a", 1)) == MIB
