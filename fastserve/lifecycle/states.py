"""The public states of a version, as Triton's repository index names them."""

from dataclasses import dataclass
from enum import StrEnum


class VersionState(StrEnum):
    """UNKNOWN → LOADING → READY → UNLOADING → UNAVAILABLE, and from there LOADING again.

    A failed load goes from LOADING to UNAVAILABLE, and so does one that nobody wants any more.
    """

    UNKNOWN = "UNKNOWN"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Record:
    """One version and its state; `reason` says why it is not READY, or what is wrong although it is."""

    model: str
    version: int
    state: VersionState
    reason: str = ""
