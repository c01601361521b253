"""A directory of immutable model versions: what there is, whether it is whole, what is wished for."""

from fastserve.registry.chain import AuditLine
from fastserve.registry.collecting import Removed
from fastserve.registry.holding import Hold
from fastserve.registry.manifest import FileRecord, Manifest
from fastserve.registry.names import check_alias, check_model, is_model, parse_version
from fastserve.registry.rules import FileRules
from fastserve.registry.settings import ModelSettings
from fastserve.registry.signing import SIGNATURE_FILE, SigningKey, TrustedKeys
from fastserve.registry.state import ModelState
from fastserve.registry.store import Registry, VersionRecord

__all__ = [
    "SIGNATURE_FILE",
    "AuditLine",
    "FileRecord",
    "FileRules",
    "Hold",
    "Manifest",
    "ModelSettings",
    "ModelState",
    "Registry",
    "Removed",
    "SigningKey",
    "TrustedKeys",
    "VersionRecord",
    "check_alias",
    "check_model",
    "is_model",
    "parse_version",
]
