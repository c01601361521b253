"""model.yaml: what a person may write, and what the answer is when it is wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve.errors import RegistryError
from fastserve.registry import ModelSettings, Registry
from fastserve.registry.settings import parse_yaml


def write(registry: Registry, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (registry.path / "m/model.yaml").write_bytes(data)


def test_without_a_file(published: Registry) -> None:
    assert published.settings("m") == ModelSettings()


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file(published: Registry, content: str) -> None:
    write(published, content)
    assert published.settings("m") == ModelSettings()


def test_a_section_with_every_line_commented_out(published: Registry) -> None:
    write(published, "owner: ops\nbatching:\n#  max_batch_rows: 64\nmonitoring:\n")
    assert published.settings("m") == ModelSettings(owner="ops")


def test_all_keys(published: Registry) -> None:
    write(
        published,
        "description: late flights\nowner: ops\nbatching: {max_batch_rows: 64}\nmonitoring: {bins: 16}\n",
    )
    settings = published.settings("m")
    assert settings.description == "late flights"
    assert settings.owner == "ops"
    assert settings.batching == {"max_batch_rows": 64}
    assert settings.monitoring == {"bins": 16}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("discription: x", "m/model.yaml: unknown key 'discription'; did you mean 'description'?"),
        ("zzz: 1", "unknown key 'zzz'; the keys are description, owner, batching, monitoring"),
        ("1: 2", "unknown key '1'"),
        ("batching: 3", "m/model.yaml: batching: Input should be a valid dictionary"),
        ("description: [a]", "description: Input should be a valid string"),
        ("- a\n- b", "must be a mapping"),
        ("just text", "must be a mapping"),
        ("a: b: c", "is not valid YAML"),
        (b"\xff\xfe\x00", "is not valid YAML"),
        ("a: \x01", "is not valid YAML"),
        ("description: !!python/object/apply:os.system [id]", "is not valid YAML"),
        (
            "owner: x\nbatching: {x: 1}\nbatching: {y: 1}",
            "is not valid YAML: a key of the mapping from line 1 on is given twice",
        ),
        ("batching:\n  x: 1\n  x: 2", "a key of the mapping from line 2 on is given twice"),
        ("batching: &a {x: 1}\nmonitoring: *a", "aliases"),
        ("[" * 5_000, "is not valid YAML"),
        ("description: " + "x" * 70_000, "is larger than 65536 bytes"),
    ],
)
def test_what_is_wrong_is_named(published: Registry, content: str | bytes, message: str) -> None:
    write(published, content)
    with pytest.raises(RegistryError) as caught:
        published.settings("m")
    assert message in str(caught.value)
    assert str(published.path) not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sixteen_levels_and_any_number_of_lists() -> None:
    assert parse_yaml(b"[" * 16 + b"]" * 16, "it")
    assert parse_yaml(b"[" + b"[1], " * 40 + b"]", "it") == [[1]] * 40
    with pytest.raises(RegistryError, match="it is not valid YAML: it is nested deeper than 16 levels"):
        parse_yaml(b"[" * 17 + b"]" * 17, "it")


def test_a_link_that_leaves_the_registry(published: Registry, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text("owner: someone\n")
    (published.path / "m/model.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    with pytest.raises(RegistryError, match=r"m/model.yaml is not a regular file inside the registry"):
        published.settings("m")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_no_file_of_that_name(published: Registry, make: Callable[[Path], None]) -> None:
    """A pipe, for one, would keep whoever reads it waiting for ever."""
    make(published.path / "m/model.yaml")
    with pytest.raises(RegistryError, match=r"m/model.yaml is not a regular file inside the registry"):
        published.settings("m")


@pytest.mark.parametrize(
    "value", ["1" + ":0" * 250 + ".5", '!!int ""', '!!float ""', "!!bool perhaps", "!!timestamp x"]
)
def test_a_scalar_that_its_constructor_cannot_take(published: Registry, value: str) -> None:
    write(published, f"description: {value}\n")
    with pytest.raises(RegistryError, match=r"m/model.yaml is not valid YAML"):
        published.settings("m")
