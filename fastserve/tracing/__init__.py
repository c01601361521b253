"""Spans of requests and batches for OpenTelemetry, of which nothing is imported while tracing is off."""

from fastserve.tracing.options import TracingOptions
from fastserve.tracing.run import BatchTrace, TracedRun
from fastserve.tracing.switch import open_tracing, require_tracing

__all__ = ["BatchTrace", "TracedRun", "TracingOptions", "open_tracing", "require_tracing"]
