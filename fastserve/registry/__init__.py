"""A directory of immutable model versions: what there is, whether it is whole, and how a new one gets in."""

from fastserve.registry.manifest import FileRecord, Manifest
from fastserve.registry.names import check_alias, check_model, is_model, parse_version
from fastserve.registry.settings import ModelSettings
from fastserve.registry.store import Registry, VersionRecord

__all__ = [
    "FileRecord",
    "Manifest",
    "ModelSettings",
    "Registry",
    "VersionRecord",
    "check_alias",
    "check_model",
    "is_model",
    "parse_version",
]
