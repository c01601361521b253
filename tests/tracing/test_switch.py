"""Off means that nothing of OpenTelemetry is there; on means that it can work, or says why not."""

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest

from fastserve.errors import ConfigError
from fastserve.tracing import TracingOptions, exporting, open_tracing, require_tracing, switch
from fastserve.tracing.exporting import exporter_classes
from tests.tracing.conftest import Traced

ROOT = Path(__file__).resolve().parents[2]
ON = TracingOptions(enabled=True)
SERVE = """
import sys
from pathlib import Path
from tests.paths.workers import worker
import fastserve.app.supervisor

body = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'
head = b"POST /v2/models/scaled/infer HTTP/1.1\\r\\nhost: t\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body)
with worker(Path(sys.argv[1]), tracing={"enabled": sys.argv[2] == "on"}) as running:
    with running.connect() as connection:
        assert connection.ask(head + body).startswith(b"HTTP/1.1 200")
    print(running.fast_requests, any(name.startswith("opentelemetry") for name in sys.modules))
"""


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("state", "said"), [("off", "1 False"), ("on", "0 True")])
def test_a_worker_imports_opentelemetry_only_when_traced(
    monkeypatch: pytest.MonkeyPatch, registry: Path, state: str, said: str
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    command = [sys.executable, "-c", SERVE, str(registry), state]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == said


def test_off_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nonsense")
    require_tracing(TracingOptions())
    assert open_tracing(TracingOptions()) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "x"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "abc"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "1.5"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_SCHEDULE_DELAY", "9999999999999999"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "9" * 30),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "x"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "inf"),
    ],
)
def test_a_wrong_variable_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"a variable OTEL_… has a wrong value: ."):
        require_tracing(ON)


def test_an_empty_variable_is_one_that_is_not_set(traced: Traced) -> None:
    names = [f"OTEL_BSP_{name}" for name in ("MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY")]
    names += [f"OTEL_EXPORTER_OTLP_{name}" for name in ("COMPRESSION", "TIMEOUT", "HEADERS", "ENDPOINT")]
    names += ["OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"]
    with traced(dict.fromkeys(names, " ")) as server:
        log = server.log.read_text()
    assert "spans go to OTLPSpanExporter" in log
    assert "opentelemetry" not in log and "Traceback" not in log


@pytest.mark.parametrize("missing", ["opentelemetry", "opentelemetry.sdk"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def find(name: str) -> ModuleSpec | None:
        if name.startswith(f"{missing}."):
            raise ModuleNotFoundError(missing)
        return None if name == missing else find_spec(name)

    monkeypatch.setattr(switch, "find_spec", find)
    with pytest.raises(ConfigError, match=r"pip install 'fastserve\[otel\]'"):
        require_tracing(ON)


def test_the_environment_chooses_exporters(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {}
    for value in (" ", "otlp", "otlp, none", "console, otlp"):
        monkeypatch.setenv("OTEL_TRACES_EXPORTER", value)
        chosen[value] = [kind.__name__ for kind in exporter_classes()]
    otlp, console = "OTLPSpanExporter", "ConsoleSpanExporter"
    assert chosen == {" ": [otlp], "otlp": [otlp], "otlp, none": [], "console, otlp": [console, otlp]}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "carrier-pigeon", "'carrier-pigeon'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "'otlp_proto_grpc'"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "smoke", "'smoke'"),
    ],
)
def test_an_exporter_that_is_not_there_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"the span exporter {said}.*there are .*otlp"):
        require_tracing(ON)


def test_a_wrong_variable_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    said = r"^a variable OTEL_… has a wrong value: ."
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "4")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    with pytest.raises(ConfigError, match=said):
        open_tracing(ON)
    monkeypatch.setattr(exporting, "exporter_classes", lambda: [lambda: int("soon")])
    with pytest.raises(ConfigError, match=said):
        open_tracing(ON)


@pytest.mark.parametrize(
    ("code", "out", "err", "said"),
    [
        (1, "", "Traceback\n  ...\nBoom: " + "x" * 999, "Boom: " + "x" * 494),
        (-11, "", "", "tracing cannot be started"),
        (0, "a sentence\n", "a warning\n", "a sentence"),
    ],
)
def test_what_keeps_tracing_from_starting_is_told(
    monkeypatch: pytest.MonkeyPatch, code: int, out: str, err: str, said: str
) -> None:
    done = subprocess.CompletedProcess([], code, out, err)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(ConfigError, match=f"^{said}$"):
        require_tracing(ON)


def test_the_sdk_disabled_is_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nonsense")
    require_tracing(ON)
    assert open_tracing(ON) is None
    assert caplog.messages == ["tracing is enabled, but OTEL_SDK_DISABLED turns it off"]
