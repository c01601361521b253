"""The sets of vector instructions that compiled code chooses from, one after the other."""

from collections.abc import Callable, Iterator

import pytest

LEVELS = ["baseline", "avx2"]


def at_level(choose: Callable[[str], str], level: str) -> Iterator[str]:
    """What a fixture yields while `choose`, a module's `set_vector_level`, is told this level."""
    try:
        before = choose(level)
    except ValueError as error:
        pytest.skip(f"not on this machine: {error}")
    yield level
    choose(before)
