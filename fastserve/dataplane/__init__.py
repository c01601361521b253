"""The one entry that every front end calls: find a version, infer with it."""

from fastserve.dataplane.plane import Context, DataPlane, IndexEntry
from fastserve.dataplane.served import Served

__all__ = ["Context", "DataPlane", "IndexEntry", "Served"]
