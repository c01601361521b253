"""From versions on disk to loaded, warmed versions in memory."""

from fastserve.lifecycle.loader import Loaded, Loader
from fastserve.lifecycle.manager import Manager, Record
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.lifecycle.states import VersionState

__all__ = ["LifecycleOptions", "Loaded", "Loader", "Manager", "Record", "VersionState"]
