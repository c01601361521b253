"""What is refused before a server starts, since every snapshot would fail with it."""

import pytest
from pydantic import ValidationError

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
