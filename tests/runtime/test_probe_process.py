"""What a test load reports when it fails; that it does so in a process is tested beside who asks for it."""

from pathlib import Path
from typing import NoReturn

import pytest

from fastserve.errors import ModelFailed, ModelRejected, RegistryError
from fastserve.runtime import Provider, probe_process

GPU, CPU = [Provider.CUDA, Provider.CPU], [Provider.CPU]


@pytest.mark.parametrize(
    ("error", "providers", "report"),
    [
        (MemoryError(), CPU, {"memory": True}),
        (ModelRejected("std::bad_alloc"), CPU, {"memory": True}),
        (ModelFailed("Failed to allocate memory for requested buffer"), CPU, {"memory": True}),
        (OSError("no more files"), CPU, {"rejected": "no more files", "final": True}),
        (ModelRejected("a\nb" * 200), CPU, {"rejected": "a?b" * 166 + "a?", "final": True}),
        (ModelRejected("no kernel"), GPU, {"rejected": "no kernel", "final": False}),
        (RegistryError("it is no file"), GPU, {"rejected": "it is no file", "final": True}),
    ],
)
def test_what_a_test_load_reports(
    monkeypatch: pytest.MonkeyPatch, error: Exception, providers: list[Provider], report: dict[str, object]
) -> None:
    _failing(monkeypatch, error, providers)
    assert probe_process._report(Path("model.onnx")) == report


def test_a_row_that_does_not_run_is_told_with_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    _failing(monkeypatch, ModelFailed("x" * 600), CPU)
    told = probe_process._report(Path("model.onnx"))["rejected"]
    assert len(told) == 500
    assert told.endswith(
        "xx (it was tried with a row of zeros and empty strings, where dimensions vary with "
        "sizes of 1, 8, 32, 224, 256, 1024: one that must be another has to stand in the file)"
    )


def test_an_encoder_that_knows_no_empty_string_is_told_how_to_be_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As scikit-learn's is by default."""
    _failing(monkeypatch, ModelFailed("Unknown Category and zeros = 0."), CPU)
    told = probe_process._report(Path("model.onnx"))["rejected"]
    assert "Unknown Category and zeros = 0; OneHotEncoder(handle_unknown='ignore') makes" in told


def _failing(monkeypatch: pytest.MonkeyPatch, error: Exception, providers: list[Provider]) -> None:
    def load(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(probe_process, "OnnxRuntime", load)
    monkeypatch.setattr(probe_process, "built_in", lambda: providers)
