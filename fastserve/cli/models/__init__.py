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
app.command("publish", epilog=publish.EPILOG)(publish.publish)
app.command("list", epilog=listing.EPILOG)(listing.list_models)
app.command("show", epilog=show.EPILOG)(show.show)
app.command("alias", epilog=alias.EPILOG)(alias.alias)
app.command("rollback", epilog=rollback.EPILOG)(rollback.rollback)
app.command("tag", epilog=tag.EPILOG)(tag.tag)
app.command("archive", epilog=archive.EPILOG)(archive.archive)
app.command("verify", epilog=verify.EPILOG)(verify.verify)
app.command("audit", epilog=audit.EPILOG)(audit.audit)
app.command("gc", epilog=gc.EPILOG)(gc.gc)
app.command("import", epilog=importing.EPILOG)(importing.import_models)
app.command("load", epilog=loading.LOAD_EPILOG)(loading.load)
app.command("unload", epilog=loading.UNLOAD_EPILOG)(loading.unload)
app.command("keygen", epilog=keygen.EPILOG)(keygen.keygen)
