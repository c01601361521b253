"""What a version's reference rows looked like, as bytes: kept in the version, or put beside it later.

What was put beside it counts before its own. A change and its line in the audit log become true together.
"""

import hashlib
from functools import partial
from pathlib import Path

from fastserve.errors import RegistryError
from fastserve.registry import changes, files, sidecar, verifying
from fastserve.registry.manifest import MAX_PROFILE_BYTES, PROFILE_FILE
from fastserve.registry.publishing import check_profile_size
from fastserve.registry.sidecar import Stored


def read(directory: Path, version: int) -> Stored | None:
    """Read the profile that counts for a version, every byte checked; None where there is none.

    Raises
    ------
    RegistryError
        It cannot be read, or is not what was written.
    """
    return sidecar.read(directory, version) or _own(directory, version)


def add(directory: Path, version: int, content: bytes, replace: bool) -> str:
    """Put a profile beside a version and give its sha256; only `replace` takes another's place.

    RegistryError when there is one already, or no version.
    """
    check_profile_size(content)
    profile = Stored(hashlib.sha256(content).hexdigest(), content)
    with changes.changing(directory) as (log, _):
        changes.check_there(directory, version)
        sidecar.has_directory(directory)  # a link in its place is followed by no writer
        before = _before(directory, version, replace)
        if before == profile.sha256:
            return before
        if before is not None and not replace:
            raise RegistryError(
                f"version {version} of model '{directory.name}' has a profile already: "
                "--replace puts this one in its place"
            )
        (directory / sidecar.DIRECTORY).mkdir(exist_ok=True)
        files.step(f"{sidecar.DIRECTORY}: made")
        files.sync_directory(directory)
        target, data = sidecar.path_of(directory, version), sidecar.to_bytes(directory.name, version, profile)
        details = {"version": version, "sha256": profile.sha256, "bytes": len(content), "replaces": before}
        log.commit("profile", details, partial(changes.replace, target, data))
    return profile.sha256


def _before(directory: Path, version: int, replace: bool) -> str | None:
    """Give the checksum of the profile that counts now; a broken one counts as none to be replaced."""
    try:
        found = read(directory, version)
    except RegistryError as error:
        if not replace:
            raise RegistryError(f"{error}: --replace puts this profile in its place") from error
        return None
    return None if found is None else found.sha256


def _own(directory: Path, version: int) -> Stored | None:
    """Read the profile a version was published with; a file that its manifest does not list is none."""
    path, root = directory / str(version), directory.parent.resolve()
    manifest = verifying.read_manifest(path, root)
    record = None if manifest is None else manifest.files.get(PROFILE_FILE)
    if record is None:
        return None
    label = f"{directory.name}/{version}/{PROFILE_FILE}"
    content = files.read_inside(path / PROFILE_FILE, root, MAX_PROFILE_BYTES, label)
    if content is None:
        raise RegistryError(f"{label} is missing, and the manifest lists it")
    if hashlib.sha256(content).hexdigest() != record.sha256:
        raise RegistryError(f"{label} does not have the checksum that the manifest says")
    return Stored(record.sha256, content)
