"""What a log says is what the files say, whatever was done, and lines that make no sense change nothing."""

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastserve.errors import FastserveError
from fastserve.registry import ModelState, Registry
from fastserve.registry.state import after
from tests.registry.conftest import replay, versions

NUMBERS = st.integers(1, 4)
ALIASES = st.sampled_from(["champion", "challenger"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set_alias"), ALIASES, NUMBERS),
        st.tuples(st.just("remove_alias"), ALIASES),
        st.tuples(st.just("rollback"), ALIASES),
        st.tuples(st.just("archive"), NUMBERS, st.booleans()),
        st.tuples(
            st.just("tag"), NUMBERS, st.sampled_from(["a", "b"]), st.none() | st.just("x") | st.just("é")
        ),
        st.tuples(st.just("set_loaded"), st.booleans()),
    ),
    max_size=20,
)


@pytest.mark.parametrize(
    ("event", "details"),
    [
        ("alias", {}),
        ("alias", {"alias": "x", "version": "nine"}),
        ("alias", {"alias": ["x"], "version": 1}),
        ("tag", {"version": 1, "key": "k"}),
        ("archive", {"version": None}),
        ("forget-tags", {"versions": 5}),
        ("nobody knows it", {"version": 1}),
    ],
)
def test_lines_of_other_hands_that_make_no_sense_change_nothing(event: str, details: dict[str, Any]) -> None:
    state = ModelState(aliases={"champion": 2}, tags={1: {"k": "v"}})
    assert after(state, event, details) == state


@given(CHANGES)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_replaying_the_log_gives_the_state(tmp_path_factory: pytest.TempPathFactory, changes: Any) -> None:
    registry = versions(Registry(tmp_path_factory.mktemp("r") / "registry"), 1, 2, 3, 4)
    for name, *arguments in changes:
        before = registry.state("m")
        try:
            getattr(registry, name)("m", *arguments)
        except FastserveError:
            assert registry.state("m") == before
    state = registry.state("m")
    assert replay(registry.audit("m")) == state
    assert registry.check_audit("m") == []
    assert not state.archived & set(state.aliases.values())


def test_a_line_that_a_disk_takes_in_pieces_is_whole(four: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: really(descriptor, data[:7]))
    four.set_alias("m", "champion", 3)
    assert four.check_audit("m") == []
    assert replay(four.audit("m")) == four.state("m")
