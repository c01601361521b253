"""What the system allows a server."""

import resource
from contextlib import suppress

_ENOUGH = 2**20


def raise_descriptor_limit() -> None:
    """Let this process and its children have as many descriptors as they may.

    The limit that shells and init systems begin with, 1,024, is for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft < wanted:
        with suppress(OSError, ValueError):  # macOS: more than the system itself allows
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
