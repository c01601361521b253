"""The only wiring point: settings in, running processes out."""

from fastserve.app.child import end_process
from fastserve.app.supervisor import serve

__all__ = ["end_process", "serve"]
