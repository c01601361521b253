"""Finding the models that other servers and tools keep: Triton, TF Serving, MLflow.

Only names and a few small text files are read here; the ONNX files themselves are checked when they are
published. A link that leaves the directory is not followed: importing must not publish what lies elsewhere.
"""

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve.errors import RegistryError
from fastserve.registry import files
from fastserve.registry.manifest import MODEL_FILE
from fastserve.registry.names import is_file_name, parse_version
from fastserve.registry.settings import parse_yaml
from fastserve.text import visible

log = logging.getLogger("fastserve.registry")

MLMODEL_FILE = "MLmodel"
TRITON_FILE = "config.pbtxt"

_MLFLOW3_FILE = "meta.yaml"
_MLFLOW3_DIRECTORY = "artifacts"
_MAX_TEXT_BYTES = 1024 * 1024
_MAX_DEPTH = 6
"""mlruns/<experiment>/models/<id>/artifacts is five below its root."""
_MAX_DIRECTORIES = 100_000
_TOLD = 20
_FILENAME = re.compile(
    r"""\#[^\n]* | (?<!\w)default_model_filename \s*:\s* (?: "([^"\n]*)" | '([^'\n]*)' )
    | "(?:\\.|[^"\\\n])*"? | '(?:\\.|[^'\\\n])*'?""",
    re.VERBOSE,
)
"""Groups only where the setting is; comments and texts match too, so that nothing in them is taken for it."""
_FACTS = ("run_id", "model_id", "model_uuid", "mlflow_version", "utc_time_created", "signature")


@dataclass(frozen=True, slots=True)
class Importable:
    """One ONNX file that can become a version of a model."""

    name: str
    file: Path
    provenance: dict[str, Any]
    """Where it lay, and what was known of it there."""
    order: tuple[int, str]
    """Its place among the versions of its name: the number there, or the time it was made."""


def find_models(directory: Path) -> list[Importable]:
    """Find every ONNX model below a directory, by name, oldest version first.

    They keep their directories' names, right or wrong: whoever publishes them may give others.

    Raises
    ------
    RegistryError
        Nothing was found, or the one model that the directory is cannot be read.
    """
    try:
        root = directory.resolve(strict=True)
        found = list(_find_one(root, root)) or list(_find_tree(root))
    except OSError as error:
        raise RegistryError(f"{directory} cannot be read: {error.strerror}") from error
    if not found:
        raise RegistryError(
            f"{directory} holds no ONNX model: looked for <model>/<version>/{MODEL_FILE} (Triton, TF "
            f"Serving), <version>/{MODEL_FILE} (one model), {MLMODEL_FILE} with an ONNX flavour (MLflow)"
        )
    return sorted(found, key=lambda one: (one.name, one.order))


def _find_one(directory: Path, root: Path) -> Iterator[Importable]:
    """Take the directory for one model: of MLflow, or with a directory for every version."""
    if files.is_regular_inside(directory / MLMODEL_FILE, root):
        one = _mlflow(directory, root, required=directory == root)
        if one is not None:
            yield one
        return
    versions = sorted(
        (version, path)
        for path in _directories(directory, root)
        if (version := parse_version(path.name)) is not None
    )
    file_name = _file_name(directory, root) if versions else MODEL_FILE
    for version, path in versions:
        file = _onnx_file(path / file_name, root)
        if file is not None:
            provenance = {"imported_from": _shown(file), "source_version": version}
            yield Importable(directory.name, file, provenance, (version, ""))


def _find_tree(root: Path) -> Iterator[Importable]:
    """Take the directory for a repository of models, or for what MLflow keeps its runs in.

    What is broken or cannot be read, such as the lost+found of a disk, is named and holds up no other.
    """
    pending, seen = [(root, 0, root)], 0
    without = set(_directories(root, root))
    while pending:
        directory, depth, top = pending.pop()
        for path in _directories(directory, root):
            top = path if depth == 0 else top
            seen += 1
            if seen > _MAX_DIRECTORIES:
                raise RegistryError(
                    f"{root} has more than {_MAX_DIRECTORIES} directories; name one inside it"
                )
            try:
                found = list(_find_one(path, root))
            except (RegistryError, OSError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                log.warning("%s is not imported: %s", _shown(path), visible(str(why)))
                without.discard(top)
                continue
            if not found and depth + 1 < _MAX_DEPTH:
                pending.append((path, depth + 1, top))
            # Models with versions lie directly in a repository; deeper ones are somebody else's.
            for one in found:
                if depth == 0 or "mlflow" in one.provenance:
                    without.discard(top)
                    yield one
    for path in sorted(without)[:_TOLD]:
        log.warning("%s is not imported: no ONNX model is in it", _shown(path))


def _directories(directory: Path, root: Path) -> list[Path]:
    """List what lies below, sorted; neither what is hidden nor links out of `root`."""
    with os.scandir(directory) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and (_is_real_inside(Path(entry.path), root) if entry.is_symlink() else entry.is_dir())
        )
    return [directory / name for name in names]


def _is_real_inside(link: Path, root: Path) -> bool:
    """Tell whether a link leads to a directory in `root`, not above itself: that would go in circles."""
    return files.is_directory_inside(link, root) and not link.is_relative_to(link.resolve())


def _onnx_file(path: Path, root: Path) -> Path | None:
    """Find the file; Triton also takes a directory of this name with a model.onnx and its weights."""
    if path.is_dir():
        if path.is_symlink() and not _is_real_inside(path, root):
            return None
        path = path / MODEL_FILE
    return path if files.is_regular_inside(path, root) else None


def _file_name(directory: Path, root: Path) -> str:
    """Read from a Triton model's configuration how its files are called, when it says so."""
    path = directory / TRITON_FILE
    if not files.is_regular_inside(path, root):
        return MODEL_FILE
    text = _read(path, root).decode(errors="replace")
    name = next((one[1] or one[2] for one in _FILENAME.finditer(text) if one[1] or one[2]), MODEL_FILE)
    if not is_file_name(name):
        raise RegistryError(f"{path.relative_to(root)}: default_model_filename is not a plain file name")
    return name


def _mlflow(directory: Path, root: Path, *, required: bool) -> Importable | None:
    """Read an MLmodel file; None when the model is of another kind, an error when it alone was asked for."""
    path = directory / MLMODEL_FILE
    label = path.relative_to(root)
    content = _yaml(path, root)
    flavors = content.get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    onnx = flavors.get("onnx")
    if not isinstance(onnx, dict):
        if required:
            has = ", ".join(sorted(str(name)[:64] for name in flavors)[:10]) or "none"
            raise RegistryError(f"{label} has no ONNX flavour; its flavours are: {has}")
        return None
    data = onnx.get("data")
    if not isinstance(data, str) or not all(map(is_file_name, data.split("/"))):
        raise RegistryError(f"{label}: flavors.onnx.data is not a path inside the model's directory")
    file = _onnx_file(directory / data, root)
    if file is None or not file.resolve().is_relative_to(directory.resolve()):
        raise RegistryError(f"{label} names '{data[:128]}', which is not a file inside the model's directory")
    facts = {key: _plain(content[key]) for key in _FACTS if content.get(key) is not None}
    source = facts.get("model_id") or facts.get("run_id") or facts.get("model_uuid")
    provenance = {"imported_from": _shown(file), "source_version": source, "mlflow": facts}
    order = (0, f"{facts.get('utc_time_created', '')} {directory}")
    return Importable(_mlflow_name(directory, root), file, provenance, order)


def _mlflow_name(directory: Path, root: Path) -> str:
    """Give the name a model was logged under: its directory's; in a store of MLflow 3 the one beside it."""
    if directory == root or directory.name != _MLFLOW3_DIRECTORY:
        return directory.name
    meta = directory.parent / _MLFLOW3_FILE
    if files.is_regular_inside(meta, root):
        name = _yaml(meta, root).get("name")
        if isinstance(name, str):
            return name
    return directory.parent.name


def _yaml(path: Path, root: Path) -> dict[Any, Any]:
    label = str(path.relative_to(root))
    content = parse_yaml(_read(path, root), label)
    if not isinstance(content, dict):
        raise RegistryError(f"{label} must be a mapping of keys to values")
    return content


def _read(path: Path, root: Path) -> bytes:
    with files.open_regular(path) as reader:
        data = reader.read(_MAX_TEXT_BYTES + 1)
    if len(data) > _MAX_TEXT_BYTES:
        raise RegistryError(f"{path.relative_to(root)} is larger than {_MAX_TEXT_BYTES} bytes")
    return data


def _shown(path: Path) -> str:
    """Name a place for logs and manifests, whatever bytes somebody has called it by."""
    return visible(str(path))


def _plain(value: Any) -> Any:
    """Make a YAML value one that JSON has: what is no mapping and not plain, such as a date, becomes text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
