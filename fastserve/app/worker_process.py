"""What the supervisor starts: `python -m fastserve.app.worker_process FD THREADS`, configuration on stdin.

A module of its own, which nothing imports: one that the package had imported already would be run twice.
"""

import json
import socket
import sys

from fastserve.app.worker import Worker
from fastserve.config import Config
from fastserve.log import configure_logging


def main() -> None:
    """Serve on the inherited socket FD until told to stop."""
    descriptor, threads = int(sys.argv[1]), int(sys.argv[2])
    config = Config.model_validate(json.loads(sys.stdin.readline()))
    configure_logging(config.log)
    Worker(config, threads).run(socket.socket(fileno=descriptor), lifeline=sys.stdin.fileno())


if __name__ == "__main__":
    main()
