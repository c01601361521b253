"""`fastserve serve`: one server over one registry, in the foreground until a signal ends it."""

import gc
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fastserve.cli.common import ConfigFile, Debug, Registry, end_when_told, note, settings

EPILOG = (
    "Example: [bold]fastserve serve --registry ./registry --workers 2[/bold]"
    "\n\nThen ask it what it has: [bold]curl localhost:8000/v2/models[/bold]"
    "\n\n--require-signature may be given again for another key. "
    "Every other setting goes into the file of --config or into the environment as "
    "FASTSERVE_SECTION__NAME, such as FASTSERVE_HTTP__DOCS=false. All of them with their defaults: "
    "[bold]python -m fastserve.config.reference[/bold]"
)


def serve(
    registry: Registry = None,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS")] = None,
    port: Annotated[str | None, typer.Option("--port", metavar="PORT")] = None,
    grpc_port: Annotated[str | None, typer.Option("--grpc-port", metavar="PORT")] = None,
    control_port: Annotated[str | None, typer.Option("--control-port", metavar="PORT")] = None,
    workers: Annotated[str | None, typer.Option("--workers", metavar="N")] = None,
    keys: Annotated[
        list[Path] | None,
        typer.Option("--require-signature", metavar="PUB", exists=True, dir_okay=False),
    ] = None,
    config: ConfigFile = None,
    log_level: Annotated[str | None, typer.Option("--log-level", metavar="LEVEL")] = None,
    debug: Debug = False,
) -> None:
    """Serve every model of a registry over HTTP until Ctrl-C or SIGTERM."""
    end_when_told()
    # Importing makes many objects and no garbage; collections are back when the first model is loaded.
    gc.disable()
    # numpy would start a thread a core, 50 ms, for linear algebra that nothing here is large enough for.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    flags: dict[str, Any] = {
        "--host": host,
        "--port": port,
        "--grpc-port": grpc_port,
        "--control-port": control_port,
        "--workers": workers,
        "--require-signature": keys or None,
        "--log-level": log_level,
    }
    chosen = settings(registry, config, flags)
    chosen.registry_dir()
    if grpc_port is not None and chosen.server.grpc_port:
        note(f"this release has no gRPC front end: --grpc-port {grpc_port} is accepted and not opened")

    from fastserve.app import end_process
    from fastserve.app import serve as run

    try:
        code = run(chosen)
    except SystemExit:
        code = 0
    end_process(code)
