"""What every verb shares: its options, how errors look, and which exit code they give."""

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperOption

from fastserve.errors import FastserveError

_state = {"debug": False}


def _set_debug(value: bool) -> bool:
    if value:
        _state["debug"] = True
    return value


Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, is_eager=True, help="Show tracebacks of errors.")
]
Registry = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        metavar="DIR",
        file_okay=False,
        help="The registry directory. Without it: FASTSERVE_REGISTRY, then `registry:` of the configuration.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        envvar="FASTSERVE_CONFIG",
        help="YAML file with settings, which the environment and the flags win over.",
    ),
]


class Described(TyperCommand):
    """A verb whose options take their help from the settings they stand for, read only when asked for."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Fill in the missing help texts, then show them all."""
        from fastserve.config.describe import help_text

        for param in self.params:
            setting = SETTINGS.get(param.opts[0])
            if setting is not None and isinstance(param, TyperOption):
                param.help = escape(help_text(setting))
        super().format_help(ctx, formatter)


SETTINGS = {
    "--host": ("server", "host"),
    "--port": ("server", "port"),
    "--grpc-port": ("server", "grpc_port"),
    "--control-port": ("server", "control_port"),
    "--workers": ("server", "workers"),
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
    sys.stderr.write(f"fastserve: {line}\n")


def registry_dir(flag: Path | None, config: Path | None) -> Path:
    """The registry that the flag, the environment or the configuration names; ConfigError when none does."""
    from fastserve.config import load

    return load(config, os.environ, {"--registry": (("registry",), flag)}).registry_dir()
