"""What is written beside a published model: its bytes, what it takes and gives, where it came from."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fastserve.registry.names import is_file_name
from fastserve.types import Signature

MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
PROFILE_FILE = "profile.json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_PROFILE_BYTES = 64 * 1024 * 1024


def _plain(name: str) -> str:
    if not is_file_name(name):
        raise ValueError("not a plain file name")
    return name


FileName = Annotated[str, AfterValidator(_plain)]


class FileRecord(BaseModel):
    """One file of a version as it was published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class Manifest(BaseModel):
    """Everything that is known of one version; written once, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    model: str
    version: Annotated[int, Field(ge=1)]
    created_at: datetime
    files: dict[FileName, FileRecord]
    signature: Signature
    provenance: dict[str, Any] = Field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Give the file's content: JSON for people and machines."""
        return self.model_dump_json(indent=2).encode() + b"\n"
