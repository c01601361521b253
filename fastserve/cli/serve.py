"""`fastserve serve`: one server over one registry, in the foreground until a signal ends it."""

import os
from typing import Annotated

import typer

from fastserve.cli.common import SETTINGS, ConfigFile, Debug, Described, Registry, note

_EPILOG = (
    "Example: [bold]fastserve serve --registry ./registry --workers 2[/bold]"
    "\n\nThen ask it: [bold]curl localhost:8000/v2/models/flights[/bold]"
    "\n\nEvery other setting is in configs/server.yaml and in the environment as FASTSERVE_SECTION__NAME, "
    "for instance FASTSERVE_HTTP__MAX_BODY_BYTES=1048576."
)


def serve(
    registry: Registry = None,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="PORT")] = None,
    grpc_port: Annotated[int | None, typer.Option("--grpc-port", metavar="PORT")] = None,
    control_port: Annotated[int | None, typer.Option("--control-port", metavar="PORT")] = None,
    workers: Annotated[int | None, typer.Option("--workers", metavar="N")] = None,
    config: ConfigFile = None,
    log_level: Annotated[str | None, typer.Option("--log-level", metavar="LEVEL")] = None,
    debug: Debug = False,
) -> None:
    """Serve every model of a registry over HTTP until Ctrl-C or SIGTERM."""
    from fastserve.config import load

    given = {
        "--host": host,
        "--port": port,
        "--grpc-port": grpc_port,
        "--control-port": control_port,
        "--workers": workers,
        "--log-level": log_level,
    }
    flags = {flag: (SETTINGS[flag], value) for flag, value in given.items()}
    settings = load(config, os.environ, {"--registry": (("registry",), registry), **flags})
    settings.registry_dir()
    for flag, value, missing in (
        ("--grpc-port", grpc_port, "gRPC front end"),
        ("--control-port", control_port, "control plane"),
    ):
        if value:
            note(f"this release has no {missing}: {flag} {value} is accepted and not opened")

    from fastserve.app import serve as run

    raise typer.Exit(run(settings))


def add_to(app: typer.Typer) -> None:
    """Make the verb part of the command."""
    app.command("serve", cls=Described, epilog=_EPILOG)(serve)
