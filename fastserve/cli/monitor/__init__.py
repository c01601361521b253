"""`fastserve monitor`: what a model's rows look like, and how far two sets of rows lie apart."""

import typer

from fastserve.cli.monitor import compare, profile, report, watch

app = typer.Typer(
    no_args_is_help=True,
    help="Describe the rows a model was trained on, and see how far others lie from them.",
    epilog="Example: [bold]fastserve monitor profile train.parquet --model flights@champion[/bold]"
    "\n\nData files: .parquet, .arrow, .feather, .csv, .csv.gz, .tsv; they need "
    "[bold]pip install 'fastserve\\[data]'[/bold]"
    "\n\nExit codes: 0 done, 1 failed, 2 wrong use.",
)
app.command("profile", epilog=profile.EPILOG)(profile.profile)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("report", epilog=report.EPILOG)(report.report)
app.command("watch", epilog=watch.EPILOG)(watch.watch)
