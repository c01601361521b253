"""The whole hot-swap decision: a pure function from a snapshot of one model to the next step.

After TensorFlow Serving's availability_preserving_policy and resource_preserving_policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from fastserve.lifecycle.states import VersionState

Preference = Literal["auto", "availability", "resource"]

_ABSENT = (VersionState.UNKNOWN, VersionState.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class View:
    """One version as the policy sees it."""

    version: int
    state: VersionState
    wished: bool
    answering: bool = False
    """A route leads to it: requests that name no version, or an alias, arrive there."""
    due: bool = True
    """It may be tried now; False while a failed load waits for its next turn."""
    fits: bool = True
    """There is memory for it beside all that is loaded."""


class Step(Enum):
    """What to do with a version."""

    LOAD = auto()
    UNLOAD = auto()


@dataclass(frozen=True, slots=True)
class Action:
    """One step with one version."""

    step: Step
    version: int


def next_action(preference: Preference, views: Sequence[View]) -> Action | None:
    """Give the next step for one model, or None when there is nothing to do for now.

    `views` come with the most urgent first. Asked again after every step, it ends at the wish:

    - What nobody wishes for and no request depends on is unloaded.
    - A version that is missing is loaded while the old one answers (availability), or, where memory is short
      or the preference is `resource`, after the old one is gone.
    """
    surplus = [v for v in views if v.state is VersionState.READY and not v.wished]
    for view in surplus:
        if not view.answering:
            return Action(Step.UNLOAD, view.version)
    missing = next((v for v in views if v.wished and v.state in _ABSENT and v.due), None)
    if missing is None:
        return None
    drain_first = preference == "resource" or (preference == "auto" and not missing.fits)
    if drain_first:
        if surplus:
            return Action(Step.UNLOAD, surplus[0].version)
        if any(view.state is VersionState.UNLOADING for view in views):
            return None
    return Action(Step.LOAD, missing.version)
