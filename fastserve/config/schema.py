"""The one configuration: every room's options put together, nothing added but the registry's place."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fastserve.batching.options import BatchingOptions
from fastserve.config.options import LogOptions, ServerOptions
from fastserve.controlplane.options import ControlOptions
from fastserve.errors import ConfigError
from fastserve.frontends.http.options import HttpOptions
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.monitoring.options import MonitoringOptions
from fastserve.runtime.options import RuntimeOptions
from fastserve.tracing.options import TracingOptions


class Config(BaseModel):
    """All settings of one server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry: Path | None = Field(
        default=None,
        description="The registry directory, from where the command runs; also FASTSERVE_REGISTRY.",
    )
    server: ServerOptions = Field(default_factory=ServerOptions)
    http: HttpOptions = Field(default_factory=HttpOptions)
    runtime: RuntimeOptions = Field(default_factory=RuntimeOptions)
    batching: BatchingOptions = Field(default_factory=BatchingOptions)
    lifecycle: LifecycleOptions = Field(default_factory=LifecycleOptions)
    monitoring: MonitoringOptions = Field(default_factory=MonitoringOptions)
    control: ControlOptions = Field(default_factory=ControlOptions)
    tracing: TracingOptions = Field(default_factory=TracingOptions)
    log: LogOptions = Field(default_factory=LogOptions)

    @field_validator("registry", mode="before")
    @classmethod
    def _is_named(cls, registry: object) -> object:
        if registry == "":  # the unset variable of a template is not the current directory
            raise ValueError("it is empty, not a directory")
        return registry

    @field_validator("lifecycle")
    @classmethod
    def _signatures_are_looked_at(cls, options: LifecycleOptions) -> LifecycleOptions:
        if options.require_signature and not options.verify:
            raise ValueError("require_signature needs verify: what is signed are the files' checksums")
        return options

    def registry_dir(self) -> Path:
        """The registry's directory; ConfigError when nothing names one."""
        if self.registry is None:
            raise ConfigError(
                "no registry given: use --registry DIR, FASTSERVE_REGISTRY, or `registry:` in --config FILE"
            )
        return self.registry
