"""Prints constraints for pip: of what users install, the oldest release that pyproject.toml allows."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for wanted in {
    *project["dependencies"],
    *(one for name in extras if name not in ("gpu", "demo", "dev") for one in extras[name]),
}:
    print(re.sub(r"\[.*?\]|;.*", "", wanted).replace(">=", "=="))
