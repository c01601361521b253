"""The first rows of a version become its reference, whoever brings them and however odd a batch is."""

import threading
from typing import Any

import numpy as np
import pytest

from fastserve.monitoring.pinning import Pinner
from tests.monitoring import profiles

SHAPE = profiles.signature([("x", "FP32", 2)], [("y", "FP32", 1)])


def test_threads_bring_each_row_once() -> None:
    """Batches of several shapes run on several threads; no row is left unwritten, none is kept twice."""
    full: list[Pinner] = []
    one = Pinner(SHAPE, 40_000, 100, full.append)

    def work(first: int) -> None:
        for at in range(first, first + 12_000, 8):
            x = np.arange(2 * at, 2 * at + 16, dtype=np.float32).reshape(8, 2)
            one.update([x], [x[:, :1]], 8)

    threads = [threading.Thread(target=work, args=(12_000 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.rows == one.wanted == 40_000
    assert full == [one]
    x = one._kept[0]
    assert (x[:, 1] == x[:, 0] + 1).all()
    assert len(np.unique(x[:, 0])) == 40_000


@pytest.mark.parametrize("output", [np.float32(1.0).reshape(()), np.zeros((0, 1)), np.zeros((3, 5))])
def test_a_batch_that_is_not_what_the_model_says_is_left_out(output: Any) -> None:
    one = Pinner(SHAPE, 10, 100, lambda _: None)
    one.update([np.zeros((3, 2), np.float32)], [output], 3)
    assert one.rows == 0
    one.update([np.zeros((3, 2), np.float32)], [np.zeros((3, 1), np.float32)], 3)
    assert one.rows == 3
