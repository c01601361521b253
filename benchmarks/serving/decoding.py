"""The JSON decoder against orjson and NumPy on the same request body, in one pinned process, taking turns."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from benchmarks.serving.payloads import Floats, Payload

ROOT = Path(__file__).resolve().parents[2]
TURNS = 15
CALLS = 40
"""Decodes a turn: tens of milliseconds, far longer than the clock's and the scheduler's grain."""


class DecodingError(Exception):
    """The two decoders could not be compared, or do not agree."""


def run_pinned(
    payload: Payload, directory: Path, cores: str, *, nested: bool
) -> tuple[list[float], list[float]]:
    """Nanoseconds a number, turn by turn: fastserve_core's decoder, and orjson.loads + np.asarray."""
    body = directory / "decoding-body"
    body.write_bytes(payload.json_body(0, nested=nested))
    command = [
        *("taskset", "-c", cores, sys.executable, "-m", "benchmarks.serving.decoding"),
        *(str(body), str(payload.rows), str(payload.model.features)),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if run.returncode != 0:
        raise DecodingError((run.stderr.strip().splitlines() or ["no output"])[-1])
    ours_ns, theirs_ns = json.loads(run.stdout)
    return ours_ns, theirs_ns


def compare(body: bytes, rows: int, features: int) -> tuple[list[float], list[float]]:
    """See `run_pinned`; both make one FP32 array [rows, features] and must agree to the bit."""
    from fastserve_core.wire.decode import Envelope, RequestDecoder, RowBuffers

    tensor = np.empty((rows, features), np.float32)
    buffers, envelope = RowBuffers([tensor]), Envelope()
    decoder = RequestDecoder([("x", "FP32", (features,))], ["y"])

    def ours() -> int:
        got: int = decoder.decode(body, 0, -1, len(body), buffers, 0, rows, envelope)
        return got

    def theirs() -> Floats:
        request = orjson.loads(body)["inputs"][0]
        return np.asarray(request["data"], np.float32).reshape(request["shape"])

    if ours() != rows or not np.array_equal(tensor, theirs()):
        raise DecodingError("the two decoders do not agree on the body")
    ours_ns, theirs_ns = [], []
    for _ in range(TURNS):
        ours_ns.append(_time_ns(ours) / tensor.size)
        theirs_ns.append(_time_ns(theirs) / tensor.size)
    return ours_ns, theirs_ns


def _time_ns(call: Callable[[], object]) -> float:
    begin = time.perf_counter_ns()
    for _ in range(CALLS):
        call()
    return (time.perf_counter_ns() - begin) / CALLS


def main() -> None:
    """Read the body from a file, compare, and print the two lists as JSON."""
    body, rows, features = sys.argv[1:]
    print(json.dumps(compare(Path(body).read_bytes(), int(rows), int(features))))


if __name__ == "__main__":
    main()
