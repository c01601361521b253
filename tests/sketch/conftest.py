"""What several tests of the sketches need."""

from collections.abc import Iterator

import pytest

from fastserve_core.sketch.number import set_vector_level
from tests.levels import LEVELS, at_level


@pytest.fixture(params=LEVELS, scope="module")
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each set of instructions that this machine has, in turn."""
    yield from at_level(set_vector_level, request.param)
