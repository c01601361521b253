"""Calls an ASGI application with exactly the messages that a test wants, as uvicorn would send them."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message


@dataclass
class Answer:
    """Status, headers in their order, body; `raised` when the application also raised."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    raised: Exception | None = None

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        document = self.json()
        assert list(document) == ["error"]
        assert self.header("content-type") == "application/json"
        return str(document["error"])


class Client:
    """A client without a socket. Each call runs in an event loop of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.call("GET", path, headers=headers)

    def post(self, path: str, body: Any = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send bytes as they are and anything else as JSON, with its Content-Length."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.call("POST", path, [data], {"content-length": str(len(data)), **(headers or {})})

    def call(
        self,
        method: str,
        path: str,
        chunks: Iterable[bytes] = (b"",),
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        leaves: bool = False,
    ) -> Answer:
        """Send a body in chunks; with `leaves`, the client goes away after them instead of ending it."""
        return asyncio.run(self._call(method, path, list(chunks), headers, leaves))

    async def _call(
        self,
        method: str,
        path: str,
        chunks: list[bytes],
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
        leaves: bool,
    ) -> Answer:
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
        answer = Answer(0, [], b"")
        incoming: list[Message] = [
            {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
        ]
        if leaves:
            incoming.append({"type": "http.disconnect"})
        else:
            incoming[-1]["more_body"] = False
        finished = asyncio.Event()

        async def receive() -> Message:
            if incoming:
                return incoming.pop(0)
            await finished.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in message["headers"]]
            else:
                answer.body += message.get("body", b"")
                if not message.get("more_body", False):
                    finished.set()

        try:
            await self.app(self._scope(method, path, pairs), receive, send)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test wants to see it
            answer.raised = error
        return answer

    @staticmethod
    def _scope(method: str, target: str, headers: list[tuple[str, str]]) -> dict[str, Any]:
        path, _, query = target.partition("?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers],
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 50_000),
        }
