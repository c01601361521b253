"""What a model takes and gives, and which models no protocol can carry."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from fastserve.errors import ModelRejected
from fastserve.runtime import inspect
from fastserve.runtime.signature import signature_of
from fastserve.types import DataType, Signature, TensorSpec
from tests import models
from tests.runtime.nodes import Node, Shape


def signature(tmp_path: Path, data: bytes) -> Signature:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return inspect(path)


def test_a_pipeline_with_strings(tmp_path: Path) -> None:
    assert signature(tmp_path, models.pipeline(string_labels=True)) == Signature(
        inputs=(
            TensorSpec("carrier", DataType.BYTES, (-1, 1)),
            TensorSpec("origin", DataType.BYTES, (-1, 1)),
            TensorSpec("distance", DataType.FP32, (-1, 1)),
            TensorSpec("hour", DataType.INT64, (-1, 1)),
        ),
        outputs=(
            TensorSpec("label", DataType.BYTES, (-1,)),
            TensorSpec("probabilities", DataType.FP32, (-1, 2)),
        ),
        batched=True,
    )


@pytest.mark.parametrize(
    ("element", "datatype"),
    [
        (TensorProto.BOOL, DataType.BOOL),
        (TensorProto.UINT8, DataType.UINT8),
        (TensorProto.UINT16, DataType.UINT16),
        (TensorProto.UINT32, DataType.UINT32),
        (TensorProto.UINT64, DataType.UINT64),
        (TensorProto.INT8, DataType.INT8),
        (TensorProto.INT16, DataType.INT16),
        (TensorProto.INT32, DataType.INT32),
        (TensorProto.INT64, DataType.INT64),
        (TensorProto.FLOAT16, DataType.FP16),
        (TensorProto.FLOAT, DataType.FP32),
        (TensorProto.DOUBLE, DataType.FP64),
        (TensorProto.STRING, DataType.BYTES),
    ],
)
def test_every_datatype(tmp_path: Path, element: int, datatype: DataType) -> None:
    got = signature(tmp_path, models.identity(element, "n", 2))
    assert got == Signature(
        (TensorSpec("x", datatype, (-1, 2)),), (TensorSpec("y", datatype, (-1, 2)),), batched=True
    )


@pytest.mark.parametrize(
    ("inputs", "outputs", "batched"),
    [
        ([["n", 3]], [["n", 2]], True),
        ([[None, 3]], [["n", 2]], True),
        ([["n", 3]], [[None]], True),
        ([["n", 3], ["n"]], [["n", 2]], True),
        ([["n", "length"]], [["n", 1]], True),
        ([[-1, 3]], [[-1, 3]], True),
        ([["n", 3], ["m", 3]], [["n", 2]], False),
        ([["n", 3]], [["other", 3], [1]], True),
        ([["n", 3], ["n"]], [["other", 3], [1]], True),
        ([["n", 3], [None]], [["n", 3]], True),
        ([[None, 3], [None]], [[None, 3]], True),
        ([["n", 3], [None]], [["other", 3]], False),
        ([[None, 3], [None]], [[1, 3]], False),
        ([["n", 3]], [[5, 3]], False),
        ([[4, 3]], [["n", 3]], False),
        ([["n", 3]], [[]], True),
        ([[None, 3], [None]], [[]], False),
        ([[]], [["n"]], False),
        ([], [["n"]], False),
    ],
)
def test_the_batch_is_one_variable_dimension(
    inputs: list[Shape], outputs: list[Shape], batched: bool
) -> None:
    asked = [Node(shape) for shape in inputs]
    given = [Node(shape, f"y{i}") for i, shape in enumerate(outputs)]
    assert signature_of(asked, given).batched is batched


def test_a_dimension_is_a_size_or_variable() -> None:
    got = signature_of([Node([2, 0, -1, None, "n"])], [Node([1])])
    assert got.inputs[0].shape == (2, 0, -1, -1, -1)


def test_an_output_that_calls_the_batch_1(tmp_path: Path) -> None:
    """As converters of trees write the label of a classifier."""
    model = onnx.load_from_string(models.gbm())
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    got = signature(tmp_path, model.SerializeToString())
    assert got.batched
    assert got.outputs[0].shape == (-1,)


def test_a_model_without_variable_dimensions(tmp_path: Path) -> None:
    got = signature(tmp_path, models.fixed_batch(rows=4, width=3))
    assert got.inputs == (TensorSpec("x", DataType.FP32, (4, 3)),)
    assert not got.batched


def test_a_classifier_with_zipmap_is_told_how_to_convert(tmp_path: Path) -> None:
    with pytest.raises(
        ModelRejected, match=r"output 'output_probability' .*'zipmap': False.*or zipmap=False.*CatBoost"
    ):
        signature(tmp_path, models.with_zipmap())


def test_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    """No answer could say which is which; onnxruntime itself does not mind."""
    model = onnx.load_from_string(models.scaled())
    model.graph.output.append(model.graph.output[0])
    with pytest.raises(ModelRejected, match=r"2 outputs have the name 'y'"):
        signature(tmp_path, model.SerializeToString())


def test_a_sequence_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match=r"output 'pieces' has the type seq\(tensor\(float\)\)"):
        signature(tmp_path, models.sequence_output())


def test_an_element_type_no_client_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match=r"input 'x' has elements of type bfloat16"):
        signature(tmp_path, models.identity(TensorProto.BFLOAT16, "n", 2))


@pytest.mark.parametrize("kind", ["tensor(float8e4m3fn)", "tensor(int4)", "tensor(complex64)"])
def test_small_and_complex_numbers_are_refused(kind: str) -> None:
    with pytest.raises(ModelRejected, match=r"output 'y' has elements of type \w+, "):
        signature_of([Node(["n"])], [Node(["n"], "y", kind)])


def test_an_optional_input_is_refused() -> None:
    with pytest.raises(ModelRejected, match=r"input 'x' has the type optional\(tensor\(float\)\)"):
        signature_of([Node(["n"], type="optional(tensor(float))")], [Node(["n"], "y")])


@pytest.mark.parametrize("data", [b"", b"not a model", models.mlp(3, 4, 2)[:-20], models.mlp(3, 4, 2)[:10]])
def test_what_is_not_onnx_is_refused_without_its_path(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ModelRejected, match=r"onnxruntime cannot load the model: ") as caught:
        signature(tmp_path, data)
    assert str(tmp_path) not in str(caught.value)


def test_external_data_outside_the_directory_is_refused(tmp_path: Path) -> None:
    data, raw = models.external_data("../weights.bin")
    (tmp_path / "weights.bin").write_bytes(raw)
    (tmp_path / "inside").mkdir()
    with pytest.raises(ModelRejected, match=r"onnxruntime cannot load the model: "):
        signature(tmp_path / "inside", data)
