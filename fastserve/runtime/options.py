"""Every setting of the runtime room, listed once."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Provider(StrEnum):
    """Where a model runs; `auto` takes CUDA when a session really gets it, else the CPU, and logs which."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


class RuntimeOptions(BaseModel):
    """How ONNX sessions are made and warmed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Provider = Field(
        default=Provider.AUTO,
        description="Execution provider; one that is named but cannot be had is an error. auto: CUDA when a "
        "session really gets it, else the CPU; the log says which.",
    )
    device_id: int = Field(default=0, ge=0, description="Number of the GPU, for cuda and tensorrt.")
    intra_op_threads: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Threads inside one run; 0 = the cores (affinity, cgroup quota) divided by the workers.",
    )
    spin_us: int = Field(
        default=50,
        ge=0,
        le=1_000_000,
        description="How long a session's second and further threads wait awake for more work, microseconds.",
    )
    gpu_mem_limit_bytes: int = Field(
        default=0, ge=0, description="Most GPU memory a session may take, bytes; 0 = no limit."
    )
    cpu_arena: bool = Field(
        default=False,
        description="Keep every buffer a CPU session ever needed; large batches run up to 4 % faster.",
    )
    warmup_budget_ms: float = Field(
        default=2_000, ge=0, le=600_000, description="Time the warm-up of one version may take, milliseconds."
    )
    max_bucket_ms: float = Field(
        default=100,
        gt=0,
        allow_inf_nan=False,
        description="Batches that would run longer than this, milliseconds, are not formed.",
    )
