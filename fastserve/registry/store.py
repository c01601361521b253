"""The registry directory: list, describe and verify what is there, publish what is new, write what is wished.

A version becomes visible by one rename of a directory that is complete, hashed and synced, so there is no
moment at which half of it can be seen, whatever dies; and what has a name is never written to again.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastserve.errors import FastserveError, ModelNotFound, RegistryError, VersionNotFound
from fastserve.registry import (
    changes,
    checking,
    collecting,
    files,
    holding,
    listing,
    profiles,
    publishing,
    reading,
    sidecar,
    verifying,
)
from fastserve.registry.chain import AuditLine
from fastserve.registry.collecting import Removed
from fastserve.registry.holding import Hold
from fastserve.registry.manifest import MANIFEST_FILE, MODEL_FILE, PROFILE_FILE, Manifest
from fastserve.registry.names import is_model, parse_version
from fastserve.registry.rules import FileRules
from fastserve.registry.settings import SETTINGS_FILE, ModelSettings, load_settings
from fastserve.registry.signing import SigningKey, TrustedKeys
from fastserve.registry.state import ALIASES_FILE, DESIRED_FILE, ModelState, read_state
from fastserve.types import Signature

_DEFAULT_RULES = FileRules()
_MAX_LOG_BYTES = 256 * 1024 * 1024
"""A log larger than that is checked and continued, but not given as one list."""


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One whole version on disk; `manifest` is None in a tree that something else wrote."""

    model: str
    version: int
    path: Path
    """The model.onnx."""
    manifest: Manifest | None

    def check_signature(self, signature: Signature) -> None:
        """Raise RegistryError when the loaded model is not what the manifest says."""
        if self.manifest is None or _comparable(self.manifest.signature) == _comparable(signature):
            return
        said = {*self.manifest.signature.inputs, *self.manifest.signature.outputs}
        loaded = {*signature.inputs, *signature.outputs}
        differing = ", ".join(sorted({tensor.name for tensor in said ^ loaded}))
        raise RegistryError(
            f"{self.model}/{self.version}/{MANIFEST_FILE} has another signature than the model: "
            f"{differing or 'order of tensors'}"
        )


class Registry:
    """A registry directory; keeps nothing in memory. Safe from any number of threads and processes.

    Unless a method says otherwise it raises ModelNotFound or VersionNotFound for what is not there, and
    RegistryError for what cannot be read.

    Parameters
    ----------
    rules
        What a version's files may be, to be published or verified.
    trusted
        Whose signature a version must have to be verified; None where none is asked for.
    """

    def __init__(
        self, path: Path, *, rules: FileRules = _DEFAULT_RULES, trusted: TrustedKeys | None = None
    ) -> None:
        self.path = path
        self._rules = rules
        self._trusted = trusted

    def models(self) -> list[str]:
        """Names of the models that have a whole version, sorted; RegistryError without a registry."""
        return listing.models(self.path)

    def directories(self) -> list[str]:
        """Names of directories that are or may become models', sorted; RegistryError without a registry."""
        return listing.directories(self.path)

    def versions(self, model: str) -> list[int]:
        """Numbers of a model's whole versions, ascending; ModelNotFound when there is no such model."""
        directory, root = self._find(model)
        return sorted(listing.versions(directory, root))

    def damaged(self, model: str | None = None) -> list[tuple[str, int, str]]:
        """Versions that do not count because of their model file: model, number and what is the matter.

        One model's (ModelNotFound, RegistryError), or those of all models' directories that can be read.
        """
        if model is not None:
            return [(model, *one) for one in sorted(listing.damaged(*self._find(model)))]
        found: list[tuple[str, int, str]] = []
        for name in listing.directories(self.path):
            with suppress(RegistryError):  # it is told of where its versions are asked for
                found += self.damaged(name)
        return found

    def passed_over(self) -> list[tuple[str, str]]:
        """What looks like a model or a version but counts as none: where it lies, and what is the matter."""
        return list(listing.passed_over(self.path))

    def places(self, model: str) -> dict[int, bool]:
        """Give the numbers in a model's directory; True for a whole version, False without a model file."""
        return dict(listing.places(*self._find(model)))

    def describe(self, model: str, version: int) -> VersionRecord:
        """Find one version and read its manifest; RegistryError when that is broken."""
        directory, root = self._find_version(model, version)
        return VersionRecord(model, version, directory / MODEL_FILE, verifying.read_manifest(directory, root))

    def is_complete(self, model: str, version: int) -> bool:
        """Tell, at little cost, whether there is a manifest, and the files that it lists are there.

        Raises
        ------
        ModelNotFound, RegistryError, OSError
        """
        if not is_model(model):
            raise ModelNotFound(model)
        return verifying.is_complete(self.path / model / str(version), self.path.resolve())

    def verify(self, model: str, version: int) -> VersionRecord:
        """Describe a version once its files match manifest and rules; RegistryError says what is wrong."""
        directory, root = self._find_version(model, version)
        manifest = verifying.verify(directory, root, self._rules, self._trusted)
        return VersionRecord(model, version, directory / MODEL_FILE, manifest)

    def settings(self, model: str) -> ModelSettings:
        """Read the model's `model.yaml`; defaults without one, RegistryError naming what is wrong in it."""
        directory, root = self._find(model)
        return load_settings(directory / SETTINGS_FILE, root)

    def fingerprint(self, model: str) -> tuple[object, ...]:
        """Give what differs once anything of a model has changed, at three system calls; or ModelNotFound."""
        if not is_model(model):
            raise ModelNotFound(model)
        directory = f"{self.path}/{model}"
        found = _stamp(directory)
        if found is None:
            raise ModelNotFound(model)
        return (found, _stamp(f"{directory}/{ALIASES_FILE}"), _stamp(f"{directory}/{DESIRED_FILE}"))

    def state(self, model: str) -> ModelState:
        """Read what is wished for; RegistryError names the file that is broken, and what is wrong in it."""
        return read_state(self._find(model)[0])

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias to a version; RegistryError unless it is there and not archived."""
        changes.set_alias(self._find(model)[0], alias, version)

    def remove_alias(self, model: str, alias: str) -> None:
        """Take an alias away; RegistryError when there is none."""
        changes.remove_alias(self._find(model)[0], alias)

    def rollback(self, model: str, alias: str) -> tuple[int | None, int]:
        """Point an alias to the version before, by the audit log; once more goes one further back.

        Versions that are archived or gone are passed over. Gives what it was and what it is now;
        RegistryError when there is nothing to go back to.
        """
        return changes.rollback(self._find(model)[0], alias)

    def tag(self, model: str, version: int, key: str, value: str | None) -> None:
        """Put a tag on a version, in the place of one with the same key; None takes it away."""
        changes.tag(self._find_version(model, version)[0].parent, version, key, value)

    def archive(self, model: str, version: int, on: bool) -> None:
        """Put a version away, or bring it back; RegistryError when an alias points to it."""
        changes.archive(self._find_version(model, version)[0].parent, version, on)

    def set_loaded(self, model: str, loaded: bool) -> None:
        """Say whether a model is to be served at all."""
        changes.set_loaded(self._find(model)[0], loaded)

    def record(self, model: str, event: str, *, version: int, reason: str) -> None:
        """Write into the audit log what happened to a version without changing what is wished for."""
        changes.record(self._find(model)[0], event, version, reason)

    def add_profile(self, model: str, version: int, content: bytes, *, replace: bool = False) -> str:
        """Put a profile beside a published version, give its sha256; the same one again changes nothing.

        RegistryError when it is too large, there is one and `replace` is not said, or nothing can be changed.
        """
        return profiles.add(self._find_version(model, version)[0].parent, version, content, replace)

    def profile(self, model: str, version: int) -> bytes | None:
        """Read a version's profile, the one put beside it before its own; None where there is neither.

        RegistryError when it is not what was written, by its checksum, or not this version's.
        """
        found = profiles.read(self._find_version(model, version)[0].parent, version)
        return None if found is None else found.content

    def profile_stamp(self, model: str, version: int) -> tuple[object, ...] | None:
        """Give what differs once a version's profile has changed, at two system calls; None without one.

        ModelNotFound for what is no model's name.
        """
        if not is_model(model):
            raise ModelNotFound(model)
        directory = f"{self.path}/{model}"
        beside, own = f"{sidecar.DIRECTORY}/{version}.json", f"{version}/{PROFILE_FILE}"
        return _stamp(f"{directory}/{beside}") or _stamp(f"{directory}/{own}")

    def audit(self, model: str) -> list[AuditLine]:
        """Give every line of the audit log that can be read, the oldest first; raises as `read_audit`."""
        return self.read_audit(model)[0]

    def read_audit(self, model: str) -> tuple[list[AuditLine], list[range]]:
        """Give the lines of the audit log, the oldest first, and the numbers of those that cannot be read.

        RegistryError when it cannot be read at all, or is very large.
        """
        directory, _ = self._find(model)
        size = _stamp(f"{directory}/{reading.LOG_FILE}")
        if size is not None and size[2] > _MAX_LOG_BYTES:
            raise RegistryError(f"{model}/{reading.LOG_FILE} is larger than {_MAX_LOG_BYTES} bytes")
        lines: list[AuditLine] = []
        unreadable: list[range] = []
        for number, _, line in reading.entries(directory):
            if line is not None:
                lines.append(line)
            elif unreadable and unreadable[-1].stop == number:
                unreadable[-1] = range(unreadable[-1].start, number + 1)
            else:
                unreadable.append(range(number, number + 1))
        return lines, unreadable

    def check_audit(self, model: str) -> list[str]:
        """Say which lines of the audit log were edited, moved or removed; empty when it is sound."""
        return checking.check(self._find(model)[0])

    def replaced(self, model: str) -> dict[int, str]:
        """Say which versions have not the manifest that the audit log says they were published with."""
        directory, root = self._find(model)
        return checking.replaced(directory, listing.versions(directory, root))

    def publish(
        self,
        model: str,
        file: Path,
        *,
        inspect: Callable[[Path], Signature],
        provenance: Mapping[str, Any] | None = None,
        sign: SigningKey | None = None,
        alias: str | None = None,
        profile: bytes | None = None,
    ) -> int:
        """Copy an ONNX file, and the external data beside it, into the registry as the next version.

        `inspect` loads the copy and gives its signature, or raises why it cannot be served. A `profile` of
        its reference rows becomes one of the version's files. On any failure nothing is left behind. Makes
        the registry directory if there is none.
        """
        return publishing.publish(
            self.path,
            model,
            file,
            inspect,
            dict(provenance or {}),
            rules=self._rules,
            sign=sign,
            alias=alias,
            profile=profile,
        )

    def hold(self, model: str, version: int) -> Hold:
        """Keep a version from being collected until the hold is closed, or this process ends."""
        return holding.hold(self._find_version(model, version)[0])

    def gc(
        self,
        keep: int,
        model: str | None = None,
        *,
        dry_run: bool = False,
        on_problem: Callable[[FastserveError], object] | None = None,
    ) -> list[Removed]:
        """Remove what is neither among the newest `keep` versions of its model nor in use, and leftovers.

        Gives what was removed, or with `dry_run` what would be. What keeps a model from being cleaned up is
        raised, or told to `on_problem`, and then the others are cleaned up all the same.
        """
        removed: list[Removed] = []
        linked = collecting.linked(self.path)
        for name in listing.directories(self.path) if model is None else [model]:
            try:
                directory, _ = self._find(name)
                removed += collecting.gc(directory, keep, linked, dry_run=dry_run)
                if not dry_run:
                    changes.forget_gone(directory)
            except FastserveError as error:
                if on_problem is None:
                    raise
                on_problem(error)
        return removed

    def _find(self, model: str) -> tuple[Path, Path]:
        """Give the model's directory and the resolved registry."""
        root, directory = self.path.resolve(), self.path / model
        if not is_model(model) or not files.is_directory_inside(directory, root):
            raise ModelNotFound(model)
        return directory, root

    def _find_version(self, model: str, version: int) -> tuple[Path, Path]:
        directory, root = self._find(model)
        name = str(version)
        if parse_version(name) is None or not listing.is_whole(directory / name, root):
            raise VersionNotFound(model, name)
        return directory / name, root


def _comparable(signature: Signature) -> tuple[object, ...]:
    """Leave out what is not written in the model: whether there is a batch, and what outputs call it."""
    outputs = tuple((spec.name, spec.datatype, len(spec.shape), spec.shape[1:]) for spec in signature.outputs)
    return signature.inputs, outputs


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Inode, modified, bytes; None for what is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116 - asked of every model once a second
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RegistryError(f"'{path}' cannot be read: {error.strerror}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size
