"""What a person may say about a model in its `model.yaml`."""

import difflib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastserve.errors import RegistryError
from fastserve.overriding import place_and_problem
from fastserve.registry import files

SETTINGS_FILE = "model.yaml"
MAX_SETTINGS_BYTES = 64 * 1024

_MAX_DEPTH = 16
_OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
_CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


class _Loader(yaml.SafeLoader):
    """SafeLoader that takes no key twice: YAML would let the second win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise ValueError(f"a key of the mapping from line {node.start_mark.line + 1} on is given twice")
        return found


class ModelSettings(BaseModel):
    """The optional, human-owned `model.yaml`; the overrides are checked by the rooms they belong to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(default="", description="What the model predicts, for a person.")
    owner: str = Field(default="", description="Whom to ask about it.")
    batching: dict[str, Any] = Field(default_factory=dict, description="Overrides of the batching options.")
    monitoring: dict[str, Any] = Field(
        default_factory=dict, description="Overrides of the monitoring options."
    )


def load_settings(path: Path, root: Path) -> ModelSettings:
    """Read the file if it is there; RegistryError names whatever in it is wrong, and one outside `root`."""
    where = f"{path.parent.name}/{path.name}"
    data = files.read_inside(path, root, MAX_SETTINGS_BYTES, where)
    if data is None:
        return ModelSettings()
    content = parse_yaml(data, where)
    if content is None:
        return ModelSettings()
    if not isinstance(content, dict):
        raise RegistryError(f"{where} must be a mapping of keys to values")
    return _validated(where, content)


def parse_yaml(data: bytes, label: str) -> Any:
    """Read a small document of plain values; None for an empty one.

    Raises
    ------
    RegistryError
        No YAML; aliases; a key twice; more than 16 levels.
    """
    try:
        return _parsed(data)
    except (yaml.YAMLError, ValueError) as error:
        raise RegistryError(f"{label} is not valid YAML: {' '.join(str(error).split())[:200]}") from error


def _parsed(data: bytes) -> Any:
    depth = 0
    for token in yaml.scan(data, Loader=yaml.SafeLoader):
        # An alias lets a few lines stand for billions of values; nobody needs one here.
        if isinstance(token, yaml.AliasToken):
            raise ValueError("aliases (*name) are not allowed")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > _MAX_DEPTH:  # the parser takes quadratic time over depth
            raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")
    try:
        return _Loader(data).get_single_data()
    except (OverflowError, LookupError, AttributeError, TypeError) as error:  # of a tag's own constructor
        raise ValueError(f"a value is not what its tag says: {error}") from error


def _validated(where: str, content: dict[Any, Any]) -> ModelSettings:
    known = list(ModelSettings.model_fields)
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"the keys are {', '.join(known)}"
            raise RegistryError(f"{where}: unknown key '{str(key)[:64]}'; {hint}")
    try:
        # A section with every line commented out reads as null and means its defaults.
        return ModelSettings.model_validate({k: v for k, v in content.items() if v is not None})
    except ValidationError as error:
        raise RegistryError(f"{where}: {place_and_problem(error)}") from error
