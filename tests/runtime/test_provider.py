"""A provider that is asked for is had or refused; onnxruntime's silent fall-back is noticed.

The real library cannot be made to have a GPU, so a stand-in plays builds and machines that differ. It does
what onnxruntime-gpu was seen to do on a machine without CUDA: the session is made, and has the CPU alone.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from fastserve.errors import ModelRejected, ProviderUnavailable
from fastserve.runtime import OnnxRuntime, Provider, RuntimeOptions, _ort, can_be_forked, inspect, onnx
from tests import models

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


class StandIn:
    """As much of the onnxruntime module as is used: `built` in, but sessions get `started` only."""

    __version__ = onnxruntime.__version__
    SessionOptions = onnxruntime.SessionOptions
    RunOptions = onnxruntime.RunOptions

    def __init__(self, built: list[str], started: list[str], error: Exception | None = None) -> None:
        self.built, self.started, self.error = built, started, error
        self.asked: list[list[tuple[str, dict[str, str]]]] = []
        self.options: list[onnxruntime.SessionOptions] = []
        self.preloaded = False

    def get_available_providers(self) -> list[str]:
        return self.built

    def preload_dlls(self) -> None:
        self.preloaded = True
        if CUDA not in self.started:
            for name in ("libcublas.so.13", "/usr/lib/libcublas.so.13"):
                print(f"Failed to load {name}: {name}: cannot open shared object file")

    def InferenceSession(self, path: str, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        assert enable_fallback == 0
        self.asked.append(providers)
        self.options.append(options)
        names = [name for name, _ in providers]
        assert names == [CPU] or self.preloaded, "CUDA's libraries are on no loader's path"
        if self.error is not None and names[0] == self.built[0]:
            raise self.error
        real = onnxruntime.InferenceSession(path, options, providers=[CPU])
        got = [name for name in names if name in self.started]
        return SimpleNamespace(
            get_providers=lambda: got,
            get_inputs=real.get_inputs,
            get_outputs=real.get_outputs,
            io_binding=real.io_binding,
            run=real.run,
        )


@pytest.fixture(autouse=True)
def _said_nothing_yet() -> None:
    onnx._tell.cache_clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(models.scaled())
    return tmp_path / "model.onnx"


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def play(*args: Any) -> StandIn:
        module = StandIn(*args)
        monkeypatch.setattr(_ort, "_module", lambda: module)
        return module

    _ort._missing_libraries.cache_clear()
    yield play
    _ort._missing_libraries.cache_clear()


def options(provider: str, **more: object) -> RuntimeOptions:
    return RuntimeOptions.model_validate({"provider": provider, **more})


def test_a_provider_this_build_lacks_is_refused(path: Path) -> None:
    assert Provider.CUDA not in _ort.built_in(), "these tests expect the CPU build"
    with pytest.raises(ProviderUnavailable, match=r"'cuda'.* has cpu only; pip install 'fastserve\[gpu\]'"):
        OnnxRuntime(path, options("cuda"))
    with pytest.raises(ProviderUnavailable, match=r"'tensorrt'.* has cpu only$"):
        OnnxRuntime(path, options("tensorrt"))


def test_auto_without_a_gpu_build_says_it_took_the_cpu(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "fastserve.runtime"):
        assert OnnxRuntime(path).provider == "cpu"
        assert OnnxRuntime(path).provider == "cpu"  # once is enough
    assert caplog.messages == ["provider auto took cpu: this onnxruntime is built without CUDA"]


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_the_silent_fall_back_is_an_error(path: Path, play: Any, provider: str) -> None:
    play([TENSORRT, CUDA, CPU], [CPU])
    with pytest.raises(
        ProviderUnavailable, match=rf"'{provider}' .*gave CPUExecutionProvider.*\(libcublas.so.13\)"
    ):
        OnnxRuntime(path, options(provider))


def test_tensorrt_does_not_settle_for_cuda(path: Path, play: Any) -> None:
    play([TENSORRT, CUDA, CPU], [CUDA, CPU])
    with pytest.raises(ProviderUnavailable, match=r"'tensorrt'"):
        OnnxRuntime(path, options("tensorrt"))


def test_a_provider_that_fails_to_start_is_an_error(path: Path, play: Any) -> None:
    play([CUDA, CPU], [CUDA, CPU], RuntimeError("CUDA failure 100: no CUDA-capable device is detected"))
    with pytest.raises(ProviderUnavailable, match=r"'cuda' is not available: CUDA failure 100"):
        OnnxRuntime(path, options("cuda"))


def test_a_bad_model_on_a_gpu_is_a_bad_model(path: Path, play: Any) -> None:
    play([CUDA, CPU], [CUDA, CPU], type("InvalidGraph", (Exception,), {})("This is an invalid model"))
    with pytest.raises(ModelRejected, match=r"This is an invalid model"):
        OnnxRuntime(path, options("auto"))


def test_auto_falls_back_and_says_why(path: Path, play: Any, caplog: pytest.LogCaptureFixture) -> None:
    play([CUDA, CPU], [CPU])
    with caplog.at_level(logging.INFO, "fastserve.runtime"):
        assert OnnxRuntime(path).provider == "cpu"
    assert "provider auto took cpu: " in caplog.text
    assert "libcublas.so.13" in caplog.text


def test_auto_takes_cuda_when_it_starts(path: Path, play: Any, caplog: pytest.LogCaptureFixture) -> None:
    module = play([TENSORRT, CUDA, CPU], [CUDA, CPU])
    with caplog.at_level(logging.INFO, "fastserve.runtime"):
        runtime = OnnxRuntime(path, options("auto", device_id=1, gpu_mem_limit_bytes=2**30))
    assert runtime.provider == "cuda"
    assert "provider auto took cuda: device 1" in caplog.text
    [[(name, settings), (last, _)]] = module.asked
    assert (name, last) == (CUDA, CPU)
    assert settings["device_id"] == "1"
    assert settings["gpu_mem_limit"] == str(2**30)


def test_tensorrt_hands_on_what_it_cannot_take_on_the_same_device(path: Path, play: Any) -> None:
    module = play([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU])
    OnnxRuntime(path, options("tensorrt", device_id=1))
    assert module.asked == [[(TENSORRT, {"device_id": "1"}), (CUDA, {"device_id": "1"}), (CPU, {})]]


def test_whatever_fails_on_the_cpu_is_the_model(path: Path, play: Any) -> None:
    play([CPU], [CPU], RuntimeError("no such thing"))
    with pytest.raises(ModelRejected, match=r"^onnxruntime cannot load the model: no such thing$"):
        OnnxRuntime(path, options("cpu"))


@pytest.mark.parametrize(("arena", "wished", "threads"), [(False, 0, 3), (True, 2, 2)])
def test_what_a_session_is_told(path: Path, play: Any, arena: bool, wished: int, threads: int) -> None:
    module = play([CPU], [CPU])
    OnnxRuntime(path, options("cpu", cpu_arena=arena, intra_op_threads=wished), threads=3)
    (told,) = module.options
    assert (told.enable_cpu_mem_arena, told.enable_mem_pattern) == (arena, arena)
    assert (told.intra_op_num_threads, told.inter_op_num_threads) == (threads, 1)
    assert told.log_severity_level == 3, "errors only"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ONNXRuntimeError] : 7 : INVALID : a : b", "a : b"),
        ("Load model from /r/m/1/model.onnx failed:/r/m/1/model.onnx is cut", "model.onnx is cut"),
        ("/src/core/graph.cc:12 void onnxruntime::f(const X&) const Words\n  of  it", "Words of it"),
        ("x" * 600, "x" * 500),
        ("", "RuntimeError"),
    ],
)
def test_what_onnxruntime_says_is_one_short_line(text: str, said: str) -> None:
    assert _ort.reason(RuntimeError(text), Path("/r/m/1/model.onnx")) == said


@pytest.mark.parametrize(
    ("built", "provider", "threads", "can"),
    [
        ([CPU], "cpu", 1, True),
        ([CPU], "auto", 1, True),
        ([CPU], "auto", 2, False),
        ([CUDA, CPU], "cpu", 1, True),
        ([CUDA, CPU], "auto", 1, False),
        ([CUDA, CPU], "cuda", 1, False),
    ],
)
def test_which_sessions_live_on_in_a_fork(
    play: Any, built: list[str], provider: str, threads: int, can: bool
) -> None:
    play(built, built)
    assert can_be_forked(options(provider), threads) is can


def test_to_look_into_a_file_takes_no_gpu(path: Path, play: Any) -> None:
    module = play([CUDA, CPU], [CUDA, CPU])
    inspect(path)
    assert module.asked == [[(CPU, {})]]


def test_outputs_on_a_gpu_are_not_bound(path: Path, play: Any) -> None:
    play([CUDA, CPU], [CUDA, CPU])
    runtime = OnnxRuntime(path, options("cuda"))
    import numpy as np

    assert runtime.bind([np.ones((1, 3), np.float32)]) is None


def test_a_release_without_bounded_spinning_does_not_spin(path: Path, play: Any) -> None:
    settings: dict[str, str] = {}

    class Recorder(onnxruntime.SessionOptions):  # type: ignore[misc]
        def add_session_config_entry(self, key: str, value: str) -> None:
            settings[key] = value

    module = play([CPU], [CPU])
    module.SessionOptions = Recorder
    module.__version__ = "1.26.0"
    OnnxRuntime(path, options("cpu", spin_us=70))
    assert settings == {"session.intra_op.allow_spinning": "1", "session.intra_op.spin_duration_us": "70"}
    settings.clear()
    OnnxRuntime(path, options("cpu", spin_us=0))
    assert settings == {"session.intra_op.allow_spinning": "0"}
    settings.clear()
    module.__version__ = "1.25.1"
    OnnxRuntime(path, options("cpu", spin_us=70))
    assert settings == {"session.intra_op.allow_spinning": "0"}


def test_without_onnxruntime_both_extras_are_named() -> None:
    script = """
import sys
sys.modules["onnxruntime"] = None
from pathlib import Path
from fastserve.errors import RuntimeMissing
from fastserve.runtime import OnnxRuntime
try:
    OnnxRuntime(Path("model.onnx"))
except RuntimeMissing as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert "fastserve[cpu]" in done.stdout
    assert "fastserve[gpu]" in done.stdout


def test_importing_the_room_does_not_import_onnxruntime() -> None:
    script = "import sys, fastserve.runtime, fastserve.registry; assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_onnxruntime_reports_to_nobody(path: Path, tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from fastserve.runtime import OnnxRuntime
OnnxRuntime(Path(sys.argv[1]))
print(len(os.listdir("/proc/self/task")))
"""
    cache = tmp_path / "cache"  # what is to be sent waits there
    env = {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "XDG_CACHE_HOME": str(cache),
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True, timeout=60, env=env
    )
    assert done.stdout == "1\n", "it has threads that nobody asked for: unsafe where workers are forked"
    assert not cache.exists()
