"""`fastserve models load` and `unload`: whether a model is wanted at all, written where servers read it."""

from fastserve.cli.common import ConfigFile, Debug, Registry, say, settings
from fastserve.cli.models.naming import Name, find_model
from fastserve.cli.models.opening import open_registry

LOAD_EPILOG = "Example: [bold]fastserve models load flights[/bold]"
UNLOAD_EPILOG = (
    "Example: [bold]fastserve models unload flights[/bold]"
    "\n\nNothing is deleted, and it stays so over restarts, until [bold]fastserve models load flights[/bold]."
)


def load(name: Name, registry: Registry = None, config: ConfigFile = None, debug: Debug = False) -> None:
    """Serve a model that was unloaded; running servers follow within a second."""
    store = open_registry(settings(registry, config))
    store.set_loaded(find_model(store, name), True)
    say(f"{name} is to be served")


def unload(name: Name, registry: Registry = None, config: ConfigFile = None, debug: Debug = False) -> None:
    """Stop serving a model on every server of this registry; requests in flight are answered."""
    store = open_registry(settings(registry, config))
    store.set_loaded(find_model(store, name), False)
    say(f"{name} is not to be served until it is loaded again")
