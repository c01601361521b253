"""The demo's reference: what the training rows and the answers to them look like, and how March differs."""

import json
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote

from fastserve.demo.flights import Flights
from fastserve.demo.server import Client, Server
from fastserve.errors import FastserveError
from fastserve.monitoring import Profile
from fastserve.monitoring.building import Described, build_profile
from fastserve.monitoring.columns import value_names
from fastserve.runtime import OnnxRuntime, available_cores

ShowReport = Callable[[bytes, Path], None]
"""Prints a report, given as the control plane's JSON, and writes it to a path as HTML."""

_SINCE = "1h"
_PATIENCE_S = 30.0
_POLL_S = 0.05


def describe(model: Path, flights: Flights) -> Profile:
    """Describe rows and the answers to them.

    Parameters
    ----------
    model
        The exported ONNX graph.
    flights
        The rows that it was trained on, in the order of time: phi is taken over windows of them.

    Raises
    ------
    ModelRejected, ModelFailed, InvalidProfile
    """
    with closing(OnnxRuntime(model, threads=available_cores())) as runtime:
        signature = runtime.signature
        inputs = [flights.rows[[spec.name]].to_numpy() for spec in signature.inputs]
        outputs = runtime.run(inputs)
    tensors = [Described(spec, "input", (spec.name,)) for spec in signature.inputs]
    tensors += [Described(spec, "output", value_names(spec)) for spec in signature.outputs]
    profile = build_profile(
        tensors, lambda: [[*inputs, *outputs]], description="flights of January and February 2013"
    )
    profile.check(signature)
    return profile


def report(server: Server, model: str, version: int, profile: Profile, rows: int) -> bytes:
    """Wait until the control plane has counted `rows` rows of a version, and give its report as JSON.

    Raises
    ------
    FastserveError
        It has not in half a minute.
    """
    path = f"/v2/control/models/{quote(model)}/report?version={version}&since={_SINCE}"
    give_up_s = time.monotonic() + _PATIENCE_S
    said = "it did not answer"
    while time.monotonic() < give_up_s:
        try:
            with Client(server.control_port) as client:
                status, answer = client.get(path)
        except (OSError, HTTPException) as error:
            said = str(error) or type(error).__name__
        else:
            said = answer.decode(errors="replace")[:200]
            found = json.loads(answer) if status == 200 else {}
            if found.get("profile") == profile.digest() and found["rows"] >= rows:
                return answer
        time.sleep(_POLL_S)
    raise FastserveError(
        f"the control plane has not counted {rows} rows within {_PATIENCE_S:.0f} s ({said}): "
        f"{server.last_words()}"
    )
