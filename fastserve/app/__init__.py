"""The only wiring point: settings in, running processes out."""

from fastserve.app.child import end_process, leave
from fastserve.app.supervisor import serve

__all__ = ["end_process", "leave", "serve"]
