"""The whole table: every model, rows a request, form of the numbers and connections, against every rival."""

from typing import get_args

from benchmarks.serving.load import LoadError
from benchmarks.serving.models import MODELS
from benchmarks.serving.payloads import BODIES, Payload, Wire
from benchmarks.serving.rig import Rig
from benchmarks.serving.servers import ServerError

WIRES: tuple[Wire, ...] = get_args(Wire)
CONNECTIONS = (1, 16, 64)


def cases(rig: Rig, only: set[str]) -> list[Payload]:
    """Every case whose title (`small-1-json`) contains one of `only`, or all."""
    payloads = [
        rig.payload(model, rows, wire) for model in MODELS.values() for rows in BODIES for wire in WIRES
    ]
    return [payload for payload in payloads if not only or any(part in payload.title for part in only)]


def measure(rig: Rig, only: set[str]) -> list[str]:
    """Race every chosen case into `rig.races`; what could not be measured is returned in words."""
    problems = []
    for payload in cases(rig, only):
        try:
            specs = [rig.fastserve(payload), rig.constant(payload), rig.fastapi(payload)]
            rig.race(payload, specs, CONNECTIONS, batches=[payload.rows])
        except (LoadError, ServerError) as error:
            problems.append(f"{payload.title}: {error}")
    return problems
