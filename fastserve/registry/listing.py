"""What lies in a registry directory: models and whole versions, at one system call a version."""

import os
from collections.abc import Iterator
from pathlib import Path

from fastserve.errors import RegistryError
from fastserve.registry import files
from fastserve.registry.manifest import MANIFEST_FILE, MODEL_FILE
from fastserve.registry.names import is_model, parse_version, why_no_model


def models(path: Path) -> list[str]:
    """Names of the models that have a whole version, sorted; RegistryError without a registry.

    A directory that cannot be read may have one: whoever looks into it is told, and no other model suffers.
    """
    root = path.resolve()
    return [name for name in directories(path) if _may_have_version(path / name, root)]


def _may_have_version(directory: Path, root: Path) -> bool:
    try:
        return any(True for _ in versions(directory, root))
    except RegistryError:
        return True


def directories(path: Path) -> list[str]:
    """Names of directories that may be models', sorted; some may have no version yet, or no more.

    RegistryError when the registry cannot be read; so in all functions here.
    """
    root = path.resolve()
    try:
        with os.scandir(path) as entries:
            return sorted(entry.name for entry in entries if is_model(entry.name) and _is_inside(entry, root))
    except OSError as error:
        raise RegistryError(f"registry '{path}' cannot be read: {error.strerror}") from error


def versions(directory: Path, root: Path) -> Iterator[int]:
    """Numbers of the whole versions in a model's directory, in no order."""
    return (version for version, whole in places(directory, root) if whole)


def places(directory: Path, root: Path) -> Iterator[tuple[int, bool]]:
    """Numbers in a model's directory, in no order, and whether a whole version is there."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                version = parse_version(entry.name)
                if version is not None and _is_inside(entry, root):
                    yield version, files.is_regular_inside(f"{entry.path}/{MODEL_FILE}", root)
    except OSError as error:
        raise RegistryError(f"model '{directory.name}' cannot be read: {error.strerror}") from error


def damaged(directory: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Versions whose model file is gone, or is one that nobody reads; not those that still wait for it."""
    for version, whole in places(directory, root):
        place = directory / str(version)
        if whole:
            continue
        if os.path.lexists(place / MODEL_FILE):
            what = "no file inside the registry, but a link out of it or special"
            if (place / MODEL_FILE).is_dir():
                what = "a directory, which `fastserve models import` takes"
            yield version, f"{MODEL_FILE} is {what}"
        elif os.path.lexists(place / MANIFEST_FILE):
            yield version, f"{MODEL_FILE} is missing"


def passed_over(path: Path) -> Iterator[tuple[str, str]]:
    """What looks like a model or a version, lies where no server looks for one, and is not `damaged`.

    Its place below the registry and what is the matter, sorted; without what cannot be read.
    """
    root = path.resolve()
    for entry in _visible(path):
        versions = [one for one in _visible(Path(entry.path)) if one.name.isdecimal()]
        if not versions:
            continue
        if not _is_inside(entry, root):
            yield entry.name, "is a link out of the registry"
        elif (rule := why_no_model(entry.name)) is not None:
            yield entry.name, rule
        else:
            for version in versions:
                if (problem := _why_no_version(version, root)) is not None:
                    yield f"{entry.name}/{version.name}", problem


def _why_no_version(entry: "os.DirEntry[str]", root: Path) -> str | None:
    if parse_version(entry.name) is None:
        return "is no version: its number would have to be 1 or more, without leading zeros"
    if not _is_inside(entry, root):
        return "is a link out of the registry"
    if files.is_regular_inside(f"{entry.path}/{MODEL_FILE}", root):
        return None
    try:
        inside = set(os.listdir(entry.path))
    except OSError:
        return None
    return None if not inside or inside & {MODEL_FILE, MANIFEST_FILE} else f"has no {MODEL_FILE}"


def _visible(path: Path) -> "list[os.DirEntry[str]]":
    """The directories in one, links to some too, sorted; none where it cannot be read."""
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if not entry.name.startswith(".") and _is_directory(entry)]
    except OSError:
        return []
    return sorted(found, key=lambda entry: entry.name)


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points to itself
        return False


def is_whole(directory: Path, root: Path) -> bool:
    """Tell whether a version can be tried: publishing renames whole directories, so model.onnx says it."""
    model = directory / MODEL_FILE
    return files.is_directory_inside(directory, root) and files.is_regular_inside(model, root)


def _is_inside(entry: "os.DirEntry[str]", root: Path) -> bool:
    # Listing a directory tells the kinds of its entries as well, so that only links have to be asked about.
    try:
        if not entry.is_symlink():
            return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False
    return files.is_directory_inside(Path(entry.path), root)
