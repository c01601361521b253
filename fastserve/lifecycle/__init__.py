"""From versions on disk to loaded, warmed versions in memory, and back."""

from fastserve.lifecycle.ahead import Ahead, load_ahead, load_small
from fastserve.lifecycle.control import LoadControl
from fastserve.lifecycle.loader import Loaded, Loader
from fastserve.lifecycle.manager import Manager
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.scanning import Scanner
from fastserve.lifecycle.states import Record, VersionState
from fastserve.lifecycle.threads import LoadThreads
from fastserve.lifecycle.watch import Watcher
from fastserve.lifecycle.wishes import Route, Wish, by_urgency

__all__ = [
    "Ahead",
    "LifecycleOptions",
    "LoadControl",
    "LoadThreads",
    "Loaded",
    "Loader",
    "Manager",
    "Record",
    "Route",
    "Scanner",
    "VersionState",
    "Watcher",
    "Wish",
    "by_urgency",
    "load_ahead",
    "load_small",
]
