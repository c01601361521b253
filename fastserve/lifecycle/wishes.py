"""What a model's directory asks for, and which versions that means: values and pure functions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

CHAMPION = "champion"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the registry holds of one model, as far as serving goes."""

    versions: tuple[int, ...]
    """Whole versions that may be loaded, newest first."""
    aliases: Mapping[str, int] = field(default_factory=dict)
    loaded: bool = True
    """False: a person has unloaded the model."""
    coming: bool = False
    """None of its versions is whole yet, but one was being written when the server started."""
    problem: str = ""
    """Why the model could not be read, not even once; empty when it could."""


@dataclass(frozen=True, slots=True)
class Route:
    """Which version answers a request that names none (None: no version does), or an alias."""

    default: int | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)

    def targets(self) -> set[int]:
        """All versions that a route leads to."""
        return {*self.aliases.values(), *(() if self.default is None else (self.default,))}


NOWHERE = Route()


def wished(wish: Wish, newest: int, failed: Collection[int]) -> list[int]:
    """Choose the versions that should be READY, the most urgent first.

    The champion, the other aliases' versions, then the `newest` newest. One that has failed stays wished for,
    but does not count among the newest: the one before it is taken besides.
    """
    if not wish.loaded or wish.problem:
        return []
    chosen: dict[int, None] = {}
    present = set(wish.versions)
    for name in sorted(wish.aliases, key=lambda alias: (alias != CHAMPION, alias)):
        if wish.aliases[name] in present:
            chosen[wish.aliases[name]] = None
    sound = 0
    for version in wish.versions:
        if sound == newest:
            break
        chosen[version] = None
        sound += version not in failed
    return list(chosen)


def by_urgency(wishes: Mapping[str, Wish], newest: int) -> list[tuple[str, int]]:
    """Give model and version of everything that should be READY, champions first."""
    order = sorted(
        (urgency, name, version)
        for name, wish in wishes.items()
        for urgency, version in enumerate(wished(wish, newest, ()))
    )
    return [(name, version) for _, name, version in order]


def route(
    wish: Wish, ready: Collection[int], failed: Collection[int], now: Route, *, fallback: bool
) -> Route:
    """Decide where requests go.

    Parameters
    ----------
    ready
        Versions that are READY, wished for or not.
    failed
        Versions that could not be loaded, or were withdrawn.
    now
        Where requests go now: what answers goes on answering until its successor is READY.
    fallback
        Whether another version may answer for a champion that failed.
    """
    if not wish.loaded:
        return NOWHERE
    aliases: dict[str, int] = {}
    for name, version in wish.aliases.items():
        if version in ready:
            aliases[name] = version
        elif name in now.aliases and now.aliases[name] in ready:
            aliases[name] = now.aliases[name]
    return Route(_default(wish, ready, failed, now.default, fallback), aliases)


def _default(
    wish: Wish, ready: Collection[int], failed: Collection[int], now: int | None, fallback: bool
) -> int | None:
    champion = wish.aliases.get(CHAMPION)
    there = [version for version in ready if version in wish.versions]
    if champion is None:
        return max(there, default=now if now in ready else None)
    gone = champion not in wish.versions
    if champion in ready and not (gone and fallback and there):
        return champion
    if now in ready and now != champion and not (gone and fallback):
        return now
    if not fallback or not (gone or champion in failed):
        return None
    before = [version for version in there if version < champion]
    return max(before or there or ready, default=None)
