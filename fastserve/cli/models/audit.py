"""`fastserve models audit`: who did what to a model, and whether the log was tampered with."""

from typing import Annotated, Any

import typer

from fastserve.cli.common import AsJson, ConfigFile, Debug, Registry, note, print_json, say, settings
from fastserve.cli.models.naming import Name, find_model, spans
from fastserve.cli.models.opening import open_registry

EPILOG = (
    "Example: [bold]fastserve models audit flights --last 10[/bold]"
    "\n\nEvery line carries the hash of the line before it, and the newest hash is kept apart: "
    "[bold]fastserve models audit flights --verify[/bold] finds lines that were edited, removed or "
    "reordered, and a tail that was cut off. Without it, lines that cannot be read are left out and named."
)


def audit(
    name: Name,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check the chain instead; exit code 1 when it is broken.")
    ] = False,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, help="Only the newest N lines.")
    ] = None,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Show what happened to a model, the newest last."""
    store = open_registry(settings(registry, config))
    find_model(store, name)
    if verify:
        problems = store.check_audit(name)
        _tell(name, problems, as_json)
        raise typer.Exit(1 if problems else 0)
    lines, unreadable = store.read_audit(name)
    rows: list[dict[str, Any]] = [
        {"seq": line.seq, "at": line.at, "by": line.by, "event": line.event, "details": dict(line.details)}
        for line in (lines[-last:] if last else lines)
    ]
    if as_json:
        print_json(rows)
    elif not rows and not unreadable:
        typer.echo(f"nothing was done to {name} by fastserve", err=True)
    elif rows:
        from fastserve.cli.models.showing import audit_table
        from fastserve.cli.tables import show

        show(audit_table(rows))
    if unreadable:
        many = len(unreadable) > 1 or len(unreadable[0]) > 1
        note(
            f"{name}/audit.jsonl: line{'s' * many} {spans(unreadable)} cannot be read; "
            f"`fastserve models audit {name} --verify` tells more"
        )


def _tell(model: str, problems: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"model": model, "sound": not problems, "problems": problems})
    elif not problems:
        say(f"{model}: the audit log is sound")
    else:
        for problem in problems:
            note(problem)
