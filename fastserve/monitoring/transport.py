"""One connection to the control plane: HTTP over a Unix socket or TCP. Imported when first used."""

import http.client
import io
import socket
from pathlib import Path
from urllib.parse import urlsplit

import orjson

SNAPSHOT_PATH = "/v2/control/snapshots"

_TIMEOUT_S = 15.0
"""Of a piece, or of the answer: longer than a control plane waits for its database before it says so."""
_MAX_ANSWER_BYTES = 2**20


class Link:
    """Posts snapshots over a connection that is opened when needed and kept.

    Parameters
    ----------
    socket_path
        The control plane of this server; None: the one at `url`.
    url, token
        A control plane on another machine.
    """

    def __init__(self, socket_path: Path | None, url: str = "", token: str = "") -> None:
        self._socket_path = socket_path
        self._url = url
        self._headers = {"content-type": "application/octet-stream"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes) -> tuple[int, dict[str, object]]:
        """Send a snapshot; status and JSON of the answer.

        Raises
        ------
        OSError
            There is no control plane, or the connection broke.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
            # Read in pieces: the time-out is one piece's, however long a slow line takes for all of them.
            headers = {**self._headers, "content-length": str(len(body))}
            self._connection.request("POST", SNAPSHOT_PATH, io.BytesIO(body), headers)
            response = self._connection.getresponse()
            data = response.read(_MAX_ANSWER_BYTES)
        except (http.client.HTTPException, ValueError) as error:  # ValueError: no host has such a name
            self.close()
            raise OSError(str(error)) from error
        except OSError:
            self.close()
            raise
        if not response.isclosed():
            self.close()
        try:
            answer = orjson.loads(data)
        except ValueError:
            answer = {}
        return response.status, answer if isinstance(answer, dict) else {}

    def close(self) -> None:
        """Close the connection; another `post` opens one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._socket_path is not None:
            return _UnixConnection(self._socket_path)
        parts = urlsplit(self._url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.netloc, timeout=_TIMEOUT_S)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = str(path)

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
