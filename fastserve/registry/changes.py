"""Every change of a model's wishes: checked and written under the lock, with its line in the audit log."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastserve.errors import RegistryError, VersionNotFound
from fastserve.registry import audit, chain, files, listing, reading
from fastserve.registry.audit import AuditLog
from fastserve.registry.chain import AuditLine
from fastserve.registry.names import check_alias, is_version
from fastserve.registry.state import (
    MAX_TAGS,
    ModelState,
    after,
    changes_state,
    check_tag,
    contents,
    read_state,
)

_MAX_REASON = 4096
_SHOWN = 8
_FORGET_AT_ONCE = 1000


def set_alias(directory: Path, alias: str, version: int) -> None:
    """Point an alias to a version; RegistryError unless it is there and not archived."""
    check_alias(alias)
    with changing(directory) as (log, state):
        check_target(directory, state, alias, version)
        details = {"alias": alias, "before": state.aliases.get(alias), "version": version}
        put(log, directory, state, "alias", details)


def check_target(directory: Path, state: ModelState, alias: str, version: int) -> None:
    """Raise RegistryError, saying what there is, unless an alias may point to this version."""
    if version in state.archived:
        raise RegistryError(
            f"version {version} of model '{directory.name}' is archived: "
            f"bring it back before '{alias}' points to it"
        )
    if not _is_there(directory, version):
        known = sorted(listing.versions(directory, directory.parent.resolve()))
        shown = ", ".join(["…"] * (len(known) > _SHOWN) + [str(one) for one in known[-_SHOWN:]])
        raise RegistryError(
            f"'{alias}' cannot point to version {version} of model '{directory.name}', which is not there; "
            f"{'it has ' + shown if known else 'it has none'}"
        )


def remove_alias(directory: Path, alias: str) -> None:
    """Take an alias away; RegistryError when there is none."""
    with changing(directory) as (log, state):
        if alias not in state.aliases:
            known = ", ".join(sorted(state.aliases)) or "none"
            raise RegistryError(
                f"model '{directory.name}' has no alias '{alias[:128]}'; its aliases: {known}"
            )
        put(log, directory, state, "unalias", {"alias": alias, "before": state.aliases[alias]})


def rollback(directory: Path, alias: str) -> tuple[int | None, int]:
    """Point an alias to what it was before, by the audit log; give what it was and what it is now.

    Of a log that was damaged only what is behind the damage counts: a gap could hide what was rolled back
    from. RegistryError when there is none before.
    """
    check_alias(alias)
    with changing(directory) as (log, state):
        now = state.aliases.get(alias)
        first = log.certain_from()
        for version in reversed(history(reading.lines(directory, first), alias)):
            if not is_version(version) or version == now or version in state.archived:
                continue
            if _is_there(directory, version):
                details = {"alias": alias, "before": now, "version": version}
                put(log, directory, state, "rollback", details)
                return now, version
        is_now = "is not set" if now is None else f"is version {now}"
        damage = f"; the log was damaged, so that only what is in it from line {first} on counts"
        raise RegistryError(
            f"'{alias}' of model '{directory.name}' {is_now}, and its audit log knows of none before "
            f"that is still there and not archived{damage if first > 1 else ''}"
        )


def history(lines: Iterator[AuditLine], alias: str) -> list[object]:
    """Give what an alias was, as a stack: the newest last, without what has been rolled back from.

    That is a version or None, one or the other several times in a row, or whatever some other hand has
    written into the log.
    """
    was: list[object] = []
    for line in lines:
        if line.event not in ("alias", "rollback", "unalias") or line.details.get("alias") != alias:
            continue
        version = line.details.get("version")
        was.append(line.details.get("before"))  # which may be set by other hands, that leave no line
        if line.event == "rollback":
            while was and was[-1] != version:
                was.pop()
        was.append(version)
    return was


def tag(directory: Path, version: int, key: str, value: str | None) -> None:
    """Put a tag on a version, or take it away; RegistryError when there are too many."""
    check_tag(key, value)
    with changing(directory) as (log, state):
        check_there(directory, version)
        tags = state.tags.get(version, {})
        if value is not None and key not in tags and len(tags) >= MAX_TAGS:
            raise RegistryError(
                f"version {version} of model '{directory.name}' has {MAX_TAGS} tags, the most there may be"
            )
        details = {"version": version, "key": key, "before": tags.get(key), "value": value}
        put(log, directory, state, "tag", details)


def archive(directory: Path, version: int, on: bool) -> None:
    """Put a version away, or bring it back; RegistryError when an alias needs it."""
    with changing(directory) as (log, state):
        check_there(directory, version)
        pointing = sorted(alias for alias, at in state.aliases.items() if at == version)
        if on and pointing:
            raise RegistryError(
                f"version {version} of model '{directory.name}' cannot be archived: "
                f"{', '.join(pointing)} point{'s' * (len(pointing) == 1)} to it"
            )
        put(log, directory, state, "archive" if on else "unarchive", {"version": version})


def set_loaded(directory: Path, loaded: bool) -> None:
    """Say whether a model is to be served at all."""
    # Asked for again and again, also of a registry that may only be read.
    if read_state(directory).loaded == loaded:
        return
    with changing(directory) as (log, state):
        put(log, directory, state, "load" if loaded else "unload", {})


def forget_gone(directory: Path) -> None:
    """Drop what is said about versions whose directories are gone; their numbers are never given again."""
    state = read_state(directory)
    if not _gone(directory, {*state.archived, *state.tags}):
        return
    with changing(directory) as (log, state):
        for event, said in (("forget-archived", state.archived), ("forget-tags", state.tags)):
            gone = _gone(directory, said)
            for start in range(0, len(gone), _FORGET_AT_ONCE):
                details = {"versions": gone[start : start + _FORGET_AT_ONCE]}
                state = put(log, directory, state, event, details)


def record(directory: Path, event: str, version: int, reason: str) -> None:
    """Write down that something happened to a version here, in this process, which changes no wish.

    RegistryError for an event that does.
    """
    if event in reading.OF_VERSIONS or event == chain.BROKEN or changes_state(event):
        raise RegistryError(f"'{event}' cannot be recorded: it is written by what does it")
    details = {"version": version, "reason": reason[:_MAX_REASON], "pid": os.getpid()}
    with changing(directory) as (log, _):
        log.commit(event, details)


def put(
    log: AuditLog, directory: Path, state: ModelState, event: str, details: Mapping[str, Any]
) -> ModelState:
    """Commit one event and the one file that it changes, nothing if it changes none; give the new state."""
    new, old = after(state, event, details), contents(state)
    for name, data in contents(new).items():
        if data != old[name]:
            log.commit(event, details, partial(replace, directory / name, data))
    return new


def replace(target: Path, data: bytes) -> None:
    """Put a new content in a file's place; OSError only when the old one is still there."""
    try:
        files.replace_synced(target, data)
    except OSError:
        # In its place it counts, and so does its line, though the disk could not promise to keep it.
        if not target.exists() or target.read_bytes() != data:
            raise


@contextmanager
def changing(directory: Path) -> Iterator[tuple[AuditLog, ModelState]]:
    """Hold the lock for one change of a model; what the disk refuses becomes one RegistryError."""
    try:
        with audit.writing(directory) as log:
            yield log, read_state(directory)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EACCES:
            reason += " (its directory must be writable)"
        raise RegistryError(f"model '{directory.name}' cannot be changed: {reason}") from error


def _gone(directory: Path, versions: Iterable[int]) -> list[int]:
    return sorted(version for version in versions if not (directory / str(version)).exists())


def check_there(directory: Path, version: int) -> None:
    """Raise VersionNotFound unless a whole version is there."""
    if not _is_there(directory, version):
        raise VersionNotFound(directory.name, str(version))


def _is_there(directory: Path, version: int) -> bool:
    return listing.is_whole(directory / str(version), directory.parent.resolve())
