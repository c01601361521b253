"""`fastserve control`: the control plane alone, in the foreground until a signal ends it."""

from typing import Annotated, Any

import typer

from fastserve.cli.common import ConfigFile, Debug, Registry, end_when_told, settings

EPILOG = (
    "Example: [bold]FASTSERVE_CONTROL__TOKEN=… fastserve control --registry ./registry "
    "--control-host 0.0.0.0 --database postgresql+psycopg://fastserve@db/fastserve[/bold]"
    "\n\nServers elsewhere send it their statistics with "
    "FASTSERVE_MONITORING__CONTROL_URL=http://HOST:8002 and FASTSERVE_MONITORING__CONTROL_TOKEN. "
    "`fastserve serve` without these starts a control plane of its own."
)


def control(
    registry: Registry = None,
    host: Annotated[str | None, typer.Option("--control-host", metavar="ADDRESS")] = None,
    port: Annotated[str | None, typer.Option("--control-port", metavar="PORT")] = None,
    database: Annotated[str | None, typer.Option("--database", metavar="URL")] = None,
    config: ConfigFile = None,
    log_level: Annotated[str | None, typer.Option("--log-level", metavar="LEVEL")] = None,
    debug: Debug = False,
) -> None:
    """Gather statistics of servers on other machines: metrics, reports, until Ctrl-C or SIGTERM."""
    end_when_told()
    flags: dict[str, Any] = {
        "--control-host": host,
        "--control-port": port,
        "--database": database,
        "--log-level": log_level,
    }
    chosen = settings(registry, config, flags)
    chosen.registry_dir()

    from fastserve.app import end_process
    from fastserve.app.gathering import control as run

    # A database that hangs holds a thread, and the interpreter's own end would wait for it.
    end_process(run(chosen))
