"""Finding external data by hand, against what the onnx package finds."""

from pathlib import Path

import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.external_data_helper import _get_all_tensors, uses_external_data

from fastserve.errors import ModelRejected
from fastserve.registry.rules import FileRules, check_model_file
from tests import models

HEAD = b"\x08\x08\x42\x02\x10\x11"
"""IR version 8, operator set 17."""


def locations(tmp_path: Path, data: bytes) -> set[str]:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    return check_model_file(path, FileRules())


def field_length(size: int) -> bytes:
    encoded = b""
    while size > 127:
        encoded, size = encoded + bytes([size & 127 | 128]), size >> 7
    return encoded + bytes([size])


def outside(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=location)
    return tensor


def nested() -> onnx.ModelProto:
    """External tensors at every place where a tensor can hide."""
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=outside("c", "constant.bin"))],
        "branch",
        [],
        [models.tensor("c", TensorProto.FLOAT, [1])],
        [outside("w", "branch.bin")],
    )
    node = helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch)
    several = helper.make_attribute("tensors", [outside("a", "list-a.bin"), outside("b", "list-b.bin")])
    graphs = helper.make_attribute("graphs", [branch])
    node.attribute.extend([several, graphs])
    graph = helper.make_graph([node], "graph", [], [models.tensor("y", TensorProto.FLOAT, [1])])
    graph.initializer.append(outside("i", "initializer.bin"))
    sparse = graph.sparse_initializer.add()
    sparse.values.CopyFrom(outside("v", "values.bin"))
    sparse.indices.CopyFrom(outside("n", "indices.bin"))
    constant = helper.make_node("Constant", [], ["s"])
    attribute = constant.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.CopyFrom(outside("sv", "sparse.bin"))
    attribute = constant.attribute.add(name="several", type=onnx.AttributeProto.SPARSE_TENSORS)
    attribute.sparse_tensors.add().values.CopyFrom(outside("sl", "sparse-list.bin"))
    graph.node.append(constant)
    model = helper.make_model(graph)
    function = model.functions.add(name="f", domain="local")
    function.opset_import.append(helper.make_opsetid("", 17))
    function.node.append(helper.make_node("Constant", [], ["c"], value=outside("c", "function.bin")))
    function.attribute_proto.append(helper.make_attribute("default", outside("d", "default.bin")))
    model.training_info.add().initialization.initializer.append(outside("t", "training.bin"))
    return model


def test_every_hiding_place(tmp_path: Path) -> None:
    assert locations(tmp_path, nested().SerializeToString()) == {
        "branch.bin",
        "constant.bin",
        "default.bin",
        "function.bin",
        "indices.bin",
        "initializer.bin",
        "list-a.bin",
        "list-b.bin",
        "sparse-list.bin",
        "sparse.bin",
        "training.bin",
        "values.bin",
    }


def test_the_onnx_package_finds_no_more(tmp_path: Path) -> None:
    model = nested()
    found = {
        entry.value for t in _get_all_tensors(model) if uses_external_data(t) for entry in t.external_data
    }
    assert found - {"0"} <= locations(tmp_path, model.SerializeToString())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(models.mlp(4, 8, 2), id="mlp"),
        pytest.param(models.gbm(), id="gbm"),
        pytest.param(models.pipeline(), id="pipeline"),
        pytest.param(models.identity(1, "location"), id="the word alone"),
    ],
)
def test_models_that_hold_their_own_weights(tmp_path: Path, data: bytes) -> None:
    assert locations(tmp_path, data) == set()


def test_a_location_behind_an_unusual_encoding(tmp_path: Path) -> None:
    data, _ = models.external_data("weights.bin")
    # The key's length 8 in two bytes instead of one, and every length around it one larger.
    inner = b"\x0a\x08location"
    entry = b"\x6a" + bytes([len(inner) + 2 + len("weights.bin")]) + inner
    assert entry in data
    tensor_proto = b"\x6a" + bytes([entry[1] + 1]) + b"\x0a\x88\x00location" + b"\x12\x0bweights.bin"
    graph = b"\x2a" + bytes([len(tensor_proto)]) + tensor_proto
    assert locations(tmp_path, HEAD + b"\x3a" + bytes([len(graph)]) + graph) == {"weights.bin"}


def test_graphs_in_graphs_do_not_recurse(tmp_path: Path) -> None:
    data = b""
    for _ in range(3_000):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # attribute.g, node.attribute, graph.node
            data = tag + field_length(len(data)) + data
    with pytest.raises(ModelRejected, match=r"nested more than 100 deep"):
        locations(tmp_path, HEAD + b"\x3a" + field_length(len(data)) + data)


@given(st.binary(max_size=200), st.integers(0, 200), st.integers(0, 200))
@example(b"", 0, 0)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_an_answer_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, start: int, stop: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.onnx"
    data = models.external_data()[0]
    path.write_bytes(data[:start] + noise + data[stop:])
    try:
        found = check_model_file(path, FileRules())
    except ModelRejected:
        return
    assert all(isinstance(location, str) for location in found)
