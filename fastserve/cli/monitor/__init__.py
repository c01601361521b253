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
for _verb in (profile, compare, report, watch):
    _verb.add_to(app)
