"""What the control plane's settings refuse."""

import pytest
from pydantic import ValidationError

from fastserve.controlplane.options import ControlOptions


@pytest.mark.parametrize("token", ["secret\n", " secret", "sécret", ""])
def test_a_token_that_no_header_carries_is_refused(token: str) -> None:
    with pytest.raises(ValidationError, match="must be printable ASCII"):
        ControlOptions.model_validate({"token": token})


def test_a_token() -> None:
    options = ControlOptions.model_validate({"token": "s3cret"})
    assert options.token is not None and options.token.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(options)
