"""The `fastserve` command: one file per verb, nothing heavy imported before a verb needs it."""

import io
import os
import sys
from typing import Annotated, Any

import typer

from fastserve import __version__
from fastserve.cli import control, demo, models, monitor, serve
from fastserve.cli.common import Debug, Described, complain, note
from fastserve.errors import ConfigError

app = typer.Typer(
    name="fastserve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serve ONNX models from a registry directory over the Open Inference Protocol.",
    epilog=(
        "Try it: [bold]fastserve demo[/bold] trains a model on real flights, publishes, serves and asks it."
        "\n\nExit codes: 0 done, 1 failed, 2 wrong use."
    ),
)
app.command("serve", cls=Described, epilog=serve.EPILOG)(serve.serve)
app.command("control", cls=Described, epilog=control.EPILOG)(control.control)
app.add_typer(models.app, name="models")
app.add_typer(monitor.app, name="monitor")
app.command("demo", epilog=demo.EPILOG)(demo.demo)

_UsageError: Any = typer.BadParameter.__base__
"""Everything that the arguments can have wrong; typer gives it no public name."""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastserve {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave."),
    ] = False,
    debug: Debug = False,
) -> None:
    pass


def _open_standard_streams() -> None:
    """Have something behind descriptors 0 to 2 that takes any text: closed ones could become a socket's."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal's letters lack must not fail what is done
        sys.stdout.reconfigure(errors="replace")


def _flush() -> None:
    """Have what was said on stdout written, or fail now: the interpreter's own end would, with code 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where the rest goes
        raise


def _tell_usage(error: Any) -> None:
    """Say what is wrong with the arguments, and where to look; nothing when the help was shown instead."""
    if text := " ".join(error.format_message().split()):
        end = "" if text.endswith((".", "?")) else "."
        note(f"{text}{end} Try '{error.ctx.command_path} -h' for help." if error.ctx else text)


def main() -> None:
    """Run the command line; the exit code is 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    _open_standard_streams()
    try:
        try:
            sys.exit(app(prog_name="fastserve", standalone_mode=False))
        finally:
            _flush()
    except _UsageError as error:
        _tell_usage(error)
        sys.exit(2)
    except ConfigError as error:
        complain(error)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the outermost frame: what comes up here is told and ends the process
        complain(error)
        sys.exit(1)
