"""uvicorn's server, asleep while there is nothing to do, and the event loop it runs on."""

import asyncio
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_TICK_S = 1.0
"""How often the Date of answers changes."""


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """Give uvloop's event loop; None, for the standard one, where uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


class QuietServer(uvicorn.Server):
    """A server that is told to stop; uvicorn's own looks ten times a second whether it should.

    Each look wakes the process and costs 50 to 200 µs: a few servers on one core make a percent of it.
    """

    def __init__(self, app: ASGIApp, **settings: Any) -> None:
        """Serve `app`; `settings` are those of `uvicorn.Config` in which servers differ."""
        super().__init__(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                **settings,
            )
        )
        self._told = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Stop in order: no new requests, those in flight are answered. Any thread, any signal handler."""
        self.should_exit = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM or SIGINT has come."""
        super().handle_exit(sig, frame)
        self.stop()

    async def main_loop(self) -> None:
        """Wait until told to stop."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._told.wait()
