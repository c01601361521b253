"""The one entry that every front end calls: find a version, infer with it."""

from fastserve.dataplane.plane import DataPlane, IndexEntry
from fastserve.dataplane.served import Served

__all__ = ["DataPlane", "IndexEntry", "Served"]
