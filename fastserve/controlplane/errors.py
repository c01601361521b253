"""What can go wrong in the control plane alone."""

from fastserve.errors import FastserveError, NotFound


class StoreUnavailable(FastserveError):
    """The database cannot take or give anything now; nothing was counted, and trying again is right."""

    def __init__(self, reason: str, *, has_no_tables: bool = False) -> None:
        super().__init__(f"the control plane's database is not available: {reason}")
        self.reason = reason
        self.has_no_tables = has_no_tables


class ProfileUnavailable(StoreUnavailable):
    """One profile in the database is damaged or missing; it concerns what was counted against it alone."""

    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(f"the profile {digest[:12]} in it is {reason}")
        self.digest = digest


class StateDamaged(FastserveError):
    """A window's counts cannot be read: damaged, or of another release's sketches."""


class NotWatched(NotFound):
    """No row of the version was ever counted against a profile; `reason` says why, where that is known."""

    def __init__(self, model: str, version: int | None, reason: str = "") -> None:
        which = f"model '{model}' version {version}" if version is not None else f"model '{model}'"
        why = reason or "there is no such version, or it has no profile, or nobody has asked it anything"
        super().__init__(f"no rows of {which} were watched: {why}")
        self.model = model
        self.version = version
