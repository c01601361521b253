"""The only wiring point: settings in, running processes out."""

from fastserve.app.child import STOP, end_process, leave
from fastserve.app.supervisor import serve

__all__ = ["STOP", "end_process", "leave", "serve"]
