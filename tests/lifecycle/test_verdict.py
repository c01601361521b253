"""What the answer of a test process means, however that process came to its end."""

import signal
from typing import Any

import pytest

from fastserve.errors import ModelRejected
from fastserve.lifecycle.probe_child import verdict


@pytest.mark.parametrize(
    ("code", "report", "words"),
    [
        (-signal.SIGXCPU, None, "took longer than 2 s"),
        (-signal.SIGABRT, None, "crashed a test process (signal 6)"),
        (0, None, "ended a test process (exit code 0)"),
        (3, ["memory"], "ended a test process (exit code 3)"),
        (0, {"signature": {"inputs": 1}}, "reported nonsense"),
    ],
)
def test_what_an_answer_means(code: int, report: Any, words: str) -> None:
    answer = {"code": code, "expired": False, "report": report}
    with pytest.raises(ModelRejected) as caught:
        verdict(answer, {"timeout_s": 2.0, "memory_bytes": 1}, clean_errors_count=True)
    assert words in str(caught.value)
