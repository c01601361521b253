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


UNLOADED = "unloaded"
"""The reason of a version that is UNAVAILABLE because nobody wants it, not because anything is wrong."""


@dataclass(frozen=True, slots=True)
class Record:
    """One version and its state; `reason` says why it is not READY, or what is wrong although it is."""

    model: str
    version: int
    state: VersionState
    reason: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether it was unloaded, and nothing is wrong."""
        return self.state is VersionState.UNAVAILABLE and self.reason == UNLOADED
