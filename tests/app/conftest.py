"""A registry whose model is watched against a profile."""

from pathlib import Path

import pytest

from fastserve.monitoring import Profile
from fastserve.registry import Registry
from tests import models
from tests.app.watched import make_profile
from tests.registries import publish


@pytest.fixture(scope="module")
def profile() -> Profile:
    return make_profile()


@pytest.fixture
def registry(tmp_path: Path, profile: Profile) -> Registry:
    registry = Registry(tmp_path / "registry")
    publish(registry, "scaled", models.scaled(), profile=profile.to_bytes())
    return registry
