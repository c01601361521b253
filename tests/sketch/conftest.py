"""What several tests of the sketches need."""

from collections.abc import Iterator

import pytest

from fastserve_core.sketch.number import set_vector_level


@pytest.fixture(params=["baseline", "avx2"], scope="module")
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each set of instructions that this machine has, in turn."""
    try:
        before = set_vector_level(request.param)
    except ValueError as error:
        pytest.skip(f"not on this machine: {error}")
    yield request.param
    set_vector_level(before)
