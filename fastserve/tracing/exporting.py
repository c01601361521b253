"""The way of spans out of a process: samplers, limits and exporters as OpenTelemetry's variables say."""

import os
import threading
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from fastserve import __version__
from fastserve.clock import Clock, monotonic_ns
from fastserve.errors import ConfigError
from fastserve.tracing.spans import BatchSpans

_GROUP = "opentelemetry_traces_exporter"
_PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_WHOLE = tuple(
    f"OTEL_BSP_{name}"
    for name in ("MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY", "EXPORT_TIMEOUT")
)
_TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
_MOST = 2**31 - 1
FLUSH_S = 2.0


def exporter_classes() -> list[Callable[[], SpanExporter]]:
    """Find what OTEL_TRACES_EXPORTER names, `otlp` if nothing; `none` is an empty list.

    Raises
    ------
    ConfigError
        No package that is installed brings an exporter of that name.
    """
    names = [name.strip() for name in _variable("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    return [] if "none" in names else [_find(name) for name in names]


def open_exporters() -> list[SpanExporter]:
    """Make the exporters; ConfigError as of `exporter_classes`, ValueError for a variable that is wrong."""
    return [make() for make in exporter_classes()]


def _check_numbers() -> None:
    """Raise ValueError where OpenTelemetry would log a traceback, lose its thread or be unable to send."""
    for name in (*_WHOLE, *_TIMEOUTS):
        value = _variable(name, "1")
        try:
            good = 0 <= int(value) <= _MOST if name in _WHOLE else 0 < float(value) <= _MOST
        except ValueError:
            good = False
        if not good:
            kind = "a whole number up to" if name in _WHOLE else "a number of seconds above 0 and up to"
            raise ValueError(f"{name} is {value[:64]!r}, not {kind} {_MOST}")


def _find(name: str) -> Callable[[], SpanExporter]:
    wanted = name
    if name == "otlp":
        common = _variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        protocol = _variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", common)
        wanted = _PROTOCOLS.get(protocol, protocol)
    found = {point.name: point for point in entry_points(group=_GROUP)}
    if wanted not in found:
        known = ", ".join(sorted({*found, "otlp", "none"}))
        raise ConfigError(
            f"no package brings the span exporter '{wanted[:64]}' that OTEL_TRACES_EXPORTER or "
            f"OTEL_EXPORTER_OTLP_PROTOCOL asks for; there are {known}"
        )
    made: Callable[[], SpanExporter] = found[wanted].load()
    return made


def _variable(name: str, default: str) -> str:
    """An empty variable counts as one that is not set, as OpenTelemetry has it."""
    return os.environ.get(name, "").strip() or default


class Tracing:
    """The spans of one process, sent by a thread of their own.

    Neither a slow nor a missing receiver holds anything up: what the bounded queue of the processor cannot
    take (OTEL_BSP_MAX_QUEUE_SIZE) is dropped.
    """

    def __init__(self, exporters: Iterable[SpanExporter], clock: Clock = monotonic_ns) -> None:
        ours = Resource(
            {"service.name": "fastserve", "service.version": __version__, "process.pid": os.getpid()}
        )
        resource = Resource.create().merge(ours).merge(OTELResourceDetector().detect())
        _check_numbers()
        processors = [BatchSpanProcessor(exporter) for exporter in exporters]
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        # Whoever looks at a sampled request wants its batch too, whatever the sampler thinks of batches.
        always = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        for processor in processors:
            self._provider.add_span_processor(processor)
            always.add_span_processor(processor)
        self.tracer = self._provider.get_tracer("fastserve", __version__)
        """Makes the spans of requests, those that OTEL_TRACES_SAMPLER chooses."""
        self.batches = BatchSpans(always.get_tracer("fastserve", __version__), clock)

    def close(self) -> None:
        """Send what is left, for 2 s at most; what cannot be sent by then is lost."""
        sender = threading.Thread(target=self._provider.shutdown, name="fastserve-spans", daemon=True)
        sender.start()
        sender.join(FLUSH_S)
