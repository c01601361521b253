"""The parent of the workers: binds the sockets, starts and watches the processes, stops them in order."""

import gc
import logging
import signal
import socket
import time
from types import FrameType

from fastserve.app.child import Child
from fastserve.app.worker import Worker
from fastserve.config import Config
from fastserve.errors import ConfigError, RegistryError
from fastserve.log import configure_logging
from fastserve.runtime import threads_per_worker
from fastserve.runtime.require import require_runtime

log = logging.getLogger("fastserve.app")

_POLL_S = 0.2
_BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
_STEADY_S = 60.0
_KILL_S = 5.0


def serve(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; the process's exit code.

    Raises
    ------
    ConfigError, RegistryError, RuntimeMissing
        Before anything is started.
    """
    configure_logging(config.log)
    require_runtime()
    if not config.registry_dir().is_dir():
        raise RegistryError(f"the registry '{config.registry_dir()}' is not a directory")
    workers = config.server.workers
    threads = config.runtime.intra_op_threads or threads_per_worker(workers)
    listeners = bind(config.server.host, config.server.port, config.server.backlog, workers)
    host, port = listeners[0].getsockname()[:2]
    log.info(
        "serving registry %s on http://%s:%d with %d worker(s)", config.registry_dir(), host, port, workers
    )
    if workers == 1:
        Worker(config, threads).run(listeners[0])
        return 0
    return Supervisor(config, threads, listeners).run()


def bind(host: str, port: int, backlog: int, count: int) -> list[socket.socket]:
    """Bind one listening socket per worker to the same address; the kernel spreads connections over them.

    The parent keeps them open, so connections that wait when a worker dies are there for the one that
    replaces it.

    Raises
    ------
    ConfigError
        When the address cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With SO_REUSEPORT a second server on this port would go unnoticed: the first bind is without it.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
        listeners: list[socket.socket] = []
        for _ in range(count):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(listeners[0].getsockname() if listeners else address)
            listener.listen(backlog)
            listener.setblocking(False)
            listeners.append(listener)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}") from error
    return listeners


class Slot:
    """One worker's place: its socket, its process, and how often it died lately."""

    def __init__(self, number: int, listener: socket.socket) -> None:
        self.number = number
        self.listener = listener
        self.process: Child | None = None
        self.started_s = 0.0
        self.deaths = 0
        self.start_at_s = 0.0


class Supervisor:
    """Keeps `workers` processes alive; a worker that keeps dying is started ever more slowly."""

    def __init__(self, config: Config, threads: int, listeners: list[socket.socket]) -> None:
        self._config = config
        self._threads = threads
        self._slots = [Slot(number, listener) for number, listener in enumerate(listeners)]
        self._stopping = False

    def run(self) -> int:
        """Run until a signal asks to stop."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        # What is imported by now is shared with the workers, as long as no collection writes to it.
        gc.freeze()
        gc.enable()
        try:
            while not self._stopping:
                for slot in self._slots:
                    self._tend(slot)
                time.sleep(_POLL_S)
        finally:
            self._stop()
        return 0

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _tend(self, slot: Slot) -> None:
        now_s = time.monotonic()
        if slot.process is None:
            if now_s >= slot.start_at_s:
                self._start(slot, now_s)
        elif slot.process.poll() is not None:
            slot.deaths = 1 if now_s - slot.started_s > _STEADY_S else slot.deaths + 1
            delay_s = _BACKOFF_S[min(slot.deaths - 1, len(_BACKOFF_S) - 1)]
            log.error(
                "worker %d ended with code %d; starting it again in %.0f s",
                slot.number,
                slot.process.returncode,
                delay_s,
            )
            slot.process = None
            slot.start_at_s = now_s + delay_s

    def _start(self, slot: Slot, now_s: float) -> None:
        slot.process = Child(lambda lifeline: self._work(slot, lifeline))
        slot.started_s = now_s

    def _work(self, slot: Slot, lifeline: int) -> None:
        """Be the worker of a slot: this runs in the child."""
        for other in self._slots:
            if other is not slot:
                other.listener.close()
            if other.process is not None:
                other.process.disown()
        # A worker that replaces a dead one lets connections wait until it can answer them.
        Worker(self._config, self._threads).run(slot.listener, lifeline, load_first=slot.deaths > 0)

    def _stop(self) -> None:
        log.info("stopping: what is in flight is answered first")
        running = [slot.process for slot in self._slots if slot.process is not None]
        for process in running:
            process.send(signal.SIGTERM)
        # With the workers' own gone too, who comes now is refused instead of waiting for nobody.
        for slot in self._slots:
            slot.listener.close()
        give_up_s = time.monotonic() + self._config.server.drain_s + 5.0
        for process in running:
            if not process.wait(max(0.1, give_up_s - time.monotonic())):
                log.error("worker process %d did not stop in time and is killed", process.pid)
                process.send(signal.SIGKILL)
                process.wait(_KILL_S)
