"""The only wiring point: settings in, running processes out."""

from fastserve.app.supervisor import serve

__all__ = ["serve"]
