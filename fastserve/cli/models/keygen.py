"""`fastserve models keygen`: a pair of keys to sign versions with and to check them by."""

from pathlib import Path
from typing import Annotated

import typer

from fastserve.cli.common import Debug, say

EPILOG = (
    "Example: [bold]fastserve models keygen release.pem release.pub.pem[/bold]"
    "\n\nThen [bold]fastserve models publish flights model.onnx --sign release.pem[/bold] where models are "
    "made, and `lifecycle.require_signature: \\[release.pub.pem]` where they are served."
    "\n\nNeeds the extra: [bold]pip install 'fastserve\\[sign]'[/bold]"
)


def keygen(
    private: Annotated[
        Path, typer.Argument(metavar="PRIVATE", help="New file for the private key: keep it secret.")
    ],
    public: Annotated[
        Path, typer.Argument(metavar="PUBLIC", help="New file for the public key: give it to servers.")
    ],
    debug: Debug = False,
) -> None:
    """Make an ed25519 pair of keys, both PEM; files that are there are not overwritten."""
    from fastserve.registry import signing

    signing.generate(private, public)
    say(f"{private} (private), {public} (public)")
