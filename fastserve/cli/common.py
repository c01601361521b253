"""What every verb shares: its options, how errors look, and which exit code they give."""

import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from typer.core import TyperCommand, TyperOption

from fastserve.errors import ConfigError, FastserveError
from fastserve.text import visible

if TYPE_CHECKING:
    from fastserve.config import Config

STDOUT = Path("-")
"""By convention, where a file to write is asked for."""

_state = {"debug": False}


def _set_debug(value: bool) -> bool:
    if value:
        _state["debug"] = True
    return value


def _directory(text: str) -> Path:
    path = Path(text)
    if not text:  # an unset variable of a shell script is not the current directory
        raise typer.BadParameter("it is empty, not a directory")
    if path.exists() and not path.is_dir():
        raise typer.BadParameter(f"'{text}' is a file, not a directory")
    return path


Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, is_eager=True, help="Show tracebacks of errors.")
]
Registry = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        metavar="DIR",
        parser=_directory,
        help="The registry directory. Without it: FASTSERVE_REGISTRY, then `registry:` of the configuration.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        dir_okay=False,
        envvar="FASTSERVE_CONFIG",
        help="YAML file with settings, which the environment and the flags win over.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs instead of a table for people.")
]


class Described(TyperCommand):
    """A verb whose options take their help from the settings they stand for, read only when asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Fill in the missing help texts, then show them all."""
        from rich.markup import escape

        from fastserve.config.describe import help_text

        for param in self.params:
            if isinstance(param, TyperOption) and param.help is None:
                param.help = escape(help_text(_SETTINGS[param.opts[0]]))
        super().format_help(ctx, formatter)


_SETTINGS = {
    "--registry": ("registry",),
    "--host": ("server", "host"),
    "--port": ("server", "port"),
    "--grpc-port": ("server", "grpc_port"),
    "--control-port": ("server", "control_port"),
    "--control-host": ("control", "host"),
    "--database": ("control", "database"),
    "--workers": ("server", "workers"),
    "--require-signature": ("lifecycle", "require_signature"),
    "--log-level": ("log", "level"),
}
"""The flags that stand for settings."""


def complain(error: BaseException) -> None:
    """Write the error to stderr, a line for each thing that is wrong; with --debug, its traceback before."""
    if _state["debug"]:
        traceback.print_exception(error)
    expected = isinstance(error, FastserveError | OSError)
    lines = str(error).splitlines() or [type(error).__name__]
    if not expected:
        lines[0] = f"unexpected {type(error).__name__}: {lines[0]} (--debug shows where)"
    for line in lines:
        note(line)


def note(line: str) -> None:
    """One line for the person at the terminal, on stderr."""
    with suppress(OSError):  # a full disk: what was asked for goes on
        sys.stderr.write(f"fastserve: {visible(line)}\n")


def say(line: str) -> None:
    """One line of what the command was asked for, on stdout."""
    sys.stdout.write(visible(line) + "\n")


def print_json(value: Any) -> None:
    """Write a value for programs to stdout."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # names of files that are no UTF-8, and whole numbers beyond 64 bits
        text = json.dumps(value, indent=2)
    print_text(text + "\n")


def print_text(text: str) -> None:
    """Write text for programs to stdout, in UTF-8 whatever letters a terminal has."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(text)


def check_target(path: Path, flag: str, as_json: bool) -> None:
    """Say before the work, not after it, that there is no place for its result; ConfigError."""
    if path == STDOUT and as_json:
        raise ConfigError(f"{flag} - and --json both write to standard output: leave one out")
    if not path.parent.is_dir():
        raise ConfigError(f"{flag}: there is no directory '{path.parent}'")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an OSError into a FastserveError that names the file as the user gave it."""
    try:
        yield
    except OSError as error:
        raise FastserveError(f"{path} cannot be written: {error.strerror}") from error


def end_on_hangup() -> None:
    """Let SIGHUP, as a closed terminal sends it, end the process like SIGTERM; not under nohup."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def end_when_told() -> None:
    """Let a signal that asks to stop end the process with 0, as long as there is nothing to clear up.

    At once: what a handler raises can be lost in an import.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    end_on_hangup()


def settings(registry: Path | None, config: Path | None, flags: Mapping[str, Any] | None = None) -> "Config":
    """Read the configuration and put the flags over it; once a command, because its file may be a pipe.

    ConfigError says what is wrong in it.
    """
    from fastserve.config import load

    given = {"--registry": registry, **(flags or {})}
    return load(config, os.environ, {flag: (_SETTINGS[flag], value) for flag, value in given.items()})
