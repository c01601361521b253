"""One worker: an event loop, its models, its share of the connections.

It runs in a process of its own (a `Child`), or in the supervisor's when one worker is all there is.
"""

import asyncio
import logging
import math
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from fastserve.app.listening import waiting
from fastserve.app.running import Board
from fastserve.app.trimming import Trimming
from fastserve.app.watching import Post
from fastserve.app.wiring import Lifecycle
from fastserve.config import Config
from fastserve.dataplane import DataPlane
from fastserve.frontends.http.app import create_app
from fastserve.frontends.http.connection import Connection, protocol_class
from fastserve.frontends.http.environment import Environment
from fastserve.frontends.http.server import QuietServer, loop_factory
from fastserve.lifecycle import Ahead
from fastserve.tracing import open_tracing

log = logging.getLogger("fastserve.app")

_SWEEP_S = 1.0
_LOOK_S = 5.0
"""How long the first look at the registry may keep a worker from answering."""
_SWITCH_S = 0.0005
"""How long a loading thread may keep the interpreter from the event loop; Python's own is 5 ms."""
_ACCEPTS = 16
"""Connections accepted in one turn of the loop: of each listening socket uvloop takes one, and the turn of a
thousand busy connections lasts 0.1 s."""

_ACCEPT_S = 1.0
"""How long those may take to be accepted who have come when the server stops."""
_GIVE_UP_S = 0.5
"""How long requests may take to end whose time is over."""


class Worker:
    """Wires registry, lifecycle, data plane and front end, and runs them until told to stop.

    `post` says where statistics go, if anywhere; `on_settled` is called when every model is loaded or has
    failed; `ahead` is what was loaded before this process was forked; what models run is noted on `board`.
    """

    def __init__(
        self,
        config: Config,
        threads: int,
        post: Post | None = None,
        on_settled: Callable[[], None] = lambda: None,
        ahead: Ahead | None = None,
        board: Board | None = None,
    ) -> None:
        self._config = config
        self._threads = threads
        self._post = post
        self._on_settled = on_settled
        self._ahead = ahead
        self._board = board or Board()
        self.server: QuietServer | None = None
        self.environment: Environment | None = None
        self.plane: DataPlane | None = None

    def run(self, listener: socket.socket, lifeline: int | None = None, *, load_first: bool = False) -> None:
        """Serve on a listening socket until SIGTERM or SIGINT, then answer everything in flight.

        `lifeline` is a descriptor that becomes readable when the process that started this one is gone. With
        `load_first` no connection is accepted before every model is loaded or has failed, if any is known.
        """
        sys.setswitchinterval(_SWITCH_S)
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(self._serve(listener, lifeline, load_first))

    async def _serve(self, listener: socket.socket, lifeline: int | None, load_first: bool) -> None:
        loop = asyncio.get_running_loop()
        if lifeline is not None:
            loop.add_reader(lifeline, _on_parent_gone, loop, lifeline)
        tracing = open_tracing(self._config.tracing)
        executor = ThreadPoolExecutor(self._threads, thread_name_prefix="fastserve-run")
        lifecycle = Lifecycle(
            self._config,
            loop,
            executor,
            self._threads,
            self._post,
            None if tracing is None else tracing.batches,
            self._ahead,
            self._board,
        )
        plane = self.plane = lifecycle.plane
        http = self._config.http
        plain = create_app(plane, http, lifecycle.load_control)
        app: ASGIApp = plain
        if tracing is not None:
            from fastserve.frontends.http.traced import TracedApp  # it needs OpenTelemetry

            app, http = TracedApp(plain, tracing.tracer), http.model_copy(update={"fast_path": False})
        protocol = protocol_class(plane, http)
        environment = self.environment = protocol.environment
        environment.shared.now_s = loop.time()
        server = self.server = _Server(self._config, app, protocol, plane)
        lifecycle.start(self._on_settled)
        sweeper = loop.create_task(_sweep(server, environment, plane))
        try:
            if load_first or self._ahead is not None:
                # Not wait_for: in Python 3.11 it may swallow the cancellation of a stop that comes now.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await lifecycle.looked.wait()
            # Where the registry cannot be read, who connects is told so.
            if load_first and lifecycle.looked.is_set():
                await lifecycle.settled.wait()
            await server.serve(sockets=[listener, *(listener.dup() for _ in range(_ACCEPTS - 1))])
        finally:
            sweeper.cancel()
            lifecycle.stop()
            executor.shutdown(wait=False)  # what runs had its time, and may never end: the process does
            if tracing is not None:
                tracing.close()


class _Server(QuietServer):
    """Says that it is not ready from the moment it is told to stop."""

    def __init__(self, config: Config, app: ASGIApp, protocol: type[Connection], plane: DataPlane) -> None:
        super().__init__(
            app,
            http=protocol,
            timeout_graceful_shutdown=math.ceil(config.server.drain_s),
            backlog=config.server.backlog,
        )
        self._environment, self._plane = protocol.environment, plane

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT has come."""
        self._plane.draining = True
        self._environment.stopping = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept who has come, whom the kernel would reset with the listening socket, then stop in order."""
        assert sockets is not None
        sockets[0].listen(0)  # who comes now is not let in: the kernel tries again in a second
        with suppress(TimeoutError):
            async with asyncio.timeout(_ACCEPT_S):
                while waiting(sockets[0]):
                    await asyncio.sleep(0)
        await asyncio.sleep(0)  # Python's own loop makes a connection one turn after it has accepted it
        await super().shutdown(sockets)
        if given_up := self.server_state.tasks:  # they say so to their clients, and are counted
            await asyncio.wait(given_up, timeout=_GIVE_UP_S)


def _on_parent_gone(loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
    loop.remove_reader(lifeline)
    log.warning("the supervisor is gone; this worker stops")
    signal.raise_signal(signal.SIGTERM)


async def _sweep(server: uvicorn.Server, environment: Environment, plane: DataPlane) -> None:
    """Move the coarse clock, time out connections, give memory back; once a second."""
    loop = asyncio.get_running_loop()
    period_s = min(_SWEEP_S, environment.options.read_timeout_s / 4)
    trimming = Trimming()
    while True:
        now_s = environment.shared.now_s = loop.time()
        try:
            for connection in list(server.server_state.connections):
                assert isinstance(connection, Connection)
                connection.sweep(now_s)
            plane.housekeep()
            if trimming.due(now_s):
                await loop.run_in_executor(None, trimming.trim)
        except Exception:
            log.exception("the worker's housekeeping failed; it goes on in a moment")
        await asyncio.sleep(period_s)
