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


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "closes"),
    [
        ([b"GET / HTTP/1.1\r\nA: ", *[b"b" * 2**18] * 5], True),
        ([b"GET / HTTP/1.1\r\n", *[b"a:b\r\n" * 1_000] * 5], True),
        ([CHUNKED, b"0\r\n", *[b"a:b\r\n" * 1_000] * 5], True),
        ([CHUNKED, *[b"1\r\nx\r\n" * 2**16] * 5], True),
        ([CHUNKED, *[b"40000\r\n" + b"x" * 2**18 + b"\r\n"] * 9, b"0\r\n\r\n", ASK], False),
        ([b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2359296\r\n\r\n", *[b"x" * 2**18] * 9, ASK], False),
        ([ASK.replace(b"x", b"x" * 1_000) * 2_000, ASK], False),
    ],
)
def test_what_comes_beside_bodies_is_bounded(said: list[bytes], closes: bool) -> None:
    async def run() -> bool:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)

            async def send() -> None:
                for each in said:
                    writer.write(each)
                    await writer.drain()

            with contextlib.closing(writer), contextlib.suppress(ConnectionError):
                sending = asyncio.create_task(send())
                asked = b"".join(said).count(b"GET")
                heard = b""
                while part := await reader.read(2**16):
                    heard = heard[-7:] + part
                    asked -= heard.count(b"\r\n\r\nhere")
                    if not asked and not closes:
                        await sending
                        return False
            return True

    assert asyncio.run(asyncio.wait_for(run(), connection.HEAD_S - 5)) is closes
