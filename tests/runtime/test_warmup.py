"""What the warm-up learns: costs, limits, and whether rows stay apart."""

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from fastserve.clock import ManualClock
from fastserve.errors import InvalidRequest, ModelFailed
from fastserve.runtime import Bound, OnnxRuntime, RuntimeOptions, observed, warm
from fastserve.runtime.examples import blank_rows, first_that_runs
from fastserve.runtime.warmup import fit
from fastserve.types import Array, DataType, Signature, TensorSpec
from tests import models

MS = 1_000_000


class Puppet:
    """A model whose run takes as long as it is told on a clock that only it moves."""

    provider = "cpu"

    def __init__(self, cost_ns: Callable[[int], int], datatype: DataType = DataType.FP32) -> None:
        self.clock = ManualClock()
        self.cost_ns = cost_ns
        self.seen: list[int] = []
        self.signature = Signature(
            (TensorSpec("x", datatype, (-1, 3, -1)),),
            (TensorSpec("y", DataType.FP32, (-1, 1)),),
            batched=True,
        )

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        rows = inputs[0].shape[0]
        assert inputs[0].shape == (rows, 3, 1)
        self.seen.append(rows)
        self.clock.advance(ns=self.cost_ns(rows))
        return [np.zeros((rows, 1), np.float32)]

    def bind(self, inputs: Sequence[Array]) -> Bound | None:
        return None

    def interrupt(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


def load(tmp_path: Path, data: bytes) -> OnnxRuntime:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return OnnxRuntime(path, RuntimeOptions.model_validate({"provider": "cpu"}))


def test_buckets_double_up_to_the_wish() -> None:
    puppet = Puppet(lambda rows: 1_000 * rows + 50_000)
    table = warm(puppet, 100, 10_000, clock=puppet.clock)
    assert [rows for rows, _ in table.buckets] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert table.buckets[0] == (1, 51_000)
    assert (table.batchable, table.max_rows, table.reason) == (True, 100, "")
    assert table.row_ns == pytest.approx(1_000)
    assert table.base_ns == pytest.approx(50_000)
    assert table.row_ns * 64 + table.base_ns == pytest.approx(114_000)


def test_a_slow_bucket_ends_the_climb() -> None:
    puppet = Puppet(lambda rows: 3 * MS * rows)
    table = warm(puppet, 1024, 60_000, max_bucket_ms=20, clock=puppet.clock)
    assert table.max_rows == 4
    assert max(puppet.seen) == 8
    assert table.reason == "8 rows take 24 ms, over 20 ms"


def test_one_row_is_always_allowed() -> None:
    puppet = Puppet(lambda rows: 500 * MS)
    table = warm(puppet, 8, clock=puppet.clock)
    assert (table.batchable, table.max_rows) == (True, 1)
    assert max(puppet.seen) == 1


def test_a_model_slower_than_the_budget_is_run_a_few_times_only() -> None:
    puppet = Puppet(lambda rows: 20_000 * MS)
    assert warm(puppet, 8, 2_000, clock=puppet.clock).base_ns == 20_000 * MS
    assert len(puppet.seen) <= 4
    puppet = Puppet(lambda rows: 20_000 * MS)
    _, row = observed(puppet)
    warm(puppet, 8, 2_000, clock=puppet.clock, example=row)
    assert len(puppet.seen) <= 4
    puppet = Puppet(lambda rows: 20_000 * MS)
    puppet.signature = replace(puppet.signature, batched=False)
    assert warm(puppet, 8, 2_000, clock=puppet.clock).base_ns == 20_000 * MS
    assert len(puppet.seen) <= 2


def test_an_output_that_is_squeezed_has_the_dimensions_of_more_rows_than_one(tmp_path: Path) -> None:
    squeezed = models.model_bytes(
        [helper.make_node("Squeeze", ["x"], ["y"])],
        [models.tensor("x", TensorProto.FLOAT, ["batch", 1])],
        [models.tensor("y", TensorProto.FLOAT, ["batch"])],
    )
    runtime = load(tmp_path, squeezed)
    signature, _ = observed(runtime)
    assert (signature.batched, signature.outputs[0].shape) == (True, (-1,))
    assert runtime.run([np.zeros((3, 1), np.float32)])[0].shape == (3,)


def test_an_output_of_which_nothing_is_known_is_shown_as_it_comes() -> None:
    class Window(Puppet):
        def run(self, inputs: Sequence[Array]) -> list[Array]:
            if inputs[0].shape != (8,):
                raise ModelFailed("it takes eight samples")
            return [np.zeros(2, np.float32)]

    puppet, window = Puppet(lambda rows: 0), Window(lambda rows: 0)
    unknown = (TensorSpec("y", DataType.FP32, ()),)
    puppet.signature = replace(puppet.signature, outputs=unknown)
    signature, _ = observed(puppet)
    assert (signature.batched, signature.outputs[0].shape) == (True, (-1, -1))
    window.signature = Signature((TensorSpec("x", DataType.FP32, (-1,)),), unknown, batched=True)
    signature, _ = observed(window)
    assert not signature.batched, "eight samples are no eight rows"


@pytest.mark.parametrize(("window", "samples"), [(1, 1), (4, 8)])
def test_a_scalar_has_no_rows(tmp_path: Path, window: int, samples: int) -> None:
    """Only a run tells it from an output of which nothing is known, and that of a signal may need some samples."""
    loudness = models.model_bytes(
        [
            helper.make_node("Unsqueeze", ["x", "axes"], ["signal"]),
            helper.make_node("MaxPool", ["signal"], ["peaks"], kernel_shape=[window]),
            helper.make_node("ReduceMean", ["peaks"], ["y"], keepdims=0),
        ],
        [models.tensor("x", TensorProto.FLOAT, ["samples"])],
        [models.tensor("y", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.array([0, 1]), "axes")],
    )
    runtime = load(tmp_path, loudness)
    assert runtime.signature.batched
    runtime.signature, row = observed(runtime)
    assert [array.shape for array in row] == [(samples,)]
    assert (runtime.signature.batched, runtime.signature.outputs[0].shape) == (False, ())
    assert warm(runtime, 8, example=row).reason == "the model has no variable batch dimension"


def test_a_neighbour_that_takes_the_core_for_a_moment_does_not_cost_batches() -> None:
    costs = iter([MS] * 6 + [MS] + [40 * MS] * 5)
    puppet = Puppet(lambda rows: next(costs, MS))
    assert warm(puppet, 64, 60_000, max_bucket_ms=20, clock=puppet.clock).max_rows == 64


def test_runs_that_a_neighbour_makes_slow_do_not_count() -> None:
    costs = itertools.cycle([MS, MS, 50 * MS])
    puppet = Puppet(lambda rows: next(costs))
    assert warm(puppet, 1, 10_000, clock=puppet.clock).buckets == ((1, MS),)


def test_when_the_budget_is_spent_the_estimate_decides() -> None:
    puppet = Puppet(lambda rows: MS * rows)
    table = warm(puppet, 1024, 10, max_bucket_ms=100, clock=puppet.clock)
    assert [rows for rows, _ in table.buckets] == [1, 2]
    assert table.max_rows == 100
    assert table.reason == "1024 rows would take longer than 100 ms"
    puppet = Puppet(lambda rows: MS)
    assert warm(puppet, 1024, 10, max_bucket_ms=100, clock=puppet.clock).max_rows == 1024
    puppet = Puppet(lambda rows: 20 * MS)
    table = warm(puppet, 1024, 10, max_bucket_ms=100, clock=puppet.clock)
    assert [rows for rows, _ in table.buckets] == [1, 2], "whether rows stay apart must be known"
    puppet = Puppet(lambda rows: 60 * MS + rows * MS // 20)
    table = warm(puppet, 1024, 10, max_bucket_ms=100, clock=puppet.clock)
    assert table.max_rows == pytest.approx((100 - 60) * 20, abs=1), "a run costs something without rows"


@pytest.mark.parametrize("datatype", list(DataType))
def test_every_datatype_is_made_up(datatype: DataType) -> None:
    puppet = Puppet(lambda rows: 10, datatype)
    assert warm(puppet, 4, clock=puppet.clock).max_rows == 4


@pytest.mark.parametrize(
    ("data", "largest"),
    [
        pytest.param(models.mlp(8, 16, 3), 32, id="mlp"),
        pytest.param(models.gbm(), 32, id="gbm"),
        pytest.param(models.pipeline(string_labels=True), 32, id="strings"),
        pytest.param(models.variable_inner(), 32, id="variable inner dimension"),
        pytest.param(models.failing_on_negative(), 32, id="indices"),
        pytest.param(models.identity(TensorProto.STRING, "n", 2), 32, id="strings out"),
        pytest.param(models.identity(TensorProto.FLOAT16, "n", 2), 32, id="half floats"),
        pytest.param(models.identity(TensorProto.BOOL, "n"), 32, id="vectors"),
        pytest.param(models.convolution(), 32, id="images of more than a pixel"),
        pytest.param(models.open_image(), 32, id="images whose channels are open"),
        pytest.param(models.open_image(channels_last=True), 32, id="images whose last dimension is open"),
        pytest.param(models.open_image(side=224), 4, id="images of one size that is open"),
    ],
)
def test_real_models_are_batchable(tmp_path: Path, data: bytes, largest: int) -> None:
    table = warm(load(tmp_path, data), largest, 60_000, max_bucket_ms=60_000)
    assert (table.batchable, table.max_rows, table.reason) == (True, largest, "")
    assert table.base_ns >= 0
    assert table.row_ns >= 0
    assert table.row_ns + table.base_ns > 0


def doubled() -> bytes:
    """Two rows for one, as of two boxes in a picture."""
    x, y = (models.tensor(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
    return models.model_bytes([helper.make_node("Concat", ["x", "x"], ["y"], axis=0)], [x], [y])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (doubled(), "output 'y' has 2 rows for 1 input rows"),
        (models.fixed_batch(), "the model has no variable batch dimension"),
        (models.unique_rows(), "output 'y' has 1 rows for 2 input rows"),
        (models.centred(), "output 'y' of a row depends on which rows share its run"),
        (models.dynamically_quantised(), "output 'y' of a row depends on which rows share its run"),
        (models.counting_twins(), "output 'y' of a row depends on which rows share its run"),
        (models.any_flag(), "output 'y' of a row depends on which rows share its run"),
        (models.baked_in(), "it runs one row, but not two: the model failed: "),
        (models.squared(), "it runs one row, but not two: input 'x' has 1 in dimension 1 where "),
        (models.words(), "the shape of output 'y' depends on which rows share a run"),
    ],
)
def test_models_whose_rows_do_not_stay_apart(tmp_path: Path, data: bytes, reason: str) -> None:
    table = warm(load(tmp_path, data), 16, 60_000)
    assert (table.batchable, table.max_rows) == (False, 0)
    assert table.reason.startswith(reason)
    [(rows, took)] = table.buckets
    assert rows == 1
    assert table.row_ns + table.base_ns == took > 0


def test_rows_that_are_lost_for_some_values_only() -> None:
    class Signs(Puppet):
        def run(self, inputs: Sequence[Array]) -> list[Array]:
            signs = np.sign(inputs[0][:, 0])
            return [np.unique(signs, axis=0) if signs.any() else signs]

    table = warm(Signs(lambda rows: 0), 4)
    assert (table.max_rows, table.reason) == (0, "output 'y' of a row depends on which rows share its run")


@pytest.mark.parametrize(
    ("answer", "most"),
    [
        (lambda x: np.full(x.shape, np.nan), 4),
        (lambda x: np.random.default_rng().standard_normal(x.shape), 4),
        (lambda x: np.where([True, False, False], np.inf, x.mean()) + 0 * x, 0),
        (lambda x: np.where([True, False, False], np.nan, x.mean()) + 0 * x, 0),
    ],
    ids=["no numbers", "drawn by lot", "mixed beside what is infinite", "mixed beside what is no number"],
)
def test_what_is_no_sign_of_mixing_and_what_hides_none(answer: Callable[[Array], Array], most: int) -> None:
    class Answering(Puppet):
        def run(self, inputs: Sequence[Array]) -> list[Array]:
            super().run(inputs)
            return [answer(inputs[0][:, :, 0]).astype(np.float32)]

    puppet = Answering(lambda rows: rows * MS)
    table = warm(puppet, 4, clock=puppet.clock)
    assert table.max_rows == most
    assert most or table.base_ns == MS, "what one row takes"


@pytest.mark.parametrize("error", [ModelFailed("no"), InvalidRequest("no")])
def test_values_that_a_model_refuses_say_nothing_and_others_are_tried(error: Exception) -> None:
    class Picky(Puppet):
        """Takes floats up to `most`; whether an integer is large it answers for all rows."""

        most = 0

        def run(self, inputs: Sequence[Array]) -> list[Array]:
            x, k = inputs
            if np.abs(x).max() > self.most:
                raise error
            return [np.full(x.shape, k.max() > 5, np.float32)]

    puppet = Picky(lambda rows: 0)
    inputs = TensorSpec("x", DataType.FP32, (-1, 1)), TensorSpec("k", DataType.INT64, (-1, 1))
    puppet.signature = replace(puppet.signature, inputs=inputs)
    assert warm(puppet, 4).max_rows == 4
    puppet.most = 100
    assert warm(puppet, 4).max_rows == 0


def test_an_output_that_calls_the_batch_1_is_batched_all_the_same(tmp_path: Path) -> None:
    model = onnx.load_from_string(models.gbm())
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    table = warm(load(tmp_path, model.SerializeToString()), 8, 60_000)
    assert (table.batchable, table.max_rows) == (True, 8)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        *(((-1, -1), (1, size)) for size in (1, 8, 32, 256, 1024)),
        ((-1, 3, -1, -1), (1, 3, 224, 224)),
        ((-1, -1, -1, -1), (1, 3, 256, 256)),
        ((-1, -1, -1, -1), (1, 32, 32, 3)),
    ],
)
@pytest.mark.parametrize("batched", [True, False])
def test_a_model_that_takes_one_size_only_is_tried_with_it(
    given: tuple[int, ...], wanted: tuple[int, ...], batched: bool
) -> None:
    tried: list[tuple[int, ...]] = []

    def takes(inputs: list[Array]) -> list[Array]:
        tried.append(inputs[0].shape)
        if tried[-1] not in (wanted, wanted[1:]):
            raise ModelFailed(f"not {tried[-1]}")
        return inputs

    spec = TensorSpec("x", DataType.FP32, given if batched or len(given) == 4 else given[1:])
    signature = Signature((spec,), (spec,), batched)
    assert first_that_runs(signature, takes)[0][0].shape == tried[-1]
    assert max(map(math.prod, tried)) <= 2**20
    wanted, first = (0,), tried[0]
    with pytest.raises(ModelFailed, match=re.escape(f"not {first}")):
        first_that_runs(signature, takes)


def test_a_model_of_fixed_sizes_is_tried_once() -> None:
    spec = TensorSpec("x", DataType.FP32, (-1, 3))
    assert len(list(blank_rows(Signature((spec,), (spec,), batched=True)))) == 1


def test_an_example_replaces_zeros(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.variable_inner())
    shapes: set[tuple[int, ...]] = set()
    run = runtime.run

    def spy(inputs: Sequence[Array]) -> list[Array]:
        shapes.add(inputs[0].shape)
        return run(inputs)

    runtime.run = spy  # type: ignore[method-assign]
    warm(runtime, 4, 60_000, max_bucket_ms=60_000, example=[np.ones((2, 7), np.float32)])
    assert {(1, 7), (2, 7), (4, 7)} <= shapes
    assert all(width == 7 for _, width in shapes)


def test_a_model_that_does_not_run_is_reported() -> None:
    class Broken(Puppet):
        def run(self, inputs: Sequence[Array]) -> list[Array]:
            raise ModelFailed("no")

    with pytest.raises(ModelFailed):
        warm(Broken(lambda rows: 0), 4)


def test_a_model_that_runs_two_rows_but_not_more_is_reported() -> None:
    class Small(Puppet):
        def run(self, inputs: Sequence[Array]) -> list[Array]:
            if inputs[0].shape[0] > 2:
                raise ModelFailed("no memory")
            return super().run(inputs)

    with pytest.raises(ModelFailed, match="no memory"):
        warm(Small(lambda rows: 0), 4)


@given(
    a=st.floats(0, 1e5),
    b=st.floats(1_000, 1e7),
    largest=st.integers(1, 12),
)
def test_fit_finds_what_it_was_made_from(a: float, b: float, largest: int) -> None:
    rows = [2**i for i in range(largest + 1)]
    got_a, got_b = fit([(n, round(a * n + b)) for n in rows])
    for n in rows:
        assert got_a * n + got_b == pytest.approx(a * n + b, rel=0.01)


@given(st.lists(st.tuples(st.integers(1, 4096), st.integers(0, 10**10)), min_size=1, max_size=13))
def test_fit_is_never_negative(buckets: list[tuple[int, int]]) -> None:
    a, b = fit(buckets)
    assert a >= 0
    assert b >= 0
    assert np.isfinite(a + b)
