"""The control plane's process: one event loop, an address for people and a Unix socket for the workers."""

import asyncio
import logging
import os
import signal
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

from starlette.applications import Starlette

from fastserve.controlplane.app import create_app
from fastserve.controlplane.connection import Connection
from fastserve.controlplane.database import only_one, open_database
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.service import Control
from fastserve.errors import ConfigError
from fastserve.frontends.http.server import QuietServer, loop_factory

log = logging.getLogger("fastserve.controlplane")

DATABASE_FILE = "control.db"
_DRAIN_S = 2
_KEEP_ALIVE_S = 75
_BACKLOG = 128


def run(
    options: ControlOptions,
    registry: Path,
    listener: socket.socket | None,
    ingest: Path | None,
    lifeline: int | None,
    stop: Sequence[signal.Signals],
) -> None:
    """Work until a signal asks to stop, or until whoever started this process is gone.

    Parameters
    ----------
    registry
        Its aliases are shown; without `options.database`, the database is beside it.
    listener
        A bound TCP socket, or None to have none.
    ingest
        Path of the Unix socket for workers on this machine, or None. One that a process left behind is
        replaced.
    lifeline
        A descriptor that becomes readable when the process that started this one is gone.
    stop
        The signals that do.

    Raises
    ------
    ConfigError
        The database or the socket cannot be used.
    """
    url = database_url(options, registry)
    with only_one(url):
        control = Control(options, registry, open_database(url))
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(control, listener, ingest, lifeline, stop))


def database_url(options: ControlOptions, registry: Path) -> str:
    """Give the database's URL; the default's directory is made, for this user only.

    Raises
    ------
    ConfigError
    """
    if options.database is not None:
        return options.database.get_secret_value()
    registry = registry.resolve()
    directory = registry.with_name(f"{registry.name}.control")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"{directory} cannot be made ({error.strerror}): give control.database a place"
        ) from error
    if "?" in str(directory):
        raise ConfigError(f"'{directory}' cannot be written in a URL: give control.database a place")
    return f"sqlite:///{directory / DATABASE_FILE}"


async def _serve(
    control: Control,
    listener: socket.socket | None,
    ingest: Path | None,
    lifeline: int | None,
    stop: Sequence[signal.Signals],
) -> None:
    secret = control.options.token
    token = "" if secret is None else secret.get_secret_value()
    with _unix_listener(ingest) as private:
        servers = []
        if listener is not None:
            local = ip_address(listener.getsockname()[0]).is_loopback
            servers.append(_Server(create_app(control, token, local), listener))
        if private is not None:
            servers.append(_Server(create_app(control, None), private))
        _stop_on_signals(servers, lifeline, stop)
        background = asyncio.create_task(control.run())
        background.add_done_callback(lambda _: _stop(servers))
        try:
            await asyncio.gather(*(server.work() for server in servers))
        finally:
            background.cancel()
            control.close()
        with suppress(asyncio.CancelledError):
            await background


class _Server(QuietServer):
    """Serves one application on one socket; signals are the process's matter."""

    def __init__(self, app: Starlette, listener: socket.socket) -> None:
        super().__init__(
            app,
            http=Connection,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_DRAIN_S,
        )
        self._listener = listener

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def work(self) -> None:
        """Serve until told to stop."""
        await self.serve(sockets=[self._listener])


def _stop_on_signals(servers: list[_Server], lifeline: int | None, stop: Sequence[signal.Signals]) -> None:
    loop = asyncio.get_running_loop()
    for number in stop:
        loop.add_signal_handler(number, _stop, servers)

    def on_parent_gone(descriptor: int) -> None:
        loop.remove_reader(descriptor)
        log.warning("the process that started the control plane is gone; it stops")
        _stop(servers)

    if lifeline is not None:
        loop.add_reader(lifeline, on_parent_gone, lifeline)


def _stop(servers: list[_Server]) -> None:
    for server in servers:
        server.stop()


@contextmanager
def _unix_listener(path: Path | None) -> Iterator[socket.socket | None]:
    """Listen on a Unix socket that only this user may connect to; its file goes at the end."""
    if path is None:
        yield None
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as local:
        path.parent.mkdir(mode=0o700, exist_ok=True)  # what cleans /tmp may have taken it away
        mask = os.umask(0o177)
        try:
            _remove_stale(path)
            local.bind(str(path))
        except OSError as error:
            raise ConfigError(f"cannot listen on the socket {path}: {error.strerror or error}") from error
        finally:
            os.umask(mask)
        local.listen(_BACKLOG)
        local.setblocking(False)
        try:
            yield local
        finally:
            path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove the socket that a process left behind; ConfigError when one still answers on it."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"{path} is there already, and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise ConfigError(f"another control plane is running: it answers on {path}")
