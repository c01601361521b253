"""Spans of batches: `batch` and `run` in a trace of their own, `queue` in the trace of every member."""

import time

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from fastserve.clock import Clock
from fastserve.tracing.run import TracedRun

_MAX_LINKS = 128


class BatchSpans:
    """Makes the spans of runs after the fact, from the times that the batcher measured.

    A batch belongs to all its members alike, so it is a trace of its own, linked both ways: from `batch` to
    the spans of its members (at most 128) and from each member's `queue` to `batch`.
    """

    def __init__(self, tracer: Tracer, clock: Clock) -> None:
        self._tracer = tracer
        self._clock = clock

    def parent(self) -> SpanContext | None:
        """The current span, if it is sampled."""
        context = get_current_span().get_span_context()
        return context if context.trace_flags.sampled else None

    def ran(self, run: TracedRun) -> None:
        """Make `batch`, its child `run`, and a `queue` for each member that it began."""
        offset_ns = time.time_ns() - self._clock()  # from the batcher's clock to the time of day
        began_ns = run.began_ns + offset_ns
        version = {"fastserve.model": run.model, "fastserve.version": run.version}
        batch = self._tracer.start_span(
            "batch",
            Context(),
            attributes={
                **version,
                "fastserve.batch.rows": run.rows,
                "fastserve.batch.requests": run.requests,
                **({"fastserve.batch.apart": True} if run.apart else {}),
            },
            links=[Link(parent) for parent, _ in run.members[:_MAX_LINKS]],
            start_time=began_ns,
        )
        self._run(run, batch, offset_ns)
        batch.end(run.answered_ns + offset_ns)
        link = [Link(batch.get_span_context())]
        for parent, arrived_ns in run.members:
            if arrived_ns is not None:
                of_request = set_span_in_context(NonRecordingSpan(parent), Context())
                waited = self._tracer.start_span(
                    "queue", of_request, attributes=version, links=link, start_time=arrived_ns + offset_ns
                )
                waited.end(began_ns)

    def _run(self, run: TracedRun, batch: Span, offset_ns: int) -> None:
        inside = set_span_in_context(batch, Context())
        span = self._tracer.start_span("run", inside, start_time=run.began_ns + offset_ns)
        if run.error is not None:
            span.set_attribute("error.type", type(run.error).__name__)
            span.set_status(StatusCode.ERROR, str(run.error))
        span.end(run.ended_ns + offset_ns)
