"""One worker process: an event loop, its models, its share of the connections.

Run as `python -m fastserve.app.worker FD THREADS` with the configuration as JSON on standard input, or called in
process by the supervisor when one worker is all there is.
"""

import asyncio
import json
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from starlette.applications import Starlette

from fastserve.config import Config
from fastserve.dataplane import DataPlane
from fastserve.frontends.http.app import create_app
from fastserve.frontends.http.protocol import protocol_class
from fastserve.lifecycle import Loaded, Loader, Manager
from fastserve.log import configure_logging
from fastserve.registry import Registry

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

    def run(self, listener: socket.socket) -> None:
        """Serve on a listening socket; returns after SIGTERM or SIGINT when everything in flight is answered."""
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(self._threads, thread_name_prefix="fastserve-run") as executor:
            plane = DataPlane(self._manager, loop, executor)
            app = create_app(plane, self._config.http)
            server = self.server = self._server(app, plane)
            self._start_loading(loop, plane)
            sweeper = loop.create_task(_sweep(server, plane))
            try:
                await server.serve(sockets=[listener])
            finally:
                sweeper.cancel()
                plane.close()

    def _server(self, app: Starlette, plane: DataPlane) -> uvicorn.Server:
        config = self._config
        protocol = protocol_class(plane, config.http)
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
            timeout_graceful_shutdown=int(config.server.drain_s),
            backlog=config.server.backlog,
        )
        server = uvicorn.Server(settings)
        protocol.environment.shared.now_s = asyncio.get_running_loop().time()
        return server

    def _start_loading(self, loop: asyncio.AbstractEventLoop, plane: DataPlane) -> None:
        def on_ready(loaded: Loaded) -> None:
            loop.call_soon_threadsafe(plane.add, loaded)

        def on_settled() -> None:
            loop.call_soon_threadsafe(self._manager.settle)

        threading.Thread(
            target=self._manager.bring_up, args=(on_ready, on_settled), name="fastserve-load", daemon=True
        ).start()


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


async def _sweep(server: uvicorn.Server, plane: DataPlane) -> None:
    """Move the coarse clock, time out connections, give memory back; once a second."""
    loop = asyncio.get_running_loop()
    environment = server.config.http.environment  # type: ignore[union-attr]
    period_s = min(_SWEEP_S, environment.options.read_timeout_s / 4)
    while True:
        now_s = environment.shared.now_s = loop.time()
        for connection in list(server.server_state.connections):
            connection.sweep(now_s)  # type: ignore[union-attr]
        plane.housekeep()
        await asyncio.sleep(period_s)


def main() -> int:
    """Entry of a worker process."""
    descriptor, threads = int(sys.argv[1]), int(sys.argv[2])
    config = Config.model_validate(json.load(sys.stdin))
    configure_logging(config.log)
    listener = socket.socket(fileno=descriptor)
    Worker(config, threads).run(listener)
    return 0


if __name__ == "__main__":
    sys.exit(main())
