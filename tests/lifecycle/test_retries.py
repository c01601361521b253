"""What was in the way once: a load that failed is tried again, and one that did not fit may fit the next time."""

import pytest

from fastserve.lifecycle.memory import NotEnoughMemory
from tests.lifecycle.puppet import Puppet
from tests.lifecycle.test_manager import BROKEN, serving


@pytest.mark.parametrize("early_ns", [1, 300_000, 500_000_000])
def test_a_timer_that_comes_too_early_loses_no_retry(early_ns: int) -> None:
    """uvloop counts whole milliseconds of a clock that it looks at once a turn."""
    puppet = serving(1, versions=1, retry_s=1.0, retry_max_s=1.0)
    puppet.wish("m", 1, 2)
    for _ in range(3):
        puppet.fails(2, BROKEN)
        puppet.jobs.timers = [(at - early_ns, call) for at, call in puppet.jobs.timers]
        puppet.passes(1.0 - early_ns / 1e9)
        assert puppet.loading == []
        puppet.passes(early_ns / 1e9 + 0.001)
        assert puppet.loading == [2]
    puppet.loaded(2)
    assert puppet.default() == 2


def test_what_has_failed_for_days_is_tried_again() -> None:
    puppet = Puppet(retry_s=1.0, retry_max_s=60.0)
    puppet.wish("m", 1)
    for _ in range(1_100):
        puppet.fails(1, BROKEN)
        puppet.passes(60.0)
    puppet.loaded(1)
    assert puppet.default() == 1


def test_what_did_not_fit_once_may_fit_the_next_time() -> None:
    puppet = Puppet(versions=1)
    puppet.wish("m", 1, 2, 9, champion=1)
    puppet.loaded(1)
    puppet.loaded(9)
    puppet.wish("m", 1, 2, 9, champion=2)
    puppet.fails(2, NotEnoughMemory(2**30, 2**20))
    puppet.drained(1)
    puppet.loaded(2)
    puppet.wish("m", 1, 2, 9, champion=1)
    puppet.loaded(1)
    puppet.drained(2)
    puppet.wish("m", 1, 2, 9, champion=2)
    assert (puppet.loading, puppet.default()) == ([2], 1), "the one that answers is not drained first"


@pytest.mark.parametrize("how", ["alias", "unload and load", "load"])
def test_a_withdrawn_version_that_is_asked_for_before_it_is_drained_is_tried_again(how: str) -> None:
    puppet = serving(1, 2)
    puppet.wish("m", 1, 2, champion=2)
    puppet.manager.withdraw("m", 2, "sick")
    assert puppet.default() == 1
    if how == "alias":
        puppet.wish("m", 1, 2, champion=1)
        puppet.wish("m", 1, 2, champion=2)
    elif how == "unload and load":
        puppet.wish("m", 1, 2, loaded=False, champion=2)
        puppet.wish("m", 1, 2, champion=2)
    else:
        puppet.manager.try_again("m")
    puppet.drained(2)
    assert 2 in puppet.loading


def test_who_asks_again_waits_for_the_next_attempt_and_that_is_the_first_again() -> None:
    puppet = Puppet(retry_s=1.0)
    puppet.wish("m", 1)
    puppet.fails(1, BROKEN)
    puppet.wish("other", 1)
    assert puppet.manager.settled_on("m", True)
    puppet.manager.try_again("m")
    assert not puppet.manager.settled_on("m", True), "it has yet to be tried: another model is being loaded"
    puppet.loaded(1, "other")
    puppet.fails(1, BROKEN)
    assert puppet.manager.settled_on("m", True)
    puppet.passes(1.0)
    assert puppet.loading == [1]
