"""What holds for all tests."""

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's business.
settings.register_profile("fastserve", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fastserve")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What compiles for minutes begins first: at the end everybody would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_packaging.py")
