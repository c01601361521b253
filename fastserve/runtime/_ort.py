"""The one place that imports onnxruntime, which has no type stubs: every `Any` of it stays in this file.

It is not a hard dependency (its CPU and GPU builds exclude each other), so it is imported on first use.
"""

import contextlib
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastserve.errors import ModelRejected, ProviderUnavailable, RuntimeMissing
from fastserve.runtime.options import Provider, RuntimeOptions
from fastserve.runtime.signature import Node
from fastserve.types import Array

_EXECUTION_PROVIDERS: dict[Provider, str] = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
}
_ERRORS_ONLY = 3
_NEVER = 4
_SOURCE_LINE = re.compile(r"\S+\.(?:cc|h|cu|cuh):\d+ (?:[^()]*\([^()]*\)(?: const)? )?")
_INTERRUPTED = "Exiting due to terminate flag"
_BOUNDED_SPIN = (1, 26)
"""The first release that knows a spin duration; before it a thread spins for milliseconds."""


@cache
def _module() -> Any:
    # From 1.32 on it would tell Microsoft of this machine and its models, by HTTPS, from threads of its own.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing() from error
    return onnxruntime


def require_runtime() -> None:
    """Raise RuntimeMissing unless onnxruntime is installed; without the cost of importing it."""
    if find_spec("onnxruntime") is None:
        raise RuntimeMissing()


def _release() -> tuple[int, ...]:
    """Give the installed release as (major, minor)."""
    return tuple(int(part) for part in str(_module().__version__).split(".")[:2])


def built_in() -> list[Provider]:
    """List the providers the installed onnxruntime was built with, which does not mean that they start."""
    names = _module().get_available_providers()
    return [provider for provider, name in _EXECUTION_PROVIDERS.items() if name in names]


class Session:
    """One onnxruntime session on one provider, with its cheapest calls. `run` is safe from many threads."""

    def __init__(self, path: Path, provider: Provider, options: RuntimeOptions, threads: int) -> None:
        if provider not in built_in():
            advice = "; pip install 'fastserve[gpu]'" if provider is Provider.CUDA else ""
            raise ProviderUnavailable(
                provider.value, f"the installed onnxruntime has {', '.join(built_in())} only{advice}"
            )
        session = _open(path, provider, options, threads)
        got = session.get_providers()
        if _EXECUTION_PROVIDERS[provider] not in got:
            missing = f" ({', '.join(_missing_libraries())})" if _missing_libraries() else ""
            raise ProviderUnavailable(
                provider.value,
                f"onnxruntime gave {', '.join(got)} instead, which is what it does when a library"
                f"{missing} is missing or does not fit the driver; its log says more",
            )
        self.inputs: Sequence[Node] = session.get_inputs()
        self.outputs: Sequence[Node] = session.get_outputs()
        self._session = session
        # Made once: a run without options makes and frees them each time (0.5 µs of 4.6 µs), and the
        # public `run` checks names and WebGPU captures that cannot be wrong here (0.9 µs).
        self._run_options = _run_options()
        self._low_level = getattr(session, "_sess", session)
        self._output_names = [node.name for node in self.outputs]

    def run(self, feed: Mapping[str, Array]) -> list[Array]:
        """Run once; outputs in the model's order. Raises whatever onnxruntime raises."""
        outputs: list[Array] = self._low_level.run(self._output_names, feed, self._run_options)
        return outputs

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Callable[[], None]:
        """Prepare a run that reads and writes these C-contiguous CPU arrays, which the caller keeps alive."""
        binding = self._session.io_binding()
        for name, array in inputs.items():
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in outputs.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        low_level = getattr(binding, "_iobinding", None)
        if low_level is None:
            return lambda: self._session.run_with_iobinding(binding, self._run_options)
        call = self._low_level.run_with_iobinding
        return lambda: call(low_level, self._run_options)

    def interrupt(self) -> None:
        """Have the runs under way raise at their next operator; later ones are not concerned. Any thread."""
        options, self._run_options = self._run_options, _run_options()
        options.terminate = True


def _run_options() -> Any:
    options = _module().RunOptions()
    options.log_severity_level = _NEVER  # what fails is raised; a client must not fill the log
    return options


def _open(path: Path, provider: Provider, options: RuntimeOptions, threads: int) -> Any:
    providers = _providers(provider, options)
    try:
        # Without enable_fallback=0 a provider that fails is replaced by the CPU, and a printed line is all.
        return _module().InferenceSession(
            str(path), _session_options(options, threads), providers=providers, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's errors share no base class
        # Providers fail with these two, models with onnxruntime's own classes.
        if provider is not Provider.CPU and isinstance(error, (RuntimeError, ValueError)):
            raise ProviderUnavailable(provider.value, reason(error)) from error
        raise ModelRejected(f"onnxruntime cannot load the model: {reason(error, path)}") from error


def _session_options(options: RuntimeOptions, threads: int) -> Any:
    settings = _module().SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = _ERRORS_ONLY
    # Measured on a 256-1024-1024-1024-10 MLP: without both 0 to 4 % slower, and 17 MiB instead of 35 MiB stay
    # after 1024 rows. Arena shrinkage as a run option frees as much, but peaks at 60 to 105 MiB on the way.
    settings.enable_cpu_mem_arena = options.cpu_arena
    settings.enable_mem_pattern = options.cpu_arena
    # Same model, 2 threads, 1 row: 111 µs when idle threads sleep, 66 µs when they spin, which burns 6 ms
    # after every run on cores that the event loop wants. 50 µs of it keeps the 66 µs and costs 0.1 ms.
    spins = options.spin_us > 0 and _release() >= _BOUNDED_SPIN
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if spins else "0")
    if spins:
        settings.add_session_config_entry("session.intra_op.spin_duration_us", str(options.spin_us))
    return settings


def _providers(provider: Provider, options: RuntimeOptions) -> list[tuple[str, dict[str, str]]]:
    """List what to ask for, best first; TensorRT hands the nodes it cannot take to CUDA, CUDA to the CPU."""
    if provider is Provider.CPU:
        return [(_EXECUTION_PROVIDERS[provider], {})]
    _missing_libraries()
    cuda = {"device_id": str(options.device_id)}
    if options.gpu_mem_limit_bytes:
        cuda["gpu_mem_limit"] = str(options.gpu_mem_limit_bytes)
        cuda["arena_extend_strategy"] = "kSameAsRequested"
    chain = [(_EXECUTION_PROVIDERS[Provider.CUDA], cuda), (_EXECUTION_PROVIDERS[Provider.CPU], {})]
    if provider is Provider.TENSORRT:
        chain.insert(0, (_EXECUTION_PROVIDERS[provider], {"device_id": str(options.device_id)}))
    return chain


@cache
def _missing_libraries() -> tuple[str, ...]:
    """Load the CUDA libraries, which as wheels are on no loader's path, once; list what is missing."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):  # it prints what it cannot find
        _module().preload_dlls()
    names = re.findall(r"^Failed to load ([^\s:]+):", printed.getvalue(), re.MULTILINE)
    return tuple(dict.fromkeys(Path(name).name for name in names))


def was_interrupted(error: BaseException) -> bool:
    """Tell whether a run raised this because of `Session.interrupt`."""
    return _INTERRUPTED in str(error)


def reason(error: BaseException, path: Path | None = None) -> str:
    """Give onnxruntime's message as one short line for a person: no code, no path, no line of its source."""
    text = str(error)
    if path is not None:
        text = text.replace(f"Load model from {path} failed:", "").replace(str(path), path.name)
    if text.startswith("[ONNXRuntimeError]"):
        text = text.split(" : ", 3)[-1]
    text = _SOURCE_LINE.sub("", text)
    return " ".join(text.split())[:500] or type(error).__name__
