"""A version that fails every run is taken away; who answers then, and what is said of it."""

import pytest

from fastserve.lifecycle import Route
from fastserve.lifecycle.states import VersionState
from tests.lifecycle.puppet import Puppet
from tests.lifecycle.test_manager import serving


def test_a_version_that_always_fails_is_withdrawn_for_the_one_before() -> None:
    puppet = serving(1, 2)
    puppet.manager.withdraw("m", 2, "every run failed")
    assert puppet.default() == 1
    assert puppet.jobs.audited == [("m", "withdraw", 2, "every run failed")]
    puppet.drained(2)
    assert puppet.states() == {1: VersionState.READY, 2: VersionState.UNAVAILABLE}
    assert puppet.reason(2) == "every run failed"
    puppet.passes(10_000)
    assert puppet.loading == []
    puppet.wish("m", 1, 2, champion=2)
    assert puppet.loading == [2]


def test_a_withdrawn_version_without_stand_in_is_tried_again() -> None:
    puppet = serving(1)
    puppet.manager.withdraw("m", 1, "every run failed")
    assert puppet.default() is None
    assert not puppet.manager.ready()
    puppet.drained(1)
    puppet.passes(1.01)
    assert puppet.loading == [1]
    puppet.loaded(1)
    assert puppet.manager.ready()


def test_without_fallback_nobody_stands_in_for_the_champion() -> None:
    puppet = Puppet(slots=2, fallback=False)
    puppet.wish("m", 1, 2, champion=2)
    puppet.loaded(2)
    puppet.loaded(1)
    puppet.manager.withdraw("m", 2, "every run failed")
    assert puppet.default() is None


def test_who_answers_for_a_champion_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    puppet = serving(1, 2)
    puppet.wish("m", 1, 2, champion=1)
    assert (puppet.default(), caplog.text) == (1, "")
    puppet.manager.withdraw("m", 1, "every run failed")
    puppet.wish("m", 1, 2, champion=1, other=2)
    assert puppet.stage.routes["m"] == Route(2, {"other": 2})
    assert caplog.text.count("model m: version 2 answers for the champion, version 1") == 1


def test_withdrawn_twice_counts_once() -> None:
    puppet = serving(1, 2)
    puppet.manager.withdraw("m", 2, "bad")
    puppet.manager.withdraw("m", 2, "bad")
    puppet.manager.withdraw("m", 9, "bad")
    puppet.manager.withdraw("n", 1, "bad")
    assert len(puppet.jobs.audited) == 1
