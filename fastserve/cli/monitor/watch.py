"""`fastserve monitor watch`: the report as it changes, until Ctrl-C."""

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from fastserve.cli.common import ConfigFile, Debug
from fastserve.cli.monitor.asking import Control, Since, Version, address, ask
from fastserve.errors import ConfigError, FastserveError

if TYPE_CHECKING:
    from rich.console import Console

    from fastserve.controlplane.reporting import Report

EPILOG = (
    "Example: [bold]fastserve monitor watch flights@champion --since 15m[/bold]"
    "\n\nWhere there is no terminal, one table is printed. Ctrl-C ends it."
)
_PERIOD = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)(ms|s|m)", re.ASCII)
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0}
_LINES_AROUND = 8
"""Of a terminal, that are not the table's rows."""


def watch(
    name: Version,
    every: Annotated[
        str, typer.Option("--every", metavar="PERIOD", help="How often to ask: 500ms, 2s, 1m.")
    ] = "2s",
    since: Since = "1h",
    control: Control = None,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Show how far the rows that a version serves lie from its profile, anew every few seconds."""
    period_s, base = _period(every), address(control, config)
    from rich.console import Console

    from fastserve.cli.monitor.showing import report_parts
    from fastserve.cli.tables import show

    console = Console()
    try:
        found = ask(base, name, since)
        if console.is_terminal:
            _follow(console, found, base, name, since, period_s)
        else:
            show(*report_parts(found, 20))
    except KeyboardInterrupt:
        return


def _follow(console: "Console", found: "Report", base: str, name: str, since: str, period_s: float) -> None:
    """Draw until interrupted; a control plane that is away for a while is said above the last table."""
    from rich.console import Group
    from rich.live import Live

    from fastserve.cli.monitor.showing import report_parts
    from fastserve.cli.tables import text

    trouble = ""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            parts = report_parts(found, max(console.height - _LINES_AROUND, 1))
            said = text(trouble, style="red") if trouble else text(f"every {period_s:g} s", style="dim")
            live.update(Group(said, *parts), refresh=True)
            time.sleep(period_s)
            try:
                found, trouble = ask(base, name, since), ""
            except FastserveError as error:
                trouble = str(error)


def _period(text: str) -> float:
    match = _PERIOD.fullmatch(text)
    period_s = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not 0.2 <= period_s <= 3_600:
        raise ConfigError(f"--every: '{text[:64]}' is no period of 200ms to 60m, such as 2s")
    return period_s
