"""What all connections of a worker share."""

from collections.abc import Callable

from fastserve.frontends.http.options import HttpOptions
from fastserve_core.lane import Lane, Predict, Shared


class Environment:
    """Limits, routes and the coarse clock, which is the worker's to move."""

    def __init__(
        self, routes: dict[bytes, Lane | Predict], options: HttpOptions, count_code: Callable[[int], None]
    ) -> None:
        self.options = options
        self.count_code = count_code
        """Told the status of a request that no version answered."""
        routes = routes if options.fast_path else {}
        self.shared = Shared(routes, options.max_body_bytes, options.compress_min_bytes)
        self.stopping = False
        """Who connects from now on is told to go like all others: uvicorn tells those that it knows once."""
