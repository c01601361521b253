"""Asks a control plane over HTTP: one address, no proxy, no redirect, nothing endless."""

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from fastserve.cli.common import settings
from fastserve.cli.models.naming import split
from fastserve.errors import ConfigError, FastserveError, InvalidRequest

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from urllib.error import HTTPError
    from urllib.request import OpenerDirector

    from fastserve.controlplane.reporting import Report

MAX_REPORT_BYTES = 128 * 2**20
TIMEOUT_S = 60.0
"""Without a byte: a report of 40,000 features takes ten seconds to be made."""

WHOLE_S = 120.0

_NO_SUCH_PATH = "Not Found"
"""What a fastserve server, or a control plane, says of a path that it does not have."""


def _span(text: str) -> str:
    """Refuse what the control plane would refuse, before it is asked."""
    from fastserve.controlplane.spans import parse_since

    try:
        parse_since(text)
    except InvalidRequest as error:
        raise typer.BadParameter(f"{str(error).removeprefix('since ')}, not '{text[:64]}'") from None
    return text


Since = Annotated[
    str, typer.Option("--since", metavar="SPAN", help="How far back: 90s, 15m, 24h, 7d.", callback=_span)
]
Version = Annotated[
    str,
    typer.Argument(
        metavar="MODEL[@VERSION]",
        help="A model, and a version of it (number or alias) unless the control plane is to choose.",
    ),
]
Control = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="URL",
        help="The control plane, such as http://control:8002; without it that of the configuration.",
    ),
]


def address(given: str | None, config: Path | None) -> str:
    """Give the control plane's URL: the flag's, or that of the configured server.

    Raises
    ------
    ConfigError
        It is no URL, or no control plane is configured.
    """
    if given is not None:
        if not re.fullmatch(r"https?://[!-~]+", given):
            raise ConfigError(f"--control: '{given[:200]}' is no URL such as http://control:8002")
        return given.rstrip("/")
    chosen = settings(None, config)
    if chosen.monitoring.control_url is not None:
        return chosen.monitoring.control_url.rstrip("/")
    host, port = chosen.control.host, chosen.server.control_port
    if not port:
        raise ConfigError(
            "server.control_port is 0, so there is no control plane to ask: name one by --control"
        )
    # What listens everywhere is asked here.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ask(base: str, name: str, since: str) -> "Report":
    """Get the report of MODEL[@VERSION].

    Raises
    ------
    ConfigError
        The name is not of that form.
    FastserveError
        The control plane does not answer, or knows no such rows, or answers something else.
    """
    from urllib.parse import quote, urlencode

    from pydantic import ValidationError

    from fastserve.controlplane.reporting import Report
    from fastserve.overriding import place_and_problem

    model, wanted = split(name)
    query = {"since": since}
    if wanted is not None:
        query["version" if wanted.isdecimal() else "alias"] = wanted
    data = _get(base, f"/v2/control/models/{quote(model, safe='')}/report?{urlencode(query)}")
    try:
        return Report.model_validate_json(data)
    except ValidationError as error:
        raise FastserveError(
            f"{base} answered no report that this release reads ({place_and_problem(error)}): "
            "is it a control plane of the same release?"
        ) from None


def _get(base: str, path: str) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError

    try:
        with _opener().open(base + path, timeout=TIMEOUT_S) as response:
            return _read(response, base)
    except HTTPError as error:
        with error:
            raise FastserveError(_sentence(base, error)) from None
    except (HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, TimeoutError):
            raise FastserveError(
                f"the control plane at {base} has not answered within {TIMEOUT_S:g} s"
            ) from None
        raise FastserveError(
            f"the control plane at {base} does not answer ({_line(str(reason)) or type(error).__name__}): "
            "is the server running, and --control right?"
        ) from None


def _opener() -> "OpenerDirector":
    from urllib import request

    opener = request.OpenerDirector()
    handlers: list[request.BaseHandler] = [
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPErrorProcessor(),
        request.HTTPDefaultErrorHandler(),
    ]
    for handler in handlers:
        opener.add_handler(handler)
    return opener


def _read(response: "HTTPResponse", base: str) -> bytes:
    parts, size, until_s = [], 0, time.monotonic() + WHOLE_S
    while part := response.read1(2**18):
        parts.append(part)
        size += len(part)
        if size > MAX_REPORT_BYTES:
            raise FastserveError(f"{base} answered more than the limit of {MAX_REPORT_BYTES} bytes")
        if time.monotonic() > until_s:
            raise FastserveError(f"{base} has not answered in full within {WHOLE_S:.0f} s")
    return b"".join(parts)


def _sentence(base: str, error: "HTTPError") -> str:
    """What the control plane said is wrong, or else the status alone."""
    from http.client import HTTPException

    try:
        said = orjson.loads(error.read(2**16))["error"]
        if said == _NO_SUCH_PATH:
            return f"{base} has no reports: is --control the control plane's URL, and not the server's?"
        if isinstance(said, str) and said.strip():
            return _line(said)
    except (HTTPException, OSError, ValueError, LookupError, TypeError):
        pass
    return f"{base} answered with status {error.code} and no reason: is it a control plane?"


def _line(text: str) -> str:
    return " ".join(text[:1_000].split())
