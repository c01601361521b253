"""What a snapshot may say, beyond its form: names, codes, how much of each, and its profiles."""

import hashlib
import re
from collections.abc import Sequence

from fastserve.errors import InvalidProfile, InvalidRequest
from fastserve.monitoring.profile import Profile, Sketch, read_profile
from fastserve.monitoring.snapshot import Snapshot, VersionDelta
from fastserve.registry import is_model

MAX_VERSIONS = 100_000
"""Versions in one snapshot."""
MAX_WINDOW_ROWS = 2**38
"""Rows of one version in one minute; ten thousand days of them still fit 63 bits."""
HISTOGRAMS = frozenset({"queue", "compute", "total", "batch_rows"})

_CODE = re.compile(r"[1-5][0-9]{2}", re.ASCII)


def check_snapshot(snapshot: Snapshot) -> None:
    """Raise InvalidRequest, naming the field, for what no worker would send."""
    if not snapshot.host.isprintable():
        raise InvalidRequest("host must be printable", "host")
    for field in ("deltas", "now"):
        if len(getattr(snapshot, field)) > MAX_VERSIONS:
            raise InvalidRequest(f"{field} has more than {MAX_VERSIONS} versions", field)
    for at, delta in enumerate(snapshot.deltas):
        _check_delta(delta, f"deltas.{at}")
    for at, now in enumerate(snapshot.now):
        _check_name(now.model, now.version, f"now.{at}.model")
    for digest, data in snapshot.profiles.items():
        if hashlib.sha256(data).hexdigest() != digest:
            raise InvalidRequest(f"the profile {digest[:12]}… has another sha256 than its digest", "profiles")


def parse_given(data: bytes) -> Profile:
    """Read a profile that a worker sent; InvalidRequest when it is none."""
    try:
        return read_profile(data)
    except InvalidProfile as error:
        raise InvalidRequest(str(error), "profiles") from error


def check_states(delta: VersionDelta, profile: Profile, sketches: Sequence[Sketch], label: str) -> None:
    """Raise InvalidRequest unless a delta's states are of its profile; `sketches` are empty ones of it.

    The rows of its tensors, and `watched_rows`, may differ by the batch that was being counted.
    """
    if len(delta.states) != len(profile.tensors):
        raise InvalidRequest(
            f"{label}.states: {len(delta.states)} states for {len(profile.tensors)} tensors of the profile",
            f"{label}.states",
        )
    for tensor, sketch, state in zip(profile.tensors, sketches, delta.states, strict=True):
        try:
            sketch.merge_bytes(state)
        except ValueError as error:
            raise InvalidRequest(
                f"{label}.states: the state of {tensor.role} '{tensor.tensor}' does not fit: {error}",
                f"{label}.states",
            ) from error
    if max(sketch.rows for sketch in sketches) > MAX_WINDOW_ROWS:
        raise InvalidRequest(f"{label}.states have more than {MAX_WINDOW_ROWS} rows", f"{label}.states")


def _check_delta(delta: VersionDelta, label: str) -> None:
    _check_name(delta.model, delta.version, f"{label}.model")
    if any(_CODE.fullmatch(code) is None for code in delta.codes):
        raise InvalidRequest(f"{label}.codes must be HTTP statuses", f"{label}.codes")
    unknown = delta.histograms.keys() - HISTOGRAMS
    if unknown:
        raise InvalidRequest(f"{label}.histograms: {min(unknown)[:32]!r} is not known", f"{label}.histograms")
    if delta.watched_rows > MAX_WINDOW_ROWS:
        raise InvalidRequest(f"{label}.watched_rows is over {MAX_WINDOW_ROWS}", f"{label}.watched_rows")
    if delta.states and delta.profile is None:
        raise InvalidRequest(f"{label}.states are there without a profile", f"{label}.states")


def _check_name(model: str, version: int, field: str) -> None:
    if not (is_model(model) if model else version == 0):
        raise InvalidRequest(f"{field} is not a model's name", field)
