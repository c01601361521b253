"""The parent: starts and watches workers and control plane, stops them in order."""

import gc
import logging
import os
import select
import signal
import socket
import time
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import FrameType

from fastserve.app.child import STOP, STOP_LAST, bury_orphans, end_in_order, outlast_others, take_stop_signals
from fastserve.app.limits import raise_descriptor_limit
from fastserve.app.listening import bind, origin
from fastserve.app.nursery import Nursery
from fastserve.app.slot import Slot
from fastserve.app.watching import Post
from fastserve.app.wiring import load_all, open_registry
from fastserve.config import Config
from fastserve.errors import ConfigError, FastserveError, RegistryError
from fastserve.lifecycle import Ahead
from fastserve.log import configure_logging
from fastserve.registry import Registry
from fastserve.runtime import available_cores, can_be_forked, require_runtime, threads_per_worker
from fastserve.tracing import require_tracing

log = logging.getLogger("fastserve.app")

_POLL_S = 0.2
_CONTROL_STOP_S = 9.0
"""Longer than the control plane takes to end where its database does not answer."""
_KILL_S = 5.0
_TOLD = 20
_CONTROL_DELAY_S = 10.0
"""The control plane starts when the workers have loaded their models, or so much later than they."""
_SOCKET = "statistics.sock"
_LONGEST_PLACE = 107 - len(f"/fastserve-12345678/{_SOCKET}")
"""Bytes; Linux allows 107 for the path of a socket."""


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code.

    Until there is something to clear up, these signals are the caller's.

    Raises
    ------
    ConfigError, RegistryError, RuntimeMissing
        Before anything is started.
    SystemExit
        Told to stop.
    """
    configure_logging(config.log)
    raise_descriptor_limit()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whoever started this process may ignore how children end
    take_stop_signals()
    require_runtime()
    require_tracing(config.tracing)
    if not config.registry_dir().is_dir():
        raise RegistryError(f"the registry '{config.registry_dir()}' is not a directory")
    registry = open_registry(config)  # and read the keys: no worker could do without
    server = config.server
    workers = server.workers
    threads = config.runtime.intra_op_threads or threads_per_worker(workers, available_cores())
    listeners = bind(server.host, server.port, server.backlog, workers)
    control = None
    if server.control_port and config.monitoring.control_url is None:
        _check_database(config)
        control = bind(config.control.host, server.control_port, server.backlog, 1, "--control-port")[0]
    where = origin(listeners[0])
    log.info("serving registry %s on %s with %d worker(s)", config.registry_dir(), where, workers)
    _tell_what_is_passed_over(registry)
    if alone := workers == 1 and control is None:
        import_worker()
    end_in_order()
    if alone:
        from fastserve.app.worker import Worker

        port = listeners[0].getsockname()[1]
        post = Post(0, None, port) if config.monitoring.control_url else None
        Worker(config, threads, post).run(listeners[0])
        return 0
    with nullcontext() if control is None else _own_directory() as directory:
        ingest = None if directory is None else Path(directory, _SOCKET)
        return Supervisor(config, threads, listeners, control, ingest).run()


def _own_directory() -> TemporaryDirectory[str]:
    """Make a directory for this server's sockets."""
    try:
        if len(os.fsencode(place := gettempdir())) > _LONGEST_PLACE:
            raise ConfigError(f"the path {place} is too long for sockets: set TMPDIR to a shorter one")
        return TemporaryDirectory(prefix="fastserve-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigError(
            f"there is no place for the sockets of workers and control plane ({error.strerror}): "
            "set TMPDIR to a directory that can be written to"
        ) from error


def _tell_what_is_passed_over(registry: Registry) -> None:
    """Nobody who copied a model to the wrong place should have to guess why it is not there."""
    found = registry.passed_over()
    with suppress(FastserveError):  # a model that cannot be read is told by the workers
        found += [(f"{model}/{version}", problem) for model, version, problem in registry.damaged()]
    for place, problem in found[:_TOLD]:
        log.warning("%r in the registry is not served: %s", place, problem)
    if len(found) > _TOLD:
        log.warning("and %d more, which `fastserve models verify` names", len(found) - _TOLD)


def _check_database(config: Config) -> None:
    """Refuse a database that no control plane can work with."""
    if config.control.database is not None:
        from fastserve.controlplane.database import check_url

        check_url(config.control.database.get_secret_value())


def import_worker() -> None:
    """Import what only workers need: before they are forked, but so that no load waits for it."""
    import fastserve.app.worker  # noqa: F401
    from fastserve.frontends.http.server import loop_factory

    loop_factory()


class Supervisor:
    """Keeps the workers and the control plane alive; what keeps dying is started ever more slowly.

    Parameters
    ----------
    control
        The socket of the control plane; None: there is none.
    ingest
        Where the workers' statistics go through a socket, in a private directory; None without a control
        plane.
    """

    def __init__(
        self,
        config: Config,
        threads: int,
        listeners: list[socket.socket],
        control: socket.socket | None,
        ingest: Path | None,
    ) -> None:
        self._config = config
        self._threads = threads
        self._workers = [
            Slot(f"worker {number}", listener, partial(self._work, number))
            for number, listener in enumerate(listeners)
        ]
        self._control = (
            None if control is None else Slot("the control plane", control, self._gather, STOP_LAST)
        )
        self._ingest = ingest
        self._pid = os.getpid()
        self._settled = Sign()
        self._nursery: Nursery | None = None
        self._ahead: Ahead | None = None
        """What the workers are born with: set in the process that they are forked from, not in this one."""
        self._asked = Sign()
        """A signal has come that asks to stop."""

    def run(self) -> int:
        """Run until a signal asks to stop."""
        for number in STOP:
            signal.signal(number, self._on_signal)
        # What is imported by now is shared with the workers, as long as no collection writes to it.
        gc.freeze()
        gc.enable()
        self._nursery = self._open_nursery()
        import_worker()
        control_at_s = time.monotonic() + _CONTROL_DELAY_S
        try:
            while not self._asked.given:
                now_s = time.monotonic()
                if self._nursery is not None and self._nursery.done(now_s):
                    self._nursery = None
                if self._nursery is None:
                    for slot in self._workers:
                        slot.tend(now_s)
                    bury_orphans([slot.process.pid for slot in self._slots if slot.process is not None])
                # Not while the first models load: these need the cores more.
                settled = self._settled.given >= len(self._workers)
                if self._control is not None and (settled or now_s >= control_at_s):
                    self._control.tend(now_s)
                self._asked.wait(_POLL_S)
        finally:
            if self._nursery is not None:
                self._nursery.end()
            self._stop()
        return 0

    def _open_nursery(self) -> Nursery | None:
        """Have models loaded once for all workers, where that is wished for and possible."""
        config, load_s = self._config, self._config.server.load_ahead_s
        possible = len(self._workers) > 1 and can_be_forked(config.runtime, self._threads)
        if not load_s or not possible:
            return None
        log.info("models are loaded once for all workers; connections wait")
        # One load may take as long as its test may.
        give_up_s = time.monotonic() + load_s + config.lifecycle.probe_timeout_s
        return Nursery.open(self._workers, lambda: self._load_ahead(load_s), give_up_s)

    def _load_ahead(self, load_s: float) -> None:
        """Load what the workers will be born with: this runs in the process that they are forked from."""
        began_s = time.monotonic()
        config = self._config
        gc.disable()  # as when workers load: see Lifecycle.start
        self._ahead = load_all(config, self._threads, began_s + load_s, meanwhile=import_worker)
        log.info(
            "%d version(s) are loaded after %.1f s; the workers share them",
            len(self._ahead.loaded),
            time.monotonic() - began_s,
        )

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked.give()

    @property
    def _slots(self) -> list[Slot]:
        return [*self._workers, *([] if self._control is None else [self._control])]

    def _work(self, number: int, slot: Slot, lifeline: int) -> None:
        """Be a worker: this runs in the child."""
        from fastserve.app.worker import Worker

        self._let_go(slot)
        watched = self._control is not None or self._config.monitoring.control_url is not None
        post = Post(number, self._ingest, slot.listener.getsockname()[1]) if watched else None
        worker = Worker(self._config, self._threads, post, self._settled.give, self._ahead, slot.board)
        end_in_order()
        try:
            # A worker that replaces a dead one lets connections wait until it can answer them.
            worker.run(slot.listener, lifeline, load_first=slot.deaths > 0)
        finally:
            self._clear_away()

    def _gather(self, slot: Slot, lifeline: int) -> None:
        """Be the control plane: this runs in the child."""
        outlast_others()
        self._let_go(slot)
        from fastserve.controlplane.process import run

        config = self._config
        try:
            run(config.control, config.registry_dir(), slot.listener, self._ingest, lifeline, (slot.stop,))
        except FastserveError as error:
            log.error("the control plane cannot work: %s", error)
            raise SystemExit(1) from error
        self._clear_away()

    def _clear_away(self) -> None:
        """In a child, at its end: remove the directory that a supervisor which was killed has left."""
        if self._ingest is not None and os.getppid() != self._pid:
            with suppress(OSError):  # a sibling that is still there needs it
                self._ingest.parent.rmdir()

    def _let_go(self, slot: Slot) -> None:
        """In a child: close what belongs to its siblings."""
        if self._nursery is not None:
            self._nursery.disown()
        for other in self._slots:
            if other is not slot:
                other.listener.close()
            if other.process is not None:
                other.process.disown()

    def _stop(self) -> None:
        log.info("stopping: what is in flight is answered first")
        give_up_s = time.monotonic() + self._config.server.drain_s + 5.0
        # The workers' last statistics are taken in before the control plane goes.
        _end(self._workers, give_up_s)
        if self._control is not None:
            _end([self._control], time.monotonic() + _CONTROL_STOP_S)


def _end(slots: list[Slot], give_up_s: float) -> None:
    """Ask processes to stop, and kill those that have not in time."""
    running = [slot.process for slot in slots if slot.process is not None]
    for slot in slots:
        if slot.process is not None:
            slot.process.send(slot.stop)
    # With the processes' own gone too, who comes now is refused instead of waiting for nobody.
    for slot in slots:
        slot.listener.close()
    for process in running:
        if not process.wait(max(0.1, give_up_s - time.monotonic())):
            log.error("process %d did not stop in time and is killed", process.pid)
            process.send(signal.SIGKILL)
            process.wait(_KILL_S)


class Sign:
    """A sign that children give and the parent counts."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._given = 0

    def give(self) -> None:
        """Give it; any process."""
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self._write, b".")

    def wait(self, limit_s: float) -> None:
        """Wait until it is given, for so long at most; the parent."""
        given = select.poll()
        given.register(self._read, select.POLLIN)
        given.poll(limit_s * 1_000)

    @property
    def given(self) -> int:
        """How often it was given; the parent asks."""
        with suppress(BlockingIOError):
            self._given += len(os.read(self._read, 4_096))
        return self._given
