"""After a burst its memory goes back, and rows that come later are written where the model reads them."""

import asyncio
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from fastserve.batching import BatchingOptions, LatencyModel, Target
from fastserve.batching import bound as bound_module
from fastserve.batching import ring as ring_module
from fastserve.batching.bound import BoundRuns
from fastserve.batching.ring import Ring, rows_to_hold
from fastserve.types import Array, DataType
from tests.batching.bench import INLINE, THREADED, Bench, asynchronous, bench
from tests.batching.puppet import PuppetRuntime
from tests.waiting import until


class BindingRuntime(PuppetRuntime):
    """Keeps the arrays that a run is bound to, as onnxruntime does."""

    def bind(self, inputs: Sequence[Array]) -> Callable[[], list[Array]]:
        return lambda: self.run(inputs)


async def answered(b: Bench, *values: float) -> None:
    (y,) = await b.ask(*values)
    assert y[:, 0].tolist() == [2 * value for value in values]


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_memory_of_a_burst_goes_back(where: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "_TRIM_BYTES", 3 * 8)
    async with bench(BindingRuntime(), **where) as b:
        await answered(b, 1.0, 2.0, 3.0)
        small = b.batcher.ring.arrays[0]
        b.batcher.housekeep()
        assert b.batcher.ring.arrays[0] is small, "three rows are no burst"
        await asyncio.gather(answered(b, 4.0, 5.0), answered(b, 6.0, 7.0))
        await answered(b, 5.0)  # a few rows after it do not hide a burst
        burst = weakref.ref(small)
        del small
        b.batcher.housekeep()
        until(lambda: burst() is None)  # the thread that ran lets go of its work in its own time
        assert b.batcher.lane.buffers is b.batcher.ring.buffers
        await answered(b, 8.0, 9.0)
        quiet = b.batcher.ring.arrays[0]
        b.batcher.housekeep()
        assert b.batcher.ring.arrays[0] is quiet, "the burst is over"


@asynchronous
async def test_nothing_is_taken_away_from_rows_that_wait_or_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring_module, "_TRIM_BYTES", 0)
    async with bench(**THREADED) as b:
        arrays = b.batcher.ring.arrays
        waiting = b.ask(3.0)
        await asyncio.sleep(0)
        b.batcher.housekeep()
        assert b.batcher.ring.arrays is arrays
        await waiting
        first = await b.busy()
        second = asyncio.ensure_future(answered(b, 1.0, 2.0))
        await asyncio.sleep(0)
        b.batcher.housekeep()
        assert b.batcher.ring.arrays is arrays
        b.free()
        await asyncio.gather(first, second)
        nobody = await b.busy()
        nobody.cancel()
        await asyncio.gather(nobody, return_exceptions=True)
        b.batcher.housekeep()
        assert b.batcher.ring.arrays is arrays, "the model still reads them"
        b.free()


@pytest.mark.parametrize("where", [INLINE, THREADED], ids=["inline", "threaded"])
@asynchronous
async def test_only_what_runs_inline_is_bound_and_nothing_is_held_in_the_end(where: dict[str, Any]) -> None:
    async with bench(BindingRuntime(), **where) as b:
        await answered(b, 1.0)
        assert bool(b.batcher._bound._kept) is (where is INLINE)
        array = weakref.ref(b.batcher.ring.arrays[0])
        b.batcher.free()
        until(lambda: array() is None, 20)  # the thread that ran lets go of its work in its own time


def test_runs_are_bound_once_for_each_number_of_rows_and_to_no_more_than_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bound_module, "_MOST", 2)
    ring = Ring([(DataType.FP32, (2,))], 8, 4)
    runs = BoundRuns(BindingRuntime())
    first, second, third = runs.get(ring, 1), runs.get(ring, 2), runs.get(ring, 3)
    assert runs.get(ring, 1) is first and runs.get(ring, 2) is second
    assert first[0] is not None and third[0] is None
    assert [len(inputs[0]) for _, inputs in (first, second, third)] == [1, 2, 3]


def test_strings_and_their_staging_are_let_go_after_any_traffic() -> None:
    rows = [(DataType.BYTES, (1,)), (DataType.FP32, (1,))]
    ring = Ring(rows, 4, 2)
    text, number = np.array([["a"], ["b"]], object), np.ones((2, 1), np.float32)
    ring.write(1, [text, number])
    assert [one.tolist() for one in ring.gather([(0, 0, 1, 2), (1, 0, 1, -1)], {1: [text, number]}, 2)] == [
        [["b"], ["a"]],
        [[1.0], [1.0]],
    ]
    assert not ring.trim(3)
    assert ring.arrays[0].tolist() == [[None]] * 4
    assert ring._staging is None


@pytest.mark.parametrize(
    ("datatype", "options", "answer_row_bytes", "expected"),
    [
        (DataType.FP32, {}, 0, 65_536),
        (DataType.FP32, {"max_queue_rows": 100}, 0, 100),
        (DataType.FP32, {"max_queue_bytes": 2**16}, 0, 2**16 // 8),
        (DataType.FP32, {"max_answer_bytes": 2**16}, 64, 2**16 // 64),
        (DataType.BYTES, {"max_queue_rows": 2**30, "max_queue_bytes": 2**40}, 0, 2**19),
        (DataType.FP32, {"max_queue_rows": 1}, 0, 8),
    ],
)
def test_a_ring_holds_what_may_wait_and_a_batch_at_least(
    datatype: DataType, options: dict[str, Any], answer_row_bytes: int, expected: int
) -> None:
    rows = [(datatype, (2,))]
    target = Target("m", "1", PuppetRuntime(), rows, 8, LatencyModel(0.0, 0.0), answer_row_bytes)
    assert rows_to_hold(target, BatchingOptions(**options)) == expected
