"""Models in the JSON shapes that tritonclient and perf_analyzer read: metadata, config, statistics."""

from typing import Any

from fastserve.dataplane import Served
from fastserve.types import DataType, TensorSpec

PLATFORM = "onnxruntime_onnx"

_NOTHING = {"count": 0, "ns": 0}


def metadata(served: Served, versions: list[str]) -> dict[str, Any]:
    """Describe a version; the shapes of a batched model begin with -1."""
    return {
        "name": served.name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": served.signature.inputs,
        "outputs": served.signature.outputs,
    }


def config(served: Served) -> dict[str, Any]:
    """Describe a version as Triton's ModelConfig; dims leave the batch dimension out."""
    batched = served.max_batch_rows > 0
    document: dict[str, Any] = {
        "name": served.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": served.max_batch_rows,
        "input": [_config_input(spec, batched) for spec in served.signature.inputs],
        "output": [_config_output(spec, batched) for spec in served.signature.outputs],
        "batch_input": [],
        "batch_output": [],
        "optimization": {"priority": "PRIORITY_DEFAULT"},
        "instance_group": [{"name": f"{served.name}_0", "kind": "KIND_AUTO", "count": 1, "gpus": []}],
        "default_model_filename": "model.onnx",
        "cc_model_filenames": {},
        "metric_tags": {},
        "parameters": {},
        "model_warmup": [],
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
    }
    if batched:
        document["dynamic_batching"] = {
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": served.options.max_queue_delay_us,
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": served.options.default_timeout_ms * 1_000,
                "allow_timeout_override": True,
                "max_queue_size": served.options.max_queue_rows,
            },
            "priority_queue_policy": {},
        }
    return document


def _config_tensor(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    dims = list(spec.shape[1:] if batched else spec.shape)
    kind = "STRING" if spec.datatype is DataType.BYTES else str(spec.datatype)
    entry: dict[str, Any] = {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": dims or [1]}
    if not dims:
        entry["reshape"] = {"shape": []}
    return entry


def _config_input(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    return _config_tensor(spec, batched) | {
        "format": "FORMAT_NONE",
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
        "is_non_linear_format_io": False,
    }


def _config_output(spec: TensorSpec, batched: bool) -> dict[str, Any]:
    return _config_tensor(spec, batched) | {
        "label_filename": "",
        "is_shape_tensor": False,
        "is_non_linear_format_io": False,
    }


def statistics(served: Served) -> dict[str, Any]:
    """Show the counters of one version, as this worker has them.

    Triton counts every answered request in all three compute stages, so perf_analyzer demands it; what
    this server does not time apart has 0 ns. A `Duration` is JSON as it stands.
    """
    stats = served.stats
    computed = stats.compute_infer.count
    return {
        "name": served.name,
        "version": served.version,
        "last_inference": stats.last_inference_ms,
        "inference_count": stats.inference_count,
        "execution_count": stats.execution_count,
        "inference_stats": {
            "success": stats.success,
            "fail": stats.fail,
            "queue": stats.queue,
            "compute_input": {"count": computed, "ns": 0},
            "compute_infer": stats.compute_infer,
            "compute_output": {"count": computed, "ns": stats.compute_output.ns},
            "cache_hit": _NOTHING,
            "cache_miss": _NOTHING,
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": {"count": time.count, "ns": 0},
                "compute_infer": time,
                "compute_output": {"count": time.count, "ns": 0},
            }
            for rows, time in sorted(stats.batches.items())
        ],
        "memory_usage": [],
    }
