"""Whether tracing is on, decided without importing anything of OpenTelemetry."""

import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fastserve.errors import ConfigError
from fastserve.tracing.options import TracingOptions

if TYPE_CHECKING:
    from fastserve.tracing.exporting import Tracing

_MAX_WORDS = 500

log = logging.getLogger("fastserve.tracing")


def require_tracing(options: TracingOptions) -> None:
    """Look before anything is started whether what is asked for can be had, and say what it costs.

    Raises
    ------
    ConfigError
        The extra is not installed, or an exporter that OTEL_TRACES_EXPORTER names is not; or another
        variable OTEL_… has a wrong value.
    """
    if not options.enabled:
        return
    if not _allowed():
        log.warning("tracing is enabled, but OTEL_SDK_DISABLED turns it off")
        return
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise ConfigError("tracing is enabled and needs OpenTelemetry: pip install 'fastserve[otel]'")
    _unset_empty()
    _try()
    # Imported here, before workers are forked, it is in memory once.
    from fastserve.tracing.exporting import exporter_classes

    names = ", ".join(kind.__name__ for kind in exporter_classes()) or "nowhere"
    log.info("tracing is on: spans go to %s; no request takes the fast path", names)


def open_tracing(options: TracingOptions) -> "Tracing | None":
    """Start tracing in this process, which must not fork from then on; None when it is off.

    Raises
    ------
    ConfigError
        As of `require_tracing`.
    """
    if not options.enabled or not _allowed():
        return None
    try:
        # Some variables are read, and refused, as modules are imported.
        from fastserve.tracing.exporting import Tracing, open_exporters

        return Tracing(open_exporters())
    except ValueError as error:
        raise ConfigError(f"a variable OTEL_… has a wrong value: {error}") from error


def _unset_empty() -> None:
    """Take variables without a value away: that is what they mean, but not all of OpenTelemetry knows."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        if not os.environ[name].strip():
            del os.environ[name]


def _try() -> None:
    """Start tracing in a process of its own: threads must not be where workers are forked from."""
    script = (
        "from fastserve.errors import ConfigError\n"
        "from fastserve.tracing import TracingOptions, open_tracing\n"
        "try:\n"
        "    open_tracing(TracingOptions(enabled=True))\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    words = (done.stdout or done.stderr).strip().splitlines()
    if done.returncode or (words and done.stdout):
        raise ConfigError(words[-1][:_MAX_WORDS] if words else "tracing cannot be started")


def _allowed() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"
