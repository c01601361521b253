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


SHARES = pytest.mark.parametrize(
    ("alert", "series"),
    [("FeatureMissing", "fastserve_missing_share"), ("FeatureOutOfRange", "fastserve_out_of_range_share")],
)


def alerting(folder: Path, alert: str, series: str, shares: dict[str, str], minute: int) -> set[str]:
    """Features that an alert names then; their shares are in promtool's notation, one a minute."""
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "docs", "rules": rules()}]}))
    return {name for name, values in shares.items() if fires(folder, alert, series, name, values, minute)}


def fires(folder: Path, alert: str, series: str, feature: str, values: str, minute: int) -> bool:
    labels = {"model": "m", "version": "1", "feature": feature}
    inside = ",".join(f'{name}="{value}"' for name, value in labels.items())
    expected = {
        "eval_time": f"{minute}m",
        "alertname": alert,
        "exp_alerts": [{"exp_labels": labels}],
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": f"{series}{{{inside}}}", "values": values}],
        "alert_rule_test": [expected],
    }
    (folder / "test.yml").write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": [test]}))
    command = [str(PROMTOOL), "test", "rules", "test.yml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0 or "got:[]" in said, said
    return done.returncode == 0


@SHARES
def test_what_has_gone_from_the_first_day_on_is_told(tmp_path: Path, alert: str, series: str) -> None:
    shares = {"gone": "1+0x120", "there": "0.1+0x120"}
    assert alerting(tmp_path, alert, series, shares, 100) == {"gone"}


@SHARES
def test_what_was_always_so_is_not_told_after_the_first_day(tmp_path: Path, alert: str, series: str) -> None:
    shares = {"sparse": "0.7+0x1700", "gone": "0.1+0x1550 0.6+0x150"}
    assert alerting(tmp_path, alert, series, shares, 1570) == {"gone"}
