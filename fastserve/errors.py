"""The one error tree: errors carry facts; front ends alone know status numbers."""


class FastserveError(Exception):
    """Base of everything this package raises on purpose; `str(error)` is one sentence for a person."""


class InvalidRequest(FastserveError):
    """The request cannot be served as it stands; `field` names the part that is wrong."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class PayloadTooLarge(InvalidRequest):
    """A body, compressed or not, over the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the request body is larger than the limit of {limit_bytes} bytes", "body")
        self.limit_bytes = limit_bytes


class UnsupportedEncoding(InvalidRequest):
    """A Content-Encoding other than gzip, deflate or identity."""

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"Content-Encoding '{encoding[:64]}' is not supported; use gzip, deflate or identity",
            "Content-Encoding",
        )


class Unauthorized(FastserveError):
    """The request changes state and does not carry the right token."""

    def __init__(self, *, given: bool = False) -> None:
        super().__init__(
            "the token is not the right one"
            if given
            else "this needs the token: send the header 'Authorization: Bearer TOKEN'"
        )


class NotFound(FastserveError):
    """No such model or version."""


class ModelNotFound(NotFound):
    """The registry has no model of this name."""

    def __init__(self, model: str) -> None:
        super().__init__(f"model '{model[:128]}' is not known")
        self.model = model


class VersionNotFound(NotFound):
    """The model exists, this version of it does not."""

    def __init__(self, model: str, version: str) -> None:
        super().__init__(f"model '{model[:128]}' has no version '{version[:128]}'")
        self.model = model
        self.version = version


class NotReady(FastserveError):
    """The version is known but does not serve now; "" is no version, where none of the model can."""

    def __init__(self, model: str, version: str, reason: str) -> None:
        which = f"model '{model}' version '{version}'" if version else f"model '{model}'"
        super().__init__(f"{which} is not ready: {reason}")
        self.model = model
        self.version = version
        self.reason = reason


class QueueFull(FastserveError):
    """The bounded queue of a model has no room; try again after `retry_after_s`."""

    def __init__(self, model: str, limit_rows: int, retry_after_s: int = 1) -> None:
        super().__init__(f"the queue of model '{model}' is full ({limit_rows} rows)")
        self.model = model
        self.limit_rows = limit_rows
        self.retry_after_s = retry_after_s


class DeadlineExceeded(FastserveError):
    """The deadline passed, or could not be met, before the model ran; the rows were not executed."""

    def __init__(self, model: str) -> None:
        super().__init__(f"the deadline of the request passed before model '{model}' ran")
        self.model = model


class ModelFailed(FastserveError):
    """The model itself failed while running."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the model failed: {reason}")
        self.reason = reason


class RunStopped(ModelFailed):
    """The run took longer than it may, and was stopped: to try it again takes as long."""

    def __init__(self) -> None:
        super().__init__("it ran longer than it may")


class ModelRejected(FastserveError):
    """A model file that cannot be served: not ONNX, unsupported types, unsafe external data."""


class InvalidProfile(FastserveError):
    """A reference profile that cannot be read, or that is of another model's shape."""


class RegistryError(FastserveError):
    """The registry directory is missing, unreadable, or the operation on it is not allowed."""


class RuntimeMissing(FastserveError):
    """onnxruntime is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "no ONNX runtime is installed: pip install 'fastserve[cpu]' (onnxruntime) "
            "or 'fastserve[gpu]' (onnxruntime-gpu)"
        )


class ProviderUnavailable(FastserveError):
    """The execution provider asked for cannot be had; there is no silent fall-back."""

    def __init__(self, provider: str, reason: str) -> None:
        super().__init__(f"execution provider '{provider}' is not available: {reason}")
        self.provider = provider


class ConfigError(FastserveError):
    """A setting that is unknown or out of range; the message names it and the nearest right one."""
