"""A window's counts as the database keeps them: the states of all tensors in one compressed blob."""

import struct
import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise

from fastserve.controlplane.errors import StateDamaged
from fastserve.monitoring.profile import Sketch

_COUNT = struct.Struct("<I")
_LEVEL = 1
"""Higher levels of zlib gain a twentieth of the size for several times the time."""


def pack(states: Sequence[bytes]) -> bytes:
    """Write the states of a window's tensors, in the profile's order."""
    lengths = struct.pack(f"<{len(states)}Q", *map(len, states))
    return zlib.compress(b"".join([_COUNT.pack(len(states)), lengths, *states]), _LEVEL)


def unpack(blob: bytes) -> list[bytes]:
    """Read what `pack` wrote; StateDamaged when it is something else."""
    try:
        data = zlib.decompress(blob)
        (count,) = _COUNT.unpack_from(data)
        lengths = struct.unpack_from(f"<{count}Q", data, _COUNT.size)
    except (zlib.error, struct.error) as error:
        raise StateDamaged(f"a window cannot be read: {error}") from error
    ends = list(accumulate(lengths, initial=_COUNT.size + 8 * count))
    if ends[-1] != len(data):
        raise StateDamaged("a window cannot be read: its lengths do not add up")
    return [data[start:end] for start, end in pairwise(ends)]


def merge_into(sketches: Sequence[Sketch], states: Sequence[bytes]) -> None:
    """Count stored states; StateDamaged when they are not of these sketches' plan."""
    try:
        for sketch, state in zip(sketches, states, strict=True):
            sketch.merge_bytes(state)
    except ValueError as error:
        raise StateDamaged(f"a window cannot be read: {error}") from error
