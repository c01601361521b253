"""One schema, read from one YAML file, the environment and the flags; the only room that reads either."""

from fastserve.config.load import load
from fastserve.config.schema import Config

__all__ = ["Config", "load"]
