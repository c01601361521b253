"""The files under configs/ are current, complete and load."""

import re
from pathlib import Path

import pytest

from fastserve.config import Config, describe, load, reference

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_the_reference_file_is_current() -> None:
    assert (CONFIGS / "server.yaml").read_text() == reference.render(), (
        "run `make configs` and commit the result"
    )


def test_the_reference_file_holds_the_defaults() -> None:
    config = load(CONFIGS / "server.yaml")
    assert config.model_copy(update={"registry": None}) == Config()
    assert config.model_fields_set == set(Config.model_fields)
    for section in config.model_fields_set - {"registry"}:
        options = getattr(config, section)
        assert options.model_fields_set == set(type(options).model_fields), section


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_loads(path: Path) -> None:
    assert load(path).registry_dir() == Path("registry")


def test_every_setting_says_what_it_is_and_takes() -> None:
    for path, field in describe.settings():
        if describe.section_of(field) is None:
            assert (field.description or "").endswith("."), path
            assert "another value" not in describe.allowed(path), path
            assert re.search(r"\[default: (?!None|\(\))", describe.help_text(path)), path


def test_durations_and_sizes_have_their_unit_in_the_name() -> None:
    units = (
        *("_s", "_ms", "_us", "_h", "_d", "_minutes", "_bytes", "_rows", "_depth", "_buckets", "_threads"),
        *("_runs", "_features", "_windows", "_id", "port"),
    )
    counts = {"workers", "backlog", "versions"}
    for path, field in describe.settings():
        if field.annotation in (int, float):
            assert path[-1].endswith(units) or path[-1] in counts, ".".join(path)
