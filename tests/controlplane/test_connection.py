"""Who connects to the control plane and says nothing is not waited for; who asks is, however long it takes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fastserve.controlplane import connection
from fastserve.controlplane.process import _Server

HEAD_S = 0.3
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def slow(_: Request) -> Response:
    await asyncio.sleep(3 * HEAD_S)
    return PlainTextResponse("late")


async def fast(_: Request) -> Response:
    return PlainTextResponse("here")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(Starlette(routes=[Route("/", fast), Route("/slow", slow)]), listener)
        work = asyncio.create_task(server.work())
        while not server.started:
            await asyncio.sleep(0.01)
        yield listener.getsockname()[1]
        server.stop()
        await work


async def talk(port: int, *said: bytes) -> bytes:
    """Everything that comes until the server closes, or for a second and a half."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    for each in said:
        writer.write(each)
        await asyncio.sleep(0.02)  # each is a piece of its own
        if each == ASK:
            heard += await reader.readuntil(b"here")
    with contextlib.closing(writer), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5 * HEAD_S):
            while part := await reader.read(1_000):
                heard += part
            return heard + b"|closed"
    return heard + b"|open"


@pytest.mark.parametrize(
    ("said", "end"),
    [
        ([], b"|closed"),
        ([b"GET / HT"], b"|closed"),
        ([ASK, b"\r\n"], b"here|closed"),
        ([ASK, b"GET"], b"here|closed"),
        ([ASK, ASK], b"here|open"),
        ([b"GET /slow HTTP/1.1\r\n", b"Host: x\r\n\r\n"], b"late|open"),
    ],
)
def test_a_head_has_to_come_in_time(said: list[bytes], end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", HEAD_S)
    made: list[connection.Connection] = []
    accept = connection.Connection.connection_made

    def note(self: connection.Connection, transport: asyncio.Transport) -> None:
        made.append(self)
        accept(self, transport)

    monkeypatch.setattr(connection.Connection, "connection_made", note)

    async def run() -> bytes:
        async with serving() as port:
            return await talk(port, *said)

    assert asyncio.run(run()).endswith(end)
    assert [one._patience for one in made] == [None], "who has gone is not waited for"
