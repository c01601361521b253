"""`fastserve demo`: the whole way on real data, from a CSV file to answers over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from fastserve.cli.common import ConfigFile, Debug, Registry, end_on_hangup, settings

EPILOG = (
    "Example: [bold]fastserve demo --keep-serving[/bold]"
    "\n\nThe model is published to DIR/registry unless --registry, FASTSERVE_REGISTRY or "
    "the configuration names another."
    "\n\nAt the end the control plane says how far the rows that were sent lie from the training rows: "
    "DIR/report.html shows it with plots, DIR/registry.control has what was counted."
    "\n\nNeeds the extras: [bold]pip install 'fastserve\\[demo,cpu]'[/bold]"
)
_SHOWN_FEATURES = 8


def demo(
    folder: Annotated[
        Path,
        typer.Option(
            "--dir", metavar="DIR", file_okay=False, help="Where the model and its registry are kept."
        ),
    ] = Path("demo"),
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Leave the server running until Ctrl-C, to try it by hand.")
    ] = False,
    registry: Registry = None,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Train a model on real flights, publish it, serve it, and ask it about flights it has never seen."""
    from fastserve.demo import check_extras

    check_extras()
    chosen = settings(registry, config)

    from fastserve.demo.run import run

    end_on_hangup()
    ports = chosen.server.port, chosen.server.control_port
    run(folder, chosen.registry or folder / "registry", keep_serving, ports, _show_report)


def _show_report(answer: bytes, page: Path) -> None:
    """Show a report as `fastserve monitor report` does; the demo itself knows no control plane."""
    from fastserve.cli.monitor.showing import report_parts
    from fastserve.cli.tables import show
    from fastserve.controlplane.html import render_html
    from fastserve.controlplane.reporting import Report

    found = Report.model_validate_json(answer)
    show(*report_parts(found, _SHOWN_FEATURES))
    page.write_text(render_html(found), "utf-8")
