"""The manager as a state machine: every event, every order of events, no thread and no clock of its own."""

import random

import pytest

from fastserve.errors import ModelRejected
from fastserve.lifecycle import Route, Wish
from fastserve.lifecycle.memory import NotEnoughMemory
from fastserve.lifecycle.states import VersionState
from tests.lifecycle.puppet import Puppet

BROKEN = ModelRejected("it is broken")


def serving(*versions: int, **options: object) -> Puppet:
    """A puppet whose model `m` has these versions READY."""
    puppet = Puppet(slots=8, **options)
    puppet.wish("m", *versions)
    for version in list(puppet.loading):
        puppet.loaded(version)
    return puppet


def test_a_model_comes_up() -> None:
    puppet = Puppet()
    assert not puppet.manager.ready()
    puppet.wish("m", 1)
    assert puppet.states() == {1: VersionState.LOADING}
    assert not puppet.manager.ready()
    puppet.loaded(1)
    assert puppet.states() == {1: VersionState.READY}
    assert puppet.default() == 1
    assert puppet.manager.ready()
    assert puppet.settled == 1
    assert [puppet.manager.wished_for(*of) for of in (("m", None), ("m", "none"), ("n", None))] == [
        1,
        None,
        None,
    ]


def test_an_empty_registry_is_ready() -> None:
    puppet = Puppet()
    puppet.manager.wish({})
    assert puppet.manager.ready()
    assert puppet.settled == 1


def test_a_start_waits_for_a_model_that_is_being_written() -> None:
    puppet = Puppet(slots=8)
    puppet.manager.wish({"m": Wish((1,)), "n": Wish((), coming=True)})
    puppet.loaded(1)
    assert (puppet.manager.ready(), puppet.settled) == (False, 0)
    puppet.manager.wish({"m": Wish((1,)), "n": Wish((), coming=False)})
    assert (puppet.manager.ready(), puppet.settled) == (True, 1)
    puppet.manager.wish({"m": Wish((1,)), "n": Wish((), coming=True)})
    assert (puppet.manager.ready(), puppet.settled) == (True, 1)


def test_what_is_at_hand_serves_at_once() -> None:
    """Without a load, and whatever else still has to be loaded."""
    puppet = Puppet(slots=1, versions=3)
    puppet.jobs.hand = {("m", 1), ("m", 2)}
    puppet.wish("m", 1, 2, 3)
    assert (puppet.loading, puppet.serving, puppet.default()) == ([3], [1, 2], 2)
    assert puppet.settled == 0
    puppet.loaded(3)
    assert (puppet.loading, puppet.serving, puppet.default()) == ([], [1, 2, 3], 3)
    assert puppet.settled == 1


def test_a_wish_that_waits_is_known_and_loads_nothing() -> None:
    puppet = Puppet(slots=2, versions=2)
    puppet.jobs.hand = {("m", 2)}
    wishes = {"m": Wish((2, 1)), "n": Wish((1,))}
    puppet.manager.wish(wishes, wait=True)
    assert (puppet.loading, puppet.serving, puppet.default()) == ([], [2], 2)
    assert puppet.states() == {1: VersionState.UNKNOWN, 2: VersionState.READY}
    assert puppet.states("n") == {1: VersionState.UNKNOWN}
    puppet.manager.try_again("n")
    assert (puppet.loading, puppet.settled) == ([], 0)
    puppet.jobs.hand = {("n", 1)}
    puppet.manager.wish(wishes)
    assert (puppet.loading, puppet.default("n")) == ([1], 1)
    puppet.loaded(1)
    assert puppet.settled == 1


def test_a_new_version_takes_over_and_the_old_one_drains() -> None:
    puppet = serving(1, versions=1)
    puppet.wish("m", 1, 2)
    assert (puppet.loading, puppet.serving, puppet.default()) == ([2], [1], 1)
    assert puppet.manager.ready()
    puppet.loaded(2)
    assert (puppet.serving, puppet.default()) == ([2], 2)
    assert puppet.states() == {1: VersionState.UNLOADING, 2: VersionState.READY}
    puppet.drained(1)
    assert puppet.states() == {1: VersionState.UNAVAILABLE, 2: VersionState.READY}
    assert puppet.reason(1) == "unloaded"


def test_resource_policy_drains_before_it_loads() -> None:
    puppet = serving(1, versions=1, policy="resource")
    puppet.wish("m", 1, 2)
    assert (puppet.loading, puppet.serving, puppet.default()) == ([], [], None)
    puppet.drained(1)
    assert puppet.loading == [2]
    puppet.loaded(2)
    assert puppet.default() == 2


def test_two_that_do_not_fit_together_are_swapped_one_after_the_other() -> None:
    puppet = serving(1, versions=1)
    puppet.wish("m", 1, 2)
    puppet.fails(2, NotEnoughMemory(2**30, 2**20))
    assert puppet.serving == []
    puppet.drained(1)
    assert puppet.loading == [2]
    puppet.loaded(2)
    assert puppet.default() == 2


def test_what_may_not_be_swapped_one_after_the_other_waits_for_memory() -> None:
    puppet = serving(1, versions=1, policy="availability")
    puppet.wish("m", 1, 2)
    for _ in range(2):
        puppet.fails(2, NotEnoughMemory(2**30, 2**20))
    assert (puppet.loading, puppet.serving) == ([], [1]), "it is not tried again and again"
    assert "1,024 MiB" in puppet.reason(2)
    puppet.passes(1.0)
    assert puppet.loading == [2]


def test_what_fits_nowhere_says_so() -> None:
    puppet = serving(1, versions=2)
    puppet.wish("m", 1, 2)
    puppet.fails(2, NotEnoughMemory(2**30, 2**20))
    assert puppet.states() == {1: VersionState.READY, 2: VersionState.UNAVAILABLE}
    assert "1,024 MiB" in puppet.reason(2)
    assert puppet.default() == 1


def test_a_newer_wish_does_not_wait_for_an_older_load() -> None:
    puppet = Puppet(slots=1, versions=1)
    puppet.wish("m", 1)
    puppet.loaded(1)
    puppet.wish("m", 1, 2)
    assert puppet.loading == [2]
    puppet.wish("m", 1, 2, 3)
    assert puppet.loading == [2, 3]
    puppet.loaded(3)
    assert puppet.default() == 3
    puppet.loaded(2)
    puppet.freed(2)
    assert puppet.default() == 3
    assert 2 not in puppet.serving
    assert 2 not in puppet.states(), "it never served, and nobody wants to know of it"
    assert [default for _, default in puppet.stage.history] == [1, 3]


def test_wished_for_again_while_it_loads() -> None:
    puppet = Puppet(versions=1)
    puppet.wish("m", 1)
    puppet.wish("m", 1, loaded=False)
    assert not puppet.manager.settled_on("m", loaded=False), "there is still a load to end"
    puppet.wish("m", 1)
    assert puppet.loading == [1]
    puppet.loaded(1)
    assert puppet.default() == 1


def test_loads_are_bounded_and_every_model_gets_one_version_first() -> None:
    puppet = Puppet(slots=2)
    puppet.manager.wish({})
    puppet.wishes = {}
    for model in "abc":
        puppet.wish(model, 1, 2)
    order = []
    while puppet.jobs.loads:
        assert len(puppet.jobs.loads) <= 2
        (model, version) = next(iter(puppet.jobs.loads))
        order.append((model, version))
        puppet.loaded(version, model)
    assert set(order[:4]) >= {("a", 2), ("b", 2), ("c", 2)}
    assert len(order) == 6


def test_who_has_no_version_yet_comes_before_who_gets_a_newer_one() -> None:
    puppet = Puppet(slots=1, versions=1)
    puppet.wish("a", 1)
    puppet.loaded(1, "a")
    puppet.wish("c", 1)
    puppet.wish("a", 1, 2)
    puppet.wish("b", 3)
    puppet.loaded(1, "c")
    assert list(puppet.jobs.loads) == [("b", 3)]


def test_champion_first_and_nobody_else_answers_meanwhile() -> None:
    puppet = Puppet(slots=1)
    puppet.wish("m", 1, 2, 3, champion=2)
    assert puppet.loading == [2]
    puppet.loaded(2)
    assert puppet.default() == 2
    puppet.loaded(3)
    assert puppet.default() == 2


def test_alias_moves_when_its_version_is_ready() -> None:
    puppet = serving(4, 5, versions=2)
    puppet.wish("m", 1, 4, 5, champion=4)
    assert puppet.default() == 4
    puppet.wish("m", 1, 4, 5, champion=1)
    assert (puppet.loading, puppet.default()) == ([1], 4)
    assert puppet.stage.routes["m"] == Route(4, {"champion": 4})
    puppet.loaded(1)
    assert puppet.stage.routes["m"] == Route(1, {"champion": 1})


def test_a_failed_load_changes_nothing_and_is_tried_again_ever_more_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    puppet = serving(1, versions=1, retry_s=1.0, retry_max_s=4.0)
    puppet.wish("m", 1, 2)
    for wait_s in (1.0, 2.0, 4.0, 4.0):
        assert puppet.loading == [2]
        puppet.fails(2, BROKEN)
        assert puppet.states() == {1: VersionState.READY, 2: VersionState.UNAVAILABLE}
        assert puppet.reason(2) == "it is broken"
        assert puppet.default() == 1
        assert puppet.manager.ready()
        puppet.passes(wait_s * 0.99)
        assert puppet.loading == []
        puppet.passes(wait_s * 0.02)
    assert caplog.text.count("cannot be loaded: it is broken") == 1
    puppet.loaded(2)
    assert puppet.default() == 2
    puppet.wish("m", 1, 2, 3)
    puppet.loaded(3)
    puppet.drained(2)
    assert puppet.reason(2) == "unloaded", "what failed once is over"


def test_the_version_before_a_broken_one_is_loaded_at_start() -> None:
    puppet = Puppet(versions=1)
    puppet.wish("m", 1, 2, 3)
    puppet.fails(3, BROKEN)
    assert puppet.loading == [2]
    assert not puppet.manager.settled()
    puppet.loaded(2)
    assert puppet.default() == 2
    assert puppet.manager.ready()


def test_a_model_without_any_sound_version_is_not_ready() -> None:
    puppet = Puppet()
    puppet.wish("m", 1)
    puppet.fails(1, BROKEN)
    assert puppet.manager.settled()
    assert not puppet.manager.ready()


def test_a_new_model_makes_the_server_unready_until_it_serves() -> None:
    puppet = serving(1)
    puppet.wish("n", 1)
    assert not puppet.manager.ready()
    puppet.loaded(1, "n")
    assert puppet.manager.ready()
    assert puppet.settled == 1, "a start is over once"


def test_a_start_does_not_wait_for_the_second_attempt_of_what_has_failed() -> None:
    """It may take minutes, and is followed by a third."""
    puppet = Puppet(slots=2, versions=1, retry_s=1.0)
    puppet.manager.wish({"m": Wish((2, 1)), "n": Wish((1,))})
    puppet.fails(2, BROKEN)
    puppet.loaded(1)
    puppet.passes(1.0)
    assert sorted(puppet.jobs.loads) == [("m", 2), ("n", 1)]
    puppet.loaded(1, "n")
    assert (puppet.settled, puppet.manager.ready()) == (1, True)


def test_unloaded_and_loaded_by_a_person() -> None:
    puppet = serving(1, 2)
    puppet.wish("m", 1, 2, loaded=False)
    assert puppet.default() is None
    assert puppet.manager.ready()
    assert not puppet.manager.settled_on("m", loaded=False)
    puppet.drained(1)
    puppet.drained(2)
    assert puppet.manager.settled_on("m", loaded=False)
    assert puppet.states() == {1: VersionState.UNAVAILABLE, 2: VersionState.UNAVAILABLE}
    puppet.wish("m", 1, 2)
    assert not puppet.manager.settled_on("m", loaded=True)
    for version in list(puppet.loading):
        puppet.loaded(version)
    assert puppet.manager.settled_on("m", loaded=True)
    assert puppet.default() == 2


def test_a_model_whose_directory_goes_is_forgotten_once_it_has_drained() -> None:
    puppet = serving(1)
    puppet.gone("m")
    assert puppet.default() is None
    assert puppet.states() == {1: VersionState.UNLOADING}
    puppet.drained(1)
    assert puppet.states() == {}
    assert puppet.manager.models() == []
    assert puppet.manager.ready()


def test_the_only_version_is_deleted_while_it_serves() -> None:
    puppet = serving(1)
    puppet.wish("m")
    assert "gone, or it is archived" in puppet.reason(1)
    puppet.wish("m", 2)
    assert puppet.default() == 1
    puppet.loaded(2)
    assert puppet.default() == 2
    puppet.drained(1)
    assert puppet.states() == {2: VersionState.READY}


def test_a_champion_is_deleted_while_it_serves() -> None:
    puppet = serving(1, 2)
    puppet.wish("m", 1, 2, champion=2)
    puppet.wish("m", 1, champion=2)
    assert puppet.default() == 1
    puppet.wish("m", 1, champion=1)
    assert puppet.default() == 1
    puppet.drained(2)
    assert puppet.serving == [1]


def test_what_is_remembered_stays_small() -> None:
    puppet = Puppet(versions=1)
    for version in range(1, 200):
        puppet.wish("m", *range(1, version + 1))
        puppet.loaded(version)
        if version > 1:
            puppet.drained(version - 1)
    assert len(puppet.states()) <= 10
    assert puppet.default() == 199


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_events_ends_at_the_wish(seed: int) -> None:
    """Random wishes, loads that end in any order, failures, drains: at rest the champion or the newest serves,
    no route ever led nowhere (the stage checks), and nothing is held that nobody wishes for."""
    rng = random.Random(seed)
    puppet = Puppet(
        slots=rng.choice([1, 2]), versions=2, policy=rng.choice(["auto", "resource"]), retry_s=0.1
    )
    served_once = False
    versions: set[int] = set()
    for _ in range(300):
        event = rng.random()
        if event < 0.25:
            versions.add(rng.randint(1, 9))
            champion = {"champion": rng.choice(sorted(versions))} if rng.random() < 0.5 else {}
            puppet.wish("m", *versions, loaded=rng.random() < 0.9, **champion)
        elif event < 0.3 and len(versions) > 1:
            versions.discard(rng.choice(sorted(versions)))
            puppet.wish("m", *versions)
        elif event < 0.6 and puppet.loading:
            puppet.loaded(rng.choice(puppet.loading))
        elif event < 0.7 and puppet.loading:
            puppet.fails(rng.choice(puppet.loading), BROKEN)
        elif event < 0.9 and puppet.stage.draining:
            puppet.drained(rng.choice([version for _, version in puppet.stage.draining]))
        elif puppet.jobs.frees:
            puppet.freed(rng.choice([version for _, version in puppet.jobs.frees]))
        else:
            puppet.passes(rng.random())
        served_once = served_once or puppet.default() is not None
    last = rng.choice(sorted(versions))
    puppet.wish("m", *versions, champion=last)
    while puppet.loading or puppet.stage.draining or puppet.jobs.frees or puppet.serving == []:
        for version in list(puppet.loading):
            puppet.loaded(version)
        for _, version in list(puppet.stage.draining):
            puppet.drained(version)
        for _, version in list(puppet.jobs.frees):
            puppet.freed(version)
        puppet.passes(1_000)
    assert served_once
    assert puppet.default() == last
    assert set(puppet.serving) == {last, *sorted(versions)[-2:]}
    assert puppet.manager.ready()
