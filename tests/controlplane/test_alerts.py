"""The alert rules of docs/control-plane.md over series of a day and more, by Prometheus' own promtool."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCS = Path(__file__).resolve().parents[2] / "docs" / "control-plane.md"
PROMTOOL = shutil.which("promtool")

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")


def rules() -> Any:
    found = re.search(r"```yaml\n(# alert rules.*?)```", DOCS.read_text(), re.DOTALL)
    assert found
    return yaml.safe_load(found[1])


def alerting(folder: Path, missing: dict[str, str], minute: int) -> set[str]:
    """Features that FeatureMissing names then; their shares are in promtool's notation, one a minute."""
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": rules()}]}))
    return {feature for feature, values in missing.items() if fires(folder, feature, values, minute)}


def fires(folder: Path, feature: str, values: str, minute: int) -> bool:
    labels = {"model": "m", "version": "1", "feature": feature}
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    expected = {
        "eval_time": f"{minute}m",
        "alertname": "FeatureMissing",
        "exp_alerts": [{"exp_labels": labels}],
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": f"fastserve_missing_share{{{inside}}}", "values": values}],
        "alert_rule_test": [expected],
    }
    (folder / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [test]}))
    command = [str(PROMTOOL), "test", "rules", "test.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "got:[]" in said, said
    return done.returncode == 0


def test_values_that_are_missing_from_the_first_day_on_are_told(tmp_path: Path) -> None:
    missing = {"gone": "1+0x120", "there": "0.1+0x120"}
    assert alerting(tmp_path, missing, 100) == {"gone"}


def test_values_that_are_always_missing_are_not_told_after_the_first_day(tmp_path: Path) -> None:
    missing = {"sparse": "0.7+0x1700", "gone": "0.1+0x1550 0.6+0x150"}
    assert alerting(tmp_path, missing, 1570) == {"gone"}
