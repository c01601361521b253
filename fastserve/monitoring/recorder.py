"""Counts every row that a version answers, in the pass that answers it."""

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from fastserve.monitoring.profile import Profile, Sketch
from fastserve.types import Array, Signature

log = logging.getLogger("fastserve.monitoring")


class Recorder:
    """The sketches of one version in one worker. Safe from any thread: rows of two shapes may run at once.

    Parameters
    ----------
    profile
        What the rows are counted against.
    signature
        Of the loaded model.
    label
        Names the version in the log.

    Raises
    ------
    InvalidProfile
        The profile is of another model's shape, or none of it can be counted.
    """

    def __init__(self, profile: Profile, signature: Signature, label: str) -> None:
        varying = {spec.name for spec in signature.outputs if min(spec.shape[1:], default=0) < 0}
        # The file's word was taken for their size when the profile was made: the rest is as good as ever.
        left_out = [one for one in profile.tensors if one.role == "output" and one.tensor in varying]
        profile.check(signature, left_out if len(left_out) < len(profile.tensors) else ())
        self.left_out = [one.tensor for one in left_out]
        """Outputs of the profile that are not counted, since their size varies."""
        self.profile = profile
        self.digest = profile.digest()
        self.failure = ""
        """Why nothing is counted any more; empty while rows are."""
        self._label = label
        self._rows = 0
        self._lock = threading.Lock()
        self._sketches: list[Sketch] = [one.sketch() for one in profile.tensors]
        self._inputs = self._counters("input", [spec.name for spec in signature.inputs])
        self._outputs = self._counters("output", [spec.name for spec in signature.outputs])

    def _counters(self, role: str, names: list[str]) -> list[tuple[int, Callable[[Array], None]]]:
        """Pair the place of each tensor that is watched with what counts it."""
        return [
            (names.index(one.tensor), _halves(sketch) if one.datatype == "FP16" else sketch.update)
            for one, sketch in zip(self.profile.tensors, self._sketches, strict=True)
            if one.role == role and (role == "input" or one.tensor not in self.left_out)
        ]

    def update(self, inputs: Sequence[Array], outputs: Sequence[Array], rows: int) -> None:
        """Count a batch that ran: tensors in signature order, [rows, ...] each; never raises."""
        if self.failure:
            return
        try:
            for place, count in self._inputs:
                count(inputs[place])
            for place, count in self._outputs:
                count(outputs[place])
        except Exception as error:  # noqa: BLE001 - watching must never cost anybody an answer
            self.failure = f"its rows could not be counted: {error}"
            log.error("%s is not watched any more: %s", self._label, self.failure)
            return
        with self._lock:
            self._rows += rows

    def take(self) -> tuple[int, list[bytes]]:
        """Give the rows counted since the last `take`, and a state for each tensor of the profile."""
        with self._lock:
            rows, self._rows = self._rows, 0
        if not rows:
            return 0, []
        return rows, [sketch.take() for sketch in self._sketches]


def _halves(sketch: Sketch) -> Callable[[Array], None]:
    """Half floats have no kernel of their own; every one is a float exactly."""

    def count(values: Array) -> None:
        sketch.update(values.astype(np.float32))

    return count
