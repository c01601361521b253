"""From NAME, VERSION and NAME@VERSION on the command line to what there is; a miss says what that is."""

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fastserve.errors import ConfigError, FastserveError, ModelNotFound

if TYPE_CHECKING:
    from fastserve.registry import Registry

AnyName = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", show_default=False, help="One model; all of them without it."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model.")]
NameAtVersion = Annotated[
    str, typer.Argument(metavar="NAME@VERSION", help="A version of a model: a number or an alias.")
]

_SHOWN = 8


def find_model(store: "Registry", name: str) -> str:
    """Give `name` back if the registry has that model.

    Raises
    ------
    ConfigError
        It names a version too, where a model is wanted.
    FastserveError
        There is no such model; says which there are.
    RegistryError
        The registry cannot be read.
    """
    if "@" in name:
        raise ConfigError(f"'{name}': a model's name is wanted here, without @ and version")
    return _known(store, name)


def split(name: str) -> tuple[str, str | None]:
    """Part NAME@VERSION; None where no version is named. ConfigError when it is neither."""
    model, at, version = name.partition("@")
    if not model or (at and not version):
        raise ConfigError(f"'{name}': write NAME@VERSION, such as flights@3 or flights@champion")
    return model, version if at else None


def find_version(store: "Registry", name: str) -> tuple[str, int]:
    """Find NAME@VERSION, where the version must be said.

    Raises
    ------
    ConfigError
        No version is named.
    FastserveError
        There is no such model, version or alias; says which there are.
    RegistryError
        The registry cannot be read.
    """
    model, wanted = split(name)
    _known(store, model)
    if wanted is None:
        raise ConfigError(
            f"'{name}': say which version, such as {name}@3 or {name}@champion; {having(store, model)}"
        )
    return model, version_of(store, model, wanted)


def version_of(store: "Registry", model: str, wanted: str) -> int:
    """Give the number of a version named by number or alias; FastserveError says which there are."""
    from fastserve.registry import parse_version

    number = parse_version(wanted)
    if number is not None:
        if number in store.versions(model):
            return number
        raise FastserveError(f"model '{model}' has no version '{wanted}'; {having(store, model)}")
    aliases = store.state(model).aliases
    if wanted in aliases:
        return aliases[wanted]
    raise FastserveError(
        f"model '{model}' has no version or alias '{wanted}'{_near(wanted, aliases)}; {having(store, model)}"
    )


def having(store: "Registry", model: str) -> str:
    """Say which versions and aliases a model has: `it has versions 1 to 4 and the alias champion`."""
    versions = store.versions(model)
    if not versions:
        return "it has no version that can be served"
    said = f"it has version{'s' if len(versions) > 1 else ''} {ranges(versions)}"
    aliases = sorted(store.state(model).aliases)
    if aliases:
        said += f" and the alias{'es' if len(aliases) > 1 else ''} {some(aliases)}"
    return said


def ranges(numbers: Sequence[int]) -> str:
    """Say ascending numbers shortly, as `1 to 4, 7`; of many pieces only the last ones."""
    runs: list[range] = []
    for number in numbers:
        if runs and number == runs[-1].stop:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return spans(runs)


def spans(runs: Sequence[range]) -> str:
    """Say the same of numbers that come as their runs."""
    words = [
        str(run[0]) if len(run) == 1 else f"{run[0]}{', ' if len(run) == 2 else ' to '}{run[-1]}"
        for run in runs[-_SHOWN - 1 :]
    ]
    return ", ".join(["…"] * (len(words) > _SHOWN) + words[-_SHOWN:])


def some(names: Sequence[str], most: int = _SHOWN) -> str:
    """List names; of many the first ones, and how many there are."""
    shown = ", ".join(names[:most])
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")


def _known(store: "Registry", name: str) -> str:
    try:
        store.versions(name)
    except ModelNotFound as error:
        names = store.models()
        near = _near(name, names)
        if not near:
            near = f"; the registry has {some(names)}" if names else "; the registry has no model yet"
        raise FastserveError(f"{error}{near}") from error
    return name


def _near(wanted: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(wanted, list(names), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
