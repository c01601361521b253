"""`fastserve models publish`: an ONNX file becomes the next version of a model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, print_json, say, settings
from fastserve.cli.models.alias import moved
from fastserve.cli.models.opening import inspector, open_registry
from fastserve.errors import ConfigError, FastserveError

if TYPE_CHECKING:
    from fastserve.monitoring import Profile
    from fastserve.registry import Registry as RegistryStore
    from fastserve.types import Signature

_MAX_RUN_BYTES = 1 << 20
_MAX_RUN_DEPTH = 32

EPILOG = (
    "Example: [bold]fastserve models publish flights model.onnx --from-run run.json --alias champion[/bold]"
    '\n\nA run.json: {"data_sha256": "9f…", "commit": "4ee11f9", "run_id": "17", '
    '"parameters": {"trees": 200}, "metrics": {"auc": 0.71}, "packages": {"scikit-learn": "1.9"}}'
    "\n\nA published version never changes: publishing again makes the next one."
)


_File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="The ONNX file; external data files beside it are taken along.",
    ),
]
_FromRun = Annotated[
    Path | None,
    typer.Option(
        "--from-run",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="A JSON object kept with the version: data hash, code commit, parameters, metrics, "
        "run id, packages, and whatever else is in it.",
    ),
]
_Alias = Annotated[
    str | None,
    typer.Option("--alias", metavar="ALIAS", help="Point this alias to the new version at once."),
]
_Profile = Annotated[
    Path | None,
    typer.Option(
        "--profile",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="The profile of the model's reference rows, which live rows are compared with.",
    ),
]
_Sign = Annotated[
    Path | None,
    typer.Option(
        "--sign",
        metavar="KEY",
        exists=True,
        dir_okay=False,
        help="Sign with this private ed25519 key (PEM; `fastserve models keygen` makes one).",
    ),
]


def publish(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The model's name in the registry and in URLs.")
    ],
    file: _File,
    from_run: _FromRun = None,
    alias: _Alias = None,
    sign: _Sign = None,
    profile: _Profile = None,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Check an ONNX file and publish it as the next version, all at once or not at all."""
    facts = read_run(from_run) if from_run else {}
    reference = _read_profile(profile) if profile else None
    chosen = settings(registry, config)
    store = open_registry(chosen)
    from fastserve.lifecycle.probe import vouch
    from fastserve.registry import SigningKey

    key = SigningKey.load(sign) if sign else None
    before = _alias_before(store, name, alias)
    version = store.publish(
        name,
        file,
        inspect=_checking(inspector(chosen), reference),
        provenance=facts,
        sign=key,
        alias=alias,
        profile=reference.to_bytes() if reference else None,
    )
    record = store.describe(name, version)
    vouch(record, store.path)
    path = record.path.parent
    if as_json:
        sha256 = reference.digest() if reference else None
        said = {"model": name, "version": version, "path": str(path), "alias": alias}
        print_json({**said, "signed": key is not None, "profile": sha256})
        return
    more = f"{', signed' if key else ''}{', with a profile' if reference else ''}"
    say(f"{name} version {version} → {path}{more}")
    if alias is not None:
        say(moved(name, alias, before, version))


def read_run(path: Path) -> dict[str, Any]:
    """Read what a training run says of itself; ConfigError when it is no JSON object of sensible size."""
    with path.open("rb") as file:
        data = file.read(_MAX_RUN_BYTES + 1)
    if len(data) > _MAX_RUN_BYTES:
        raise ConfigError(f"--from-run: {path} is larger than the limit of {_MAX_RUN_BYTES} bytes")
    try:
        facts = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"--from-run: {path} is not JSON: {error}") from None
    if not isinstance(facts, dict):
        raise ConfigError(f"--from-run: {path} must hold a JSON object")
    if _is_deeper(facts, _MAX_RUN_DEPTH):
        raise ConfigError(f"--from-run: {path} is nested deeper than {_MAX_RUN_DEPTH} levels")
    return facts


def _read_profile(path: Path) -> "Profile":
    """Read a profile that is to be published; InvalidProfile when it is none, or too large."""
    from fastserve.monitoring import read_profile
    from fastserve.monitoring.profile import MAX_PROFILE_BYTES

    with path.open("rb") as file:
        return read_profile(file.read(MAX_PROFILE_BYTES + 1), f"--profile: {path}")


def _checking(
    look: "Callable[[Path], Signature]", profile: "Profile | None"
) -> "Callable[[Path], Signature]":
    """Make a look into a model that also raises InvalidProfile when the profile is of another one's shape."""
    if profile is None:
        return look

    def look_and_check(path: Path) -> "Signature":
        signature = look(path)
        profile.check(signature)
        return signature

    return look_and_check


def _is_deeper(value: Any, levels: int) -> bool:
    if levels < 0:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_is_deeper(one, levels - 1) for one in inner)


def _alias_before(store: "RegistryStore", model: str, alias: str | None) -> int | None:
    try:
        return None if alias is None else store.state(model).aliases.get(alias)
    except FastserveError:  # a model that is not there yet; anything else, publishing says
        return None
