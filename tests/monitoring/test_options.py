"""What is refused before a server starts, since every snapshot would fail with it."""

import pytest
from pydantic import ValidationError

from fastserve.errors import ConfigError
from fastserve.monitoring.options import MonitoringOptions


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:8002", "http://h:8002/", "http://[::1]:8002", "http://10.0.0.1:1"]
)
def test_a_control_plane_elsewhere(url: str) -> None:
    assert MonitoringOptions(control_url=url).control_url == url


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://h", "http://", "http://:8002", "http://h:80x2", "http://h:0", "http://h:70000"),
        *("http://h/prefix", "http://u:p@h", "http://h?x", "http://h#x", "http://[::1"),
    ],
)
def test_what_is_no_address_of_a_control_plane(url: str) -> None:
    with pytest.raises(ValidationError, match="control_url"):
        MonitoringOptions(control_url=url)


@pytest.mark.parametrize("token", ["", "secret\n", " secret", "sec\x00ret", "sécret"])
def test_a_token_that_no_header_carries(token: str) -> None:
    with pytest.raises(ValidationError, match="printable ASCII"):
        MonitoringOptions.model_validate({"control_token": token})


def test_a_model_may_set_some_of_them() -> None:
    options = MonitoringOptions(pin_rows=5)
    assert options.overridden({}) == options
    assert options.overridden({"enabled": False}).enabled is False
    assert options.overridden({"pin_rows": 7, "max_features": 3}).pin_rows == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval_s": 1}, "monitoring.interval_s is not one of enabled, pin_rows, max_features"),
        ({"pin_rows": -1}, "monitoring.pin_rows: Input should be greater than or equal to 0"),
        ({"enabled": "perhaps"}, "monitoring.enabled: "),
    ],
)
def test_and_no_others(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MonitoringOptions().overridden(settings)
