"""Which names of itself the control plane answers to where only its own machine can reach it.

A browser there reaches it too, and lets a web page read what is found under the page's own name, which may
come to stand for 127.0.0.1 later (DNS rebinding). An address and `localhost` stand for themselves.
"""

import re

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fastserve.frontends.http.errors import error_body, quoted

_LOCAL = re.compile(r"(([a-z0-9-]+\.)*localhost\.?|[0-9.]+|\[[0-9a-f:.]+\])(:[0-9]*)?", re.IGNORECASE)
"""No domain is a number, and what stands in brackets is an IPv6 address."""


class LocalNames:
    """Answers reading requests 403 whose Host is neither an IP address nor localhost.

    What changes something carries a token that no web page has.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        host, answer = Headers(scope=scope).get("host", ""), self._app
        if host and scope["method"] != "POST" and not _LOCAL.fullmatch(host):
            sentence = (
                f"Host {quoted(host)} is refused: on a loopback address the control plane answers to "
                "localhost and IP addresses only; a proxy in front of it must send one of these as Host"
            )
            answer = Response(error_body(sentence), 403, media_type="application/json")
        await answer(scope, receive, send)
