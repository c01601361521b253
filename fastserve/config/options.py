"""Settings of the process as a whole, which belong to no room below; the only list of them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ServerOptions(BaseModel):
    """Where the server listens and how many processes answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on; 0.0.0.0 (or ::) lets other machines in.",
    )
    port: int = Field(
        default=8000,
        ge=0,
        le=65_535,
        description="TCP port of the HTTP front end; 0 = any free one, named in the log.",
    )
    grpc_port: int = Field(
        default=8001,
        ge=0,
        le=65_535,
        description="TCP port kept for the gRPC front end, which this release does not have; 0 = none.",
    )
    control_port: int = Field(
        default=8002,
        ge=0,
        le=65_535,
        description="TCP port of the control plane (metrics, reports); `serve` starts none at 0 "
        "and watches nothing.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=1_024,
        description="Worker processes; each has its own event loop and its own sessions.",
    )
    load_ahead_s: float = Field(
        default=10.0,
        ge=0.0,
        le=3_600.0,
        description="How long models are loaded before any of them serves, in s: once for all workers, "
        "which are forked then and share that memory; in a single worker small ones. 0 = each on its own.",
    )
    backlog: int = Field(
        default=2_048,
        ge=1,
        le=65_535,
        description="Connections that may wait to be accepted, per listening socket.",
    )
    drain_s: float = Field(
        default=30.0,
        ge=0.0,
        le=3_600.0,
        description="How long requests in flight may take to finish after SIGTERM, in s, rounded up.",
    )


class LogOptions(BaseModel):
    """What is logged, and in which form."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe message that is written."
    )
    format: Literal["text", "json"] = Field(
        default="text",
        description="text for people, json (one object a line) for collectors; both go to stderr.",
    )
