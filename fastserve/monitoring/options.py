"""Settings of the monitoring room; the only list of them."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

from fastserve.errors import ConfigError
from fastserve.overriding import overridden

OF_A_MODEL = ("enabled", "pin_rows", "max_features")
"""What a model's own `model.yaml` may set."""


def _fits_a_header(token: SecretStr | None) -> SecretStr | None:
    text = "-" if token is None else token.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("must be printable ASCII, without a space or a new line around it")
    return token


Token = Annotated[SecretStr | None, AfterValidator(_fits_a_header)]
"""A bearer token, such as a header can carry; None for none."""


class MonitoringOptions(BaseModel):
    """Whether rows are watched, and where the statistics go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=True, description="Count the rows of versions that have a profile; off: requests only."
    )
    interval_s: float = Field(
        default=1.0, ge=0.05, le=60.0, description="Period of the snapshots to the control plane, in s."
    )
    max_pending_minutes: int = Field(
        default=60,
        ge=2,
        le=1_440,
        description="Minutes whose counts wait apart while the control plane is away; beyond that the oldest "
        "are merged.",
    )
    max_features: int = Field(
        default=4_096,
        ge=1,
        le=65_536,
        description="Widest tensor, in values a row, that is described when rows are pinned.",
    )
    pin_rows: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Make a profile of the first so many live rows of a version without one; 0 = never.",
    )
    control_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Control plane on another machine, such as http://control:8002; "
        "this server then starts none of its own.",
    )
    control_token: Token = Field(default=None, description="Its control.token; give it by the environment.")

    def overridden(self, settings: dict[str, Any]) -> "MonitoringOptions":
        """Give the options of one model, whose `model.yaml` may set some of them.

        Raises
        ------
        ConfigError
            Another key, or a value out of range.
        """
        for key in settings:
            if key not in OF_A_MODEL:
                raise ConfigError(f"monitoring.{key[:64]} is not one of {', '.join(OF_A_MODEL)}")
        return overridden(self, settings, "monitoring")

    @field_validator("control_url")
    @classmethod
    def _is_an_origin(cls, url: str | None) -> str | None:
        if url is not None:
            parts = urlsplit(url)
            more = parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment
            if not parts.hostname or more or parts.port == 0:
                raise ValueError("must be http://HOST:PORT or https://HOST:PORT, and nothing else")
        return url
