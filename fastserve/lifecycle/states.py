"""The public states of a version, as Triton's repository index names them."""

from enum import StrEnum


class VersionState(StrEnum):
    """UNKNOWN → LOADING → READY → UNLOADING → UNAVAILABLE; a failed load goes from LOADING to UNAVAILABLE."""

    UNKNOWN = "UNKNOWN"
    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"
