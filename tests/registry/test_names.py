"""Names that could be paths, options, endpoints or tricks are refused everywhere."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.errors import ModelNotFound, RegistryError, VersionNotFound
from fastserve.registry import Registry, check_alias, check_model, is_model, parse_version
from tests.registry.conftest import glance

GOOD = ["a", "A9", "flights", "fraud-v2", "a.b_c-D", "9", "-x", "_", "a" * 128, "Stats", "stats2"]
HOSTILE = [
    "",
    ".",
    "..",
    ".hidden",
    ".staging-1",
    "../up",
    "a/b",
    "/etc",
    "a\\b",
    "a b",
    "a\n",
    "a\x00",
    "a\x1b[31m",
    "naïve",
    "модель",
    "\uff41",
    "a" * 129,
    "%2e%2e",
    "a:b",
    "a*",
    "~",
    "$HOME",
    "stats",
]


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name: str) -> None:
    assert is_model(name)
    check_model(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(published: Registry, onnx_file: Path, name: str) -> None:
    before = sorted(published.path.parent.rglob("*"))
    assert not is_model(name)
    with pytest.raises(RegistryError) as caught:
        published.publish(name, onnx_file, inspect=glance)
    assert str(caught.value).isprintable()
    for ask in (published.versions, published.settings, published.fingerprint):
        with pytest.raises(ModelNotFound):
            ask(name)
    for ask_of_version in (published.describe, published.is_complete, published.profile_stamp):
        with pytest.raises(ModelNotFound):
            ask_of_version(name, 1)
    assert sorted(published.path.parent.rglob("*")) == before


@given(st.text(max_size=140))
def test_a_name_is_never_more_than_one_step_down(name: str) -> None:
    if is_model(name):
        assert Path("/registry", name).parent == Path("/registry")
        assert name.isascii()
        assert not name.startswith(".")


def test_the_message_says_which_rule() -> None:
    with pytest.raises(RegistryError, match=r"'stats': /v2/models/stats is an endpoint"):
        check_model("stats")
    with pytest.raises(RegistryError, match=r"'../up' is not a model name: use 1 to 128 of the letters"):
        check_model("../up")


@pytest.mark.parametrize("text", ["1", "9", "10", "20260101120000", "9" * 18])
def test_versions(text: str) -> None:
    assert parse_version(text) == int(text)


@pytest.mark.parametrize(
    "text", ["", "0", "01", "007", "-1", "+1", "1.0", "1e3", " 1", "1\n", "v1", "१", "²", "9" * 19]
)
def test_what_is_no_version(text: str) -> None:
    assert parse_version(text) is None


@pytest.mark.parametrize("version", [0, -1, 2, 10**18])
def test_a_version_that_is_not_there(published: Registry, version: int) -> None:
    with pytest.raises(VersionNotFound):
        published.describe("m", version)


def test_aliases() -> None:
    check_alias("champion")
    check_alias("v1.2.3")
    for name in ("3", "..", "a/b", ""):
        with pytest.raises(RegistryError):
            check_alias(name)
