"""`fastserve monitor report`: how far the rows that a version serves lie from its reference."""

from pathlib import Path
from typing import Annotated

import typer

from fastserve.cli.common import (
    STDOUT,
    AsJson,
    ConfigFile,
    Debug,
    check_target,
    note,
    print_json,
    print_text,
    told,
)
from fastserve.cli.monitor.asking import Control, Since, Version, address, ask

EPILOG = (
    "Example: [bold]fastserve monitor report flights@champion --since 7d --html drift.html[/bold]"
    "\n\nFor each feature, the worst first: PSI, Jensen-Shannon distance, Kolmogorov-Smirnov, and from the "
    "reference to the live rows: missing, out of range or unseen, mean. A PSI from 0.1 is worth a look, from "
    "0.25 another population."
)


def report(
    name: Version,
    since: Since = "24h",
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            dir_okay=False,
            help="Write it as one HTML file with plots, too; - for standard output, instead of the table.",
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", metavar="N", min=1, help="Features in the table.")] = 20,
    control: Control = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Compare the rows that a version served lately with its profile, feature by feature."""
    if html is not None:
        check_target(html, "--html", as_json)
    found = ask(address(control, config), name, since)
    if html is not None:
        from fastserve.controlplane.html import render_html

        page = render_html(found)
        if html == STDOUT:
            print_text(page)
            return
        with told(html):
            html.write_text(page, "utf-8")
        note(f"wrote {html}")
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from fastserve.cli.monitor.showing import report_parts
    from fastserve.cli.tables import show

    show(*report_parts(found, top))
