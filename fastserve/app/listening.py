"""The sockets that a server or a control plane listens on, bound before any other process is there."""

import errno
import socket
import struct

from fastserve.errors import ConfigError


def bind(host: str, port: int, backlog: int, count: int, flag: str = "--port") -> list[socket.socket]:
    """Bind one listening socket per worker to the same address; the kernel spreads connections over them.

    The parent keeps them open, so connections that wait when a worker dies are there for the one that
    replaces it.

    Raises
    ------
    ConfigError
        When the address cannot be had; `flag` is what changes it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With SO_REUSEPORT a second server on this port would go unnoticed: the first bind is without it.
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            # Not port 0: a socket that has stopped listening keeps only a port that it was given by name.
            address = probe.getsockname()
        listeners: list[socket.socket] = []
        for _ in range(count):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
            listener.listen(backlog)
            listeners.append(listener)
    except socket.gaierror as error:
        raise ConfigError(f"cannot find the host '{host}': {error.strerror}") from error
    except UnicodeError as error:  # a part of it is empty, or longer than 63 characters
        raise ConfigError(f"cannot find the host '{host[:64]}': it is no name of one") from error
    except OSError as error:
        reason = error.strerror or error
        if error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(f"cannot listen on {host}: it is no address of this machine") from error
        raise ConfigError(f"cannot listen on {host} port {port}: {reason} ({flag} takes another)") from error
    return listeners


def origin(listener: socket.socket) -> str:
    """Give the URL of what listens on a socket; IPv6 addresses stand in brackets."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def waiting(listener: socket.socket) -> int:
    """Count the connections that the kernel has let in and nobody has accepted."""
    information = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int(struct.unpack_from("I", information, 24)[0])  # `tcpi_unacked`, which is that of a listener
