"""The hot-swap decision, as tables: a snapshot, and the one step that must follow."""

import pytest

from fastserve.lifecycle.policy import Action, Preference, Step, View, next_action
from fastserve.lifecycle.states import VersionState
from fastserve.lifecycle.wishes import NOWHERE, Route, Wish, by_urgency, route, wished

UNKNOWN, LOADING, READY = VersionState.UNKNOWN, VersionState.LOADING, VersionState.READY
UNLOADING, UNAVAILABLE = VersionState.UNLOADING, VersionState.UNAVAILABLE


def want(version: int, state: VersionState = UNKNOWN, **facts: bool) -> View:
    return View(version, state, wished=True, **facts)


def old(version: int, state: VersionState = READY, **facts: bool) -> View:
    return View(version, state, wished=False, **facts)


def load(version: int) -> Action:
    return Action(Step.LOAD, version)


def unload(version: int) -> Action:
    return Action(Step.UNLOAD, version)


TABLE: list[tuple[str, Preference, list[View], Action | None]] = [
    ("nothing at all", "auto", [], None),
    ("all is well", "auto", [want(2, READY), want(1, READY)], None),
    ("first load", "auto", [want(1)], load(1)),
    ("the most urgent first", "auto", [want(1), want(2)], load(1)),
    ("a load in flight does not hold the next one back", "auto", [want(2, LOADING), want(1)], load(1)),
    (
        "the old one answers while the new one loads",
        "auto",
        [want(2, LOADING), old(1, answering=True)],
        None,
    ),
    ("memory for both: load first", "auto", [want(2), old(1, answering=True)], load(2)),
    ("availability loads first", "availability", [want(2), old(1, answering=True)], load(2)),
    ("swapped: the old one goes", "auto", [want(2, READY, answering=True), old(1)], unload(1)),
    ("what nobody asks for goes even before a load", "auto", [want(2), old(1)], unload(1)),
    ("resource drains first", "resource", [want(2), old(1, answering=True)], unload(1)),
    (
        "resource waits until it is gone",
        "resource",
        [want(2), View(1, UNLOADING, wished=False)],
        None,
    ),
    ("resource loads when it is gone", "resource", [want(2), old(1, UNAVAILABLE)], load(2)),
    ("no memory for both: drain first", "auto", [want(2, fits=False), old(1, answering=True)], unload(1)),
    ("no memory, nothing to drain: try", "auto", [want(2, fits=False), want(1, READY)], load(2)),
    (
        "availability insists",
        "availability",
        [want(2, fits=False), old(1, answering=True)],
        load(2),
    ),
    ("a failed load waits for its turn", "auto", [want(2, UNAVAILABLE, due=False), want(1, READY)], None),
    ("and is tried again then", "auto", [want(2, UNAVAILABLE), want(1, READY)], load(2)),
    ("while it waits, the next one loads", "auto", [want(2, UNAVAILABLE, due=False), want(1)], load(1)),
    ("the model is unloaded", "auto", [old(2), old(1)], unload(2)),
    ("unloading takes its time", "auto", [old(2, UNLOADING), old(1, UNLOADING)], None),
    ("wished for again while it goes", "auto", [want(2, UNLOADING)], None),
    ("a load that nobody wants any more is let end", "auto", [old(2, LOADING), want(3)], load(3)),
]


@pytest.mark.parametrize(
    ("preference", "views", "step"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_next_action(preference: Preference, views: list[View], step: Action | None) -> None:
    assert next_action(preference, views) == step


WISHED: list[tuple[str, Wish, int, set[int], list[int]]] = [
    ("nothing there", Wish(()), 2, set(), []),
    ("the newest", Wish((5, 4, 3)), 2, set(), [5, 4]),
    ("fewer than asked for", Wish((5,)), 8, set(), [5]),
    ("an alias keeps an old one", Wish((5, 4, 3, 1), {"champion": 1}), 2, set(), [1, 5, 4]),
    ("champion before other aliases", Wish((3, 2, 1), {"a": 1, "champion": 2}), 1, set(), [2, 1, 3]),
    ("an alias to nothing", Wish((3, 2), {"champion": 9}), 1, set(), [3]),
    ("a failed one does not count", Wish((5, 4, 3)), 1, {5}, [5, 4]),
    ("nor do two", Wish((5, 4, 3)), 1, {5, 4}, [5, 4, 3]),
    ("all failed", Wish((2, 1)), 1, {1, 2}, [2, 1]),
    ("unloaded by a person", Wish((2, 1), {"champion": 1}, loaded=False), 2, set(), []),
]


@pytest.mark.parametrize(
    ("wish", "newest", "failed", "versions"), [row[1:] for row in WISHED], ids=[r[0] for r in WISHED]
)
def test_wished(wish: Wish, newest: int, failed: set[int], versions: list[int]) -> None:
    assert wished(wish, newest, failed) == versions


def test_champions_of_all_models_come_first() -> None:
    wishes = {"b": Wish((3, 2)), "a": Wish((3, 2, 1), {"champion": 1}), "none": Wish(())}
    assert by_urgency(wishes, 2) == [("a", 1), ("b", 3), ("a", 3), ("b", 2), ("a", 2)]


CHAMPION_4 = Wish((5, 4, 3), {"champion": 4})
CHAMPION_6 = Wish((8, 7, 6), {"champion": 6})
CHAMPION_GONE = Wish((4, 2, 1), {"champion": 3})

ROUTES: list[tuple[str, Wish, set[int], set[int], Route, bool, Route]] = [
    ("nothing is ready", Wish((1,)), set(), set(), NOWHERE, True, NOWHERE),
    ("the highest", Wish((2, 1)), {1, 2}, set(), NOWHERE, True, Route(2)),
    ("a newer one takes over", Wish((3, 2)), {2, 3}, set(), Route(2), True, Route(3)),
    ("champion wins over newer", CHAMPION_4, {3, 4, 5}, set(), NOWHERE, True, Route(4, {"champion": 4})),
    ("nobody stands in for a champion on its way", CHAMPION_4, {3, 5}, set(), NOWHERE, True, NOWHERE),
    (
        "the one before answers until the champion is ready",
        CHAMPION_4,
        {3, 5},
        set(),
        Route(3, {"champion": 3}),
        True,
        Route(3, {"champion": 3}),
    ),
    ("a failed champion: the one before it", CHAMPION_4, {3, 5}, {4}, NOWHERE, True, Route(3)),
    ("none before it: the highest", CHAMPION_6, {7, 8}, {6}, NOWHERE, True, Route(8)),
    ("a failed champion without fallback", CHAMPION_4, {3, 5}, {4}, NOWHERE, False, NOWHERE),
    (
        "what answered goes on, fallback or not",
        CHAMPION_4,
        {3},
        {4},
        Route(3, {"champion": 3}),
        False,
        Route(3, {"champion": 3}),
    ),
    (
        "its directory is gone, nothing else is there",
        Wish(()),
        {7},
        set(),
        Route(7),
        True,
        Route(7),
    ),
    ("its directory is gone, another is ready", Wish((6,)), {6, 7}, set(), Route(7), True, Route(6)),
    (
        "a champion whose directory is gone",
        CHAMPION_GONE,
        {2, 3, 4},
        set(),
        Route(3),
        True,
        Route(2, {"champion": 3}),
    ),
    ("the same after a restart", CHAMPION_GONE, {1, 2, 4}, set(), NOWHERE, True, Route(2)),
    ("the same, when the one before came late", CHAMPION_GONE, {2, 4}, set(), Route(4), True, Route(2)),
    (
        "the same without fallback",
        CHAMPION_GONE,
        {2, 3, 4},
        set(),
        Route(3),
        False,
        Route(3, {"champion": 3}),
    ),
    ("the same without fallback, after a restart", CHAMPION_GONE, {2, 4}, set(), NOWHERE, False, NOWHERE),
    (
        "a champion that is gone and alone",
        CHAMPION_GONE,
        {3},
        set(),
        Route(3),
        True,
        Route(3, {"champion": 3}),
    ),
    ("unloaded", Wish((2,), {"champion": 2}, loaded=False), {2}, set(), Route(2), True, NOWHERE),
    (
        "an alias follows when its version is ready",
        Wish((2, 1), {"b": 2}),
        {1},
        set(),
        Route(1, {"b": 1}),
        True,
        Route(1, {"b": 1}),
    ),
    ("an alias that is gone", Wish((1,)), {1}, set(), Route(1, {"b": 1}), True, Route(1)),
]


@pytest.mark.parametrize(
    ("wish", "ready", "failed", "now", "fallback", "then"),
    [row[1:] for row in ROUTES],
    ids=[r[0] for r in ROUTES],
)
def test_route(
    wish: Wish, ready: set[int], failed: set[int], now: Route, fallback: bool, then: Route
) -> None:
    assert route(wish, ready, failed, now, fallback=fallback) == then
