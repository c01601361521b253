"""One worker: an event loop, its models, its share of the connections.

It runs in a process of its own (`worker_process`), or in the supervisor's when one worker is all there is.
"""

import asyncio
import gc
import logging
import math
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.applications import Starlette

from fastserve.config import Config
from fastserve.dataplane import DataPlane
from fastserve.frontends.http.app import create_app
from fastserve.frontends.http.connection import Environment, GatedProtocol
from fastserve.frontends.http.protocol import protocol_class
from fastserve.lifecycle import Loaded, Loader, Manager
from fastserve.registry import Registry
from fastserve.runtime.memory import use_huge_pages

log = logging.getLogger("fastserve.app")

_SWEEP_S = 1.0


class Worker:
    """Wires registry, lifecycle, data plane and front end, and runs them until told to stop."""

    def __init__(self, config: Config, threads: int) -> None:
        self._config = config
        self._threads = threads
        registry = Registry(config.registry_dir())
        loader = Loader(
            registry, config.runtime, config.batching, threads=threads, verify=config.lifecycle.verify
        )
        self._manager = Manager(registry, config.lifecycle, loader.load)
        self.server: uvicorn.Server | None = None
        self.environment: Environment | None = None
        self.plane: DataPlane | None = None

    def run(self, listener: socket.socket, lifeline: int | None = None, *, load_first: bool = False) -> None:
        """Serve on a listening socket until SIGTERM or SIGINT, then answer everything in flight.

        `lifeline` is a descriptor that becomes readable when the process that started this one is gone. With
        `load_first` no connection is accepted before every model is loaded or has failed.
        """
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve(listener, lifeline, load_first))

    async def _serve(self, listener: socket.socket, lifeline: int | None, load_first: bool) -> None:
        loop = asyncio.get_running_loop()
        if lifeline is not None:
            loop.add_reader(lifeline, self._on_parent_gone, loop, lifeline)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="fastserve-run") as executor:
            plane = self.plane = DataPlane(self._manager, loop, executor)
            app = create_app(plane, self._config.http)
            protocol = protocol_class(plane, self._config.http)
            environment = self.environment = protocol.environment
            environment.shared.now_s = loop.time()
            server = self.server = self._server(app, protocol)
            settled = self._start_loading(loop, plane)
            sweeper = loop.create_task(_sweep(server, environment, plane))
            try:
                if load_first:
                    await settled.wait()
                await server.serve(sockets=[listener])
            finally:
                sweeper.cancel()
                plane.close()

    def _server(self, app: Starlette, protocol: type[GatedProtocol]) -> uvicorn.Server:
        config = self._config
        settings = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(config.http.keep_alive_s) + 1,
            timeout_graceful_shutdown=math.ceil(config.server.drain_s),
            backlog=config.server.backlog,
        )
        return uvicorn.Server(settings)

    def _on_parent_gone(self, loop: asyncio.AbstractEventLoop, lifeline: int) -> None:
        loop.remove_reader(lifeline)
        log.warning("the supervisor is gone; this worker stops")
        if self.server is not None:
            self.server.should_exit = True

    def _start_loading(self, loop: asyncio.AbstractEventLoop, plane: DataPlane) -> asyncio.Event:
        settled = asyncio.Event()

        def on_ready(loaded: Loaded) -> None:
            loop.call_soon_threadsafe(plane.add, loaded)

        def on_settled() -> None:
            # What is loaded by now lives as long as the process: no collection needs to look at it again.
            gc.collect()
            gc.freeze()
            use_huge_pages()
            loop.call_soon_threadsafe(self._manager.settle)
            loop.call_soon_threadsafe(settled.set)

        threading.Thread(
            target=self._manager.bring_up, args=(on_ready, on_settled), name="fastserve-load", daemon=True
        ).start()
        return settled


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _sweep(server: uvicorn.Server, environment: Environment, plane: DataPlane) -> None:
    """Move the coarse clock, time out connections, give memory back; once a second."""
    loop = asyncio.get_running_loop()
    period_s = min(_SWEEP_S, environment.options.read_timeout_s / 4)
    while True:
        now_s = environment.shared.now_s = loop.time()
        for connection in list(server.server_state.connections):
            assert isinstance(connection, GatedProtocol)
            connection.sweep(now_s)
        plane.housekeep()
        await asyncio.sleep(period_s)
