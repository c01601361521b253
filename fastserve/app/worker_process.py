"""What the supervisor starts, with the configuration on standard input:
`python -m fastserve.app.worker_process FD THREADS at-once|when-loaded`.

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
    descriptor, threads, when = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    config = Config.model_validate(json.loads(sys.stdin.readline()))
    configure_logging(config.log)
    worker = Worker(config, threads)
    # A worker that replaces a dead one lets connections wait until it can answer them.
    worker.run(
        socket.socket(fileno=descriptor), lifeline=sys.stdin.fileno(), load_first=when == "when-loaded"
    )


if __name__ == "__main__":
    main()
