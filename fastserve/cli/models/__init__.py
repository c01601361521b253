"""`fastserve models`: put models into the registry, say which of them answers, look at what is there."""

import typer

from fastserve.cli.models import (
    alias,
    archive,
    audit,
    gc,
    importing,
    keygen,
    listing,
    loading,
    publish,
    rollback,
    show,
    tag,
    verify,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Publish models to the registry, choose which version answers, check what is there.",
    epilog="Example: [bold]fastserve models publish flights model.onnx --alias champion[/bold], "
    "and if it was a mistake [bold]fastserve models rollback flights[/bold]."
    "\n\nEvery command but keygen takes --registry DIR; FASTSERVE_REGISTRY saves the typing. "
    "A running server follows within a second. NAME@VERSION takes an alias for VERSION."
    "\n\nExit codes: 0 done, 1 failed, 2 wrong use.",
)
for _verb in (
    publish,
    listing,
    show,
    alias,
    rollback,
    tag,
    archive,
    verify,
    audit,
    gc,
    importing,
    loading,
    keygen,
):
    _verb.add_to(app)
