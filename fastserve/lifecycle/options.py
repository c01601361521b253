"""Settings of the lifecycle room; the only list of them."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from fastserve.lifecycle.policy import Preference

if TYPE_CHECKING:
    from fastserve.registry import FileRules


class LifecycleOptions(BaseModel):
    """Which versions are loaded, how carefully, and what becomes of those that fail."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    versions: int = Field(
        default=8,
        ge=1,
        le=1_000,
        description="How many of the newest versions of a model are served, besides those with an alias.",
    )
    policy: Preference = Field(
        default="auto",
        description="availability: load, then drain the old one; resource: drain first; "
        "auto: availability unless both do not fit in memory.",
    )
    memory_bytes: int = Field(
        default=0,
        ge=0,
        le=2**50,
        description="Memory that `auto` may fill, in bytes per worker; 0 = what is free.",
    )
    poll_s: float = Field(
        default=5.0,
        ge=0.1,
        le=3_600.0,
        description="Period of the full scan for file systems that announce no changes, in s.",
    )
    settle_s: float = Field(
        default=2.0,
        ge=0.0,
        le=3_600.0,
        description="How long a version without manifest must stay unchanged before it counts, in s.",
    )
    retry_s: float = Field(
        default=1.0,
        ge=0.1,
        le=3_600.0,
        description="Wait before a failed load is tried again, in s; doubles each time.",
    )
    retry_max_s: float = Field(default=300.0, ge=0.1, le=86_400.0, description="Longest such wait, in s.")
    withdraw_after_runs: int = Field(
        default=10,
        ge=0,
        le=1_000_000,
        description="Failed runs in a row after which a version is withdrawn; 0 = never.",
    )
    fallback: bool = Field(
        default=True,
        description="Let another version answer for a champion that was withdrawn or cannot be loaded.",
    )
    verify: bool = Field(
        default=True, description="Check sizes and checksums against the manifest before a load."
    )
    require_signature: tuple[Path, ...] = Field(
        default=(),
        description="Public ed25519 keys (PEM files); versions that none of them signed are not loaded. "
        "Needs lifecycle.verify.",
    )
    allowed_domains: tuple[str, ...] = Field(
        default=(), description="Domains of custom operators that a model may use."
    )
    max_version_bytes: int = Field(
        default=16 * 2**30,
        ge=1,
        le=2**50,
        description="Largest size of a version's files together, in bytes.",
    )
    probe: bool = Field(
        default=True,
        description="Load versions not seen before in a child process first, so that a crash harms nobody.",
    )
    probe_timeout_s: float = Field(
        default=60.0, ge=0.1, le=3_600.0, description="How long such a test load may take, in s."
    )
    probe_memory_bytes: int = Field(
        default=0,
        ge=0,
        le=2**50,
        description="Memory that a test load may take, in bytes; 0 = 1 GiB and four times its size.",
    )

    def file_rules(self) -> "FileRules":
        """What the files of a version may be."""
        from fastserve.registry import FileRules

        domains = frozenset(self.allowed_domains)
        return FileRules(max_version_bytes=self.max_version_bytes, allowed_domains=domains)
