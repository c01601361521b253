"""Settings of the HTTP front end; the only list of them."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_LEAST_TOKEN = 16


class HttpOptions(BaseModel):
    """What the HTTP front end accepts, for how long, and what it offers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_body_bytes: int = Field(
        default=64 * 2**20,
        ge=1_024,
        le=2**40,
        description="Largest request body, in bytes, before and after decompression; more is answered 413.",
    )
    max_json_depth: int = Field(
        default=100,
        ge=40,
        le=500,
        description="Deepest nesting of a JSON request, in levels; more is answered 400.",
    )
    read_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="A request whose head and body have not arrived after this many seconds, and one more "
        "for every 64 KiB that came, is given up; so is a client that reads no answer for as long.",
    )
    keep_alive_s: float = Field(
        default=75.0,
        ge=0,
        le=86_400,
        description="How long an idle connection is kept open, in s; longer than a proxy in front does.",
    )
    compress_min_bytes: int = Field(
        default=1_024,
        ge=0,
        description="Answers shorter than this, in bytes, are never compressed, whatever the client accepts.",
    )
    fast_path: bool = Field(
        default=True,
        description="Decode plain infer and predict requests in the compiled core; off = through Starlette.",
    )
    docs: bool = Field(default=True, description="Serve /openapi.json and the page /docs.")
    load_control: bool = Field(
        default=False,
        description="Let POST /v2/repository/models/NAME/load and unload work; needs admin_token.",
    )
    admin_token: str = Field(
        default="",
        max_length=1_024,
        repr=False,
        description="What load and unload must send as `Authorization: Bearer TOKEN`; 16 characters or more.",
    )

    @field_validator("admin_token")
    @classmethod
    def _fits_a_header(cls, token: str) -> str:
        if not token.isascii() or (token and not token.isprintable()) or token != token.strip():
            raise ValueError("must be printable ASCII, without a space or a new line around it")
        return token

    @model_validator(mode="after")
    def _needs_token(self) -> Self:
        if self.load_control and len(self.admin_token) < _LEAST_TOKEN:
            raise ValueError(
                f"load_control needs an admin_token of at least {_LEAST_TOKEN} characters "
                "(FASTSERVE_HTTP__ADMIN_TOKEN keeps it out of files)"
            )
        return self
