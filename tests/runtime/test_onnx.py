"""One loaded model: what it answers, bound and not, and how it fails."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, reference

from fastserve.errors import ModelFailed, RunStopped
from fastserve.runtime import OnnxRuntime, RuntimeOptions
from fastserve.types import Array
from tests import models


def load(tmp_path: Path, data: bytes, **options: object) -> OnnxRuntime:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return OnnxRuntime(path, RuntimeOptions.model_validate({"provider": "cpu", **options}))


def rows(count: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def pipeline_inputs(count: int) -> list[Array]:
    columns = models.pipeline_rows(count)
    types: dict[str, Any] = {"carrier": object, "origin": object, "distance": np.float32, "hour": np.int64}
    return [np.array(columns[name], dtype=dtype).reshape(-1, 1) for name, dtype in types.items()]


@pytest.mark.parametrize("count", [1, 2, 33])
def test_run_agrees_with_the_reference_implementation(tmp_path: Path, count: int) -> None:
    x = rows(count, 8)
    expected: Any = reference.ReferenceEvaluator(models.mlp(8, 16, 3)).run(None, {"x": x})
    [y] = load(tmp_path, models.mlp(8, 16, 3)).run([x])
    np.testing.assert_allclose(y, expected[0], rtol=1e-5, atol=1e-6)
    assert y.flags.c_contiguous
    assert y.dtype == np.float32


@pytest.mark.parametrize("string_labels", [False, True])
def test_strings_and_several_named_inputs(tmp_path: Path, string_labels: bool) -> None:
    runtime = load(tmp_path, models.pipeline(string_labels))
    inputs = pipeline_inputs(20)
    label, probabilities = runtime.run(inputs)
    assert label.shape == (20,)
    assert probabilities.shape == (20, 2)
    late = inputs[2][:, 0] > 900
    assert np.mean((label == ("late" if string_labels else 1)) == late) > 0.8
    assert isinstance(label[0], str) is string_labels
    alone = [runtime.run([array[i : i + 1] for array in inputs])[1] for i in range(20)]
    np.testing.assert_allclose(np.concatenate(alone), probabilities, rtol=1e-5, atol=1e-6)


def test_an_inner_dimension_that_varies(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.variable_inner())
    for width in (1, 5, 2):
        np.testing.assert_allclose(
            runtime.run([rows(3, width)])[0][:, 0], rows(3, width).sum(axis=1), rtol=1e-5
        )


def test_a_bound_run_reads_and_writes_in_place(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.mlp(8, 16, 3))
    x = rows(4, 8)
    bound = runtime.bind([x])
    assert bound is not None
    first = bound()
    np.testing.assert_array_equal(first[0], runtime.run([x])[0])
    x[:] = rows(4, 8, seed=1)
    second = bound()
    assert second[0] is first[0]
    np.testing.assert_array_equal(second[0], runtime.run([x])[0])


def test_a_bound_run_keeps_its_arrays_alive(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.scaled(3.0, 1000))
    bound = runtime.bind([np.full((10, 1000), 2.0, np.float32)])
    assert bound is not None
    gc.collect()
    _churn = [np.full((10, 1000), 7.0, np.float32) for _ in range(50)]
    np.testing.assert_array_equal(bound()[0], np.full((10, 1000), 6.0))


def test_a_bound_run_of_a_part_of_a_larger_buffer(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.scaled(2.0))
    buffer = np.ones((8, 3), np.float32)
    bound = runtime.bind([buffer[2:5]])
    assert bound is not None
    buffer[2:5] = 4.0
    np.testing.assert_array_equal(bound()[0], np.full((3, 3), 8.0))


def test_a_bound_identity_copies(tmp_path: Path) -> None:
    x = rows(2, 2)
    bound = load(tmp_path, models.identity(TensorProto.FLOAT, "n", 2)).bind([x])
    assert bound is not None
    [y] = bound()
    np.testing.assert_array_equal(y, x)
    assert not np.shares_memory(y, x)


def test_several_outputs_bound(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.gbm())
    x = rows(16, 6)
    bound = runtime.bind([x])
    assert bound is not None
    for mine, expected in zip(bound(), runtime.run([x]), strict=True):
        np.testing.assert_array_equal(mine, expected)
        assert mine.dtype == expected.dtype


def test_a_model_without_batch_dimension_is_bound_too(tmp_path: Path) -> None:
    bound = load(tmp_path, models.fixed_batch(4, 3)).bind([np.ones((4, 3), np.float32)])
    assert bound is not None
    np.testing.assert_array_equal(bound()[0], np.full((4, 3), 2.0))


def test_an_output_that_is_an_input(tmp_path: Path) -> None:
    numbers = np.array([[5], [9]])
    y, row = load(tmp_path, models.passed_through()).run([rows(2, 3), numbers])
    np.testing.assert_array_equal(y, 2 * rows(2, 3))
    np.testing.assert_array_equal(row, numbers)


def chosen_columns() -> bytes:
    """Of how many columns of `x` FP32 [n, 3] the output is, the file does not say."""
    return models.model_bytes(
        [onnx.helper.make_node("Compress", ["x", "which"], ["y"], axis=1)],
        [models.tensor("x", TensorProto.FLOAT, ["n", 3])],
        [models.tensor("y", TensorProto.FLOAT, ["n", "m"])],
        [onnx.numpy_helper.from_array(np.array([True, False, True]), "which")],
    )


@pytest.mark.parametrize(
    ("data", "inputs"),
    [
        pytest.param(models.pipeline(), pipeline_inputs(2), id="strings in"),
        pytest.param(models.identity(TensorProto.STRING, "n"), [np.array(["a"], object)], id="strings out"),
        pytest.param(models.written_out(), [rows(2, 3)], id="numbers in, strings out"),
        pytest.param(models.variable_inner(), [rows(2, 2)], id="an inner dimension that varies"),
        pytest.param(chosen_columns(), [rows(2, 3)], id="an output's inner dimension that varies"),
        pytest.param(models.scaled(), [rows(2, 4)], id="wrong width"),
        pytest.param(models.scaled(), [rows(2, 3).astype(np.float64)], id="wrong type"),
        pytest.param(models.scaled(), [rows(3, 2).T], id="not contiguous"),
        pytest.param(models.scaled(), [rows(0, 3)], id="no rows"),
        pytest.param(models.scaled(), [np.float32(1)], id="a scalar"),
        pytest.param(models.scaled(), [], id="no inputs"),
        pytest.param(models.fixed_batch(4, 3), [rows(3, 3)], id="wrong rows of a fixed batch"),
        pytest.param(
            models.passed_through(), [rows(2, 3), np.array([[5], [9]])], id="an output that is an input"
        ),
    ],
)
def test_bind_declines(tmp_path: Path, data: bytes, inputs: list[Array]) -> None:
    runtime = load(tmp_path, data)
    assert [runtime.bind(inputs) for _ in range(2)] == [None, None]


@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param([np.array([[7]])], id="an index outside the table"),
        pytest.param([np.array([[1.0]])], id="wrong type"),
        pytest.param([np.array([[1, 2]])], id="wrong shape"),
        pytest.param([np.array([["a"]], object)], id="strings"),
        pytest.param([], id="no inputs"),
        pytest.param([np.array([[1]])] * 2, id="too many inputs"),
    ],
)
def test_a_failed_run_says_why_and_harms_nothing(
    tmp_path: Path, inputs: list[Array], capfd: pytest.CaptureFixture[str]
) -> None:
    runtime = load(tmp_path, models.failing_on_negative())
    with pytest.raises(ModelFailed, match=r"the model failed: .") as caught:
        runtime.run(inputs)
    assert "/" not in str(caught.value).replace("inputs/outputs", "")
    assert capfd.readouterr().err == ""
    np.testing.assert_array_equal(runtime.run([np.array([[1]])])[0], [[2.0, 3.0]])


def test_bind_declines_where_the_model_tells_untrue_shapes(tmp_path: Path) -> None:
    model = onnx.load_from_string(models.gbm())
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    runtime = load(tmp_path, model.SerializeToString())
    assert runtime.bind([rows(4, 6)]) is None
    assert [output.shape for output in runtime.run([rows(4, 6)])] == [(4,), (4, 2)]


def test_a_failed_bound_run(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.failing_on_negative())
    row = np.array([[7]])
    assert runtime.bind([row]) is None, "whether its outputs are written nobody knows yet"
    row[:] = 1
    bound = runtime.bind([row])
    assert bound is not None
    row[:] = 7
    with pytest.raises(ModelFailed, match=r"out of data bounds"):
        bound()
    row[:] = 2
    np.testing.assert_array_equal(bound()[0], [[4.0, 5.0]])


def test_a_closed_runtime_fails(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.scaled())
    runtime.close()
    runtime.close()
    assert runtime.bind([rows(1, 3)]) is None
    with pytest.raises(ModelFailed, match=r"closed"):
        runtime.run([rows(1, 3)])


def test_many_threads_run_one_session(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.mlp(8, 16, 3))

    def work(seed: int) -> None:
        x = rows(seed + 1, 8, seed)
        expected = runtime.run([x])[0]
        for _ in range(50):
            np.testing.assert_array_equal(runtime.run([x])[0], expected)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


@pytest.mark.parametrize(
    "options",
    [{"cpu_arena": True}, {"spin_us": 0}, {"intra_op_threads": 2}, {"intra_op_threads": 2, "spin_us": 0}],
)
def test_settings_change_no_answer(tmp_path: Path, options: dict[str, object]) -> None:
    x = rows(5, 8)
    expected = load(tmp_path, models.mlp(8, 16, 3)).run([x])[0]
    np.testing.assert_allclose(
        load(tmp_path, models.mlp(8, 16, 3), **options).run([x])[0], expected, rtol=1e-6
    )


def test_external_data_beside_the_model_is_read(tmp_path: Path) -> None:
    data, raw = models.external_data()
    (tmp_path / "weights.bin").write_bytes(raw)
    np.testing.assert_array_equal(
        load(tmp_path, data).run([np.ones((1, 3), np.float32)])[0], [[2.0, 2.0, 2.0]]
    )


def test_the_cpu_is_called_cpu(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.scaled())
    assert runtime.provider == "cpu"


@pytest.mark.parametrize("bound", [False, True])
def test_an_interrupted_run_fails_and_later_ones_do_not(tmp_path: Path, bound: bool) -> None:
    runtime, x = load(tmp_path, models.looping()), np.array([[3]])
    run = runtime.bind([x]) if bound else lambda: runtime.run([x])
    assert run is not None
    x[0] = 2**62
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(run)
        while not endless.done():  # one that has not begun yet is a later one
            runtime.interrupt()
            time.sleep(0.01)
    with pytest.raises(RunStopped, match="it ran longer than it may"):
        endless.result()
    x[0] = 5
    assert run()[0].tolist() == [[5]]


def test_a_closed_model_can_be_interrupted(tmp_path: Path) -> None:
    runtime = load(tmp_path, models.looping())
    runtime.close()
    runtime.interrupt()
