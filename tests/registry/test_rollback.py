"""Rolling back where the log was damaged: only what is surely told of is gone back to."""

from collections.abc import Callable

import pytest

from fastserve.errors import RegistryError
from fastserve.registry import Registry, audit
from tests.registry.test_audit import raw, rewrite


def changed(number: int, change: Callable[[bytes], bytes]) -> Callable[[list[bytes]], list[bytes]]:
    return lambda lines: [*lines[: number - 1], change(lines[number - 1]), *lines[number:]]


@pytest.mark.parametrize(
    ("damage", "went"),
    [
        (lambda lines: lines, [2, 4, 3, 1]),
        (lambda lines: [b"garbage\n"], [2, 4]),
        (lambda lines: [*lines, b"garbage\n"], [2, 4]),
        (lambda lines: [b"garbage\n", *lines], [2, 4]),
        (lambda lines: [], [2, 4]),
        (lambda lines: lines[:-1], [2, 4]),
        (changed(2, lambda _: b""), [2, 4]),
        (changed(2, lambda line: b"x" * (len(line) - 1) + b"\n"), [2, 4, 3]),
        (changed(2, lambda line: line.replace(b'"version":3', b'"version":2')), [2, 4, 3]),
    ],
)
def test_rollback_counts_what_is_behind_the_damage(
    four: Registry, damage: Callable[[list[bytes]], list[bytes]], went: list[int]
) -> None:
    for version in (1, 3, 4):
        four.set_alias("m", "champion", version)
    rewrite(four.path / "m", damage(raw(four.path / "m")))
    for version in (2, 3):
        four.set_alias("m", "champion", version)
    assert [four.rollback("m", "champion")[1] for _ in went] == went
    with pytest.raises(RegistryError, match="knows of none before"):
        four.rollback("m", "champion")


@pytest.mark.parametrize("version", ["3", "x\0y", True, 2.0, [1], {}, 0, 10**30])
def test_rollback_passes_over_what_is_no_version(four: Registry, version: object) -> None:
    four.set_alias("m", "champion", 1)
    four.set_alias("m", "champion", 2)
    with audit.writing(four.path / "m") as log:
        log.commit("alias", {"alias": "champion", "before": 2, "version": version})
        log.commit("alias", {"alias": "champion", "before": version, "version": 2})
    assert four.rollback("m", "champion") == (2, 1)
    assert four.state("m").aliases == {"champion": 1}


@pytest.mark.parametrize("left", [b"", b"garbage\n"])
def test_rollback_does_not_go_back_to_what_a_lost_line_has_rolled_back_from(
    four: Registry, left: bytes
) -> None:
    for version in (1, 2, 3):
        four.set_alias("m", "champion", version)
    four.rollback("m", "champion")
    rewrite(four.path / "m", changed(4, lambda _: left)(raw(four.path / "m")))
    four.set_alias("m", "champion", 4)
    assert four.rollback("m", "champion") == (4, 2)
    with pytest.raises(RegistryError, match="the log was damaged, so that only what is in it from line"):
        four.rollback("m", "champion")
