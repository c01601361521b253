"""What a worker tells the control plane once a second: counts since the last time, as bytes.

Layout: `FSSN`, the head's length (uint32, little-endian), the head as JSON, the states one after the other.
"""

import struct
from itertools import accumulate, islice, pairwise
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastserve import __version__
from fastserve.errors import InvalidRequest
from fastserve.overriding import first_problem
from fastserve_core.histogram import BUCKETS

FORMAT = 2
"""Before 2, states were summed around the means of the reference, which no merge accepts now."""
MAX_SNAPSHOT_BYTES = 256 * 2**20
MAX_HEAD_BYTES = 16 * 2**20
"""Of 5,000 versions that were all asked; 10 to 35 times as much memory is needed to read it."""

_MAGIC = b"FSSN"
_HEAD = struct.Struct("<4sI")
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Text = Annotated[str, Field(max_length=2_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


class HistogramDelta(_Strict):
    """Events by bucket of `fastserve_core.histogram`; only buckets that have any."""

    buckets: dict[Annotated[int, Field(ge=0, lt=BUCKETS)], _Count] = Field(default_factory=dict)
    total: _Count = 0
    """Sum of the values: nanoseconds, or rows."""

    def add(self, other: "HistogramDelta") -> None:
        """Count another delta's events too."""
        self.total += other.total
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count


class VersionDelta(_Strict):
    """What one version did in one worker since the last snapshot."""

    model: Annotated[str, Field(max_length=255)]
    """Empty for requests that no model answered."""
    version: _Count
    codes: dict[str, _Count] = Field(default_factory=dict)
    """Requests by HTTP status."""
    histograms: dict[str, HistogramDelta] = Field(default_factory=dict)
    """queue, compute, total: nanoseconds a request; batch_rows: rows a run."""
    watched_rows: _Count = 0
    profile: _Digest | None = None
    states: list[bytes] = Field(default_factory=list, exclude=True)
    """One sketch state for each tensor of the profile, in its order; none without a profile or rows."""


class VersionNow(_Strict):
    """How a version stands in one worker."""

    model: Annotated[str, Field(max_length=255)]
    version: _Count
    state: Annotated[str, Field(max_length=32)]
    reason: _Text = ""
    queue_rows: _Count = 0
    profile: _Digest | None = None
    unwatched: _Text = ""
    """Why its rows are not watched; empty when they are."""


class ProcessFigures(_Strict):
    """A worker's process, as the kernel counts it."""

    pid: _Count
    resident_bytes: _Count
    cpu_s: Annotated[float, Field(ge=0)]
    """User and system time since it began."""
    open_fds: _Count
    threads: _Count


class Snapshot(_Strict):
    """Numbered by its worker's incarnation: taken in once, however often it comes."""

    format: int = FORMAT
    release: Annotated[str, Field(max_length=64)] = __version__
    host: Annotated[str, Field(max_length=255)]
    worker: _Count
    """The worker's place under its supervisor; a replacement has the same."""
    incarnation: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Another one for every process."""
    number: Annotated[int, Field(ge=1, lt=2**63)]
    from_ms: _Count
    """Wall clock, milliseconds since the epoch."""
    to_ms: _Count
    deltas: list[VersionDelta] = Field(default_factory=list)
    now: list[VersionNow] = Field(default_factory=list)
    process: ProcessFigures
    profiles: dict[_Digest, bytes] = Field(default_factory=dict, exclude=True)
    """Profiles that the control plane asked for."""

    def to_bytes(self) -> bytes:
        """Encode; see the module's head for the layout."""
        blobs: list[bytes] = []
        head: dict[str, Any] = self.model_dump(mode="json")
        for delta, written in zip(self.deltas, head["deltas"], strict=True):
            written["state_bytes"] = [len(state) for state in delta.states]
            blobs += delta.states
        head["profile_bytes"] = {digest: len(data) for digest, data in self.profiles.items()}
        blobs += self.profiles.values()
        text = orjson.dumps(head, option=orjson.OPT_NON_STR_KEYS)
        return b"".join([_HEAD.pack(_MAGIC, len(text)), text, *blobs])


def read_snapshot(data: bytes) -> Snapshot:
    """Decode what `Snapshot.to_bytes` gave; every size is checked before anything is cut.

    Raises
    ------
    InvalidRequest
        Not a snapshot; another format (`field` is "format"); lengths that do not add up.
    """
    if len(data) < _HEAD.size:
        raise InvalidRequest(f"a snapshot has {_HEAD.size} bytes or more, not {len(data)}", "body")
    magic, size = _HEAD.unpack_from(data)
    if magic != _MAGIC or size > len(data) - _HEAD.size:
        raise InvalidRequest("these bytes are not a snapshot", "body")
    if size > MAX_HEAD_BYTES:
        raise InvalidRequest(f"the snapshot's head has {size} bytes, over {MAX_HEAD_BYTES}", "head")
    try:
        head = orjson.loads(memoryview(data)[_HEAD.size : _HEAD.size + size])
        found = head["format"]
        if type(found) is not int:
            raise TypeError("its format is not a number")
        if found != FORMAT:
            raise InvalidRequest(
                f"the snapshot has format {found} (fastserve {head.get('release')!s:.32}), "
                f"this control plane reads format {FORMAT} (fastserve {__version__}): "
                "run the same release on both sides",
                "format",
            )
        lengths = [one.pop("state_bytes") for one in head["deltas"]]
        profiles = head.pop("profile_bytes")
        snapshot = Snapshot.model_validate(head)
        _cut(snapshot, memoryview(data)[_HEAD.size + size :], lengths, profiles)
    except ValidationError as error:
        where, problem = first_problem(error)
        raise InvalidRequest(problem, where) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InvalidRequest(f"the snapshot's head cannot be read: {error}", "head") from error
    return snapshot


def _cut(snapshot: Snapshot, rest: memoryview, lengths: list[list[int]], profiles: dict[str, int]) -> None:
    """Give every delta its states, and the snapshot its profiles."""
    sizes = [size for each in lengths for size in each] + list(profiles.values())
    if any(type(size) is not int or size < 0 for size in sizes) or sum(sizes) != len(rest):
        raise InvalidRequest("the lengths of the states do not add up to the snapshot", "state_bytes")
    pieces = (bytes(rest[start:end]) for start, end in pairwise(accumulate(sizes, initial=0)))
    for delta, each in zip(snapshot.deltas, lengths, strict=True):
        delta.states += islice(pieces, len(each))
    snapshot.profiles.update(zip(profiles, pieces, strict=True))
