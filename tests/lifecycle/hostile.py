"""ONNX files that really crash, hang or starve the process that loads them, for the tests."""

from functools import cache

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fastserve.types import Array
from tests import models

FLOAT = TensorProto.FLOAT
ROW = models.tensor("x", FLOAT, ["batch", 3]), models.tensor("y", FLOAT, ["batch", 3])


@cache
def deep_tree(depth: int = 150_000) -> bytes:
    """A decision tree with one long branch, which onnxruntime reads by recursion: its stack overflows."""
    size = 2 * depth + 1
    inner, leaves = [*range(1, depth), 2 * depth], list(range(depth, size))
    no = [0] * (depth + 1)
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["y"],
        domain="ai.onnx.ml",
        nodes_treeids=[0] * size,
        nodes_nodeids=list(range(size)),
        nodes_featureids=[0] * size,
        nodes_values=[0.0] * size,
        nodes_modes=["BRANCH_LEQ"] * depth + ["LEAF"] * (depth + 1),
        nodes_truenodeids=inner + no,
        nodes_falsenodeids=leaves[:depth] + no,
        n_targets=1,
        target_treeids=no,
        target_nodeids=leaves,
        target_ids=no,
        target_weights=[1.0] * (depth + 1),
    )
    return models.model_bytes([node], [ROW[0]], [models.tensor("y", FLOAT, ["batch", 1])])


def huge_tensor() -> bytes:
    """Some bytes that ask for a tensor of 8 GiB."""
    one = numpy_helper.from_array(np.ones(1, np.float32))
    return models.model_bytes(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["big"], value=one),
            helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["x", "sum"], ["y"]),
        ],
        [ROW[0]],
        [ROW[1]],
        [numpy_helper.from_array(np.array([2**31], np.int64), "shape")],
    )


def wide_table() -> bytes:
    """A thousand columns, each an input of its own: what is told of them takes more than one read."""
    names = [f"column_{number:060}" for number in range(1_000)]
    inputs = [models.tensor(name, FLOAT, ["batch", 1]) for name in names]
    output = models.tensor("y", FLOAT, ["batch", len(names)])
    return models.model_bytes([helper.make_node("Concat", names, ["y"], axis=1)], inputs, [output])


def endless_loop() -> bytes:
    """Loads at once and runs for years."""
    return _loop([], {"n": np.array(2**60)})


def as_long_as_told() -> bytes:
    """Runs for as many turns as the largest of its numbers says: from no time at all to years."""
    turns = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["n"], to=TensorProto.INT64),
    ]
    return _loop(turns, {})


def _loop(before: list[NodeProto], constants: dict[str, Array]) -> bytes:
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on_out"]), helper.make_node("Add", ["v", "one"], ["v_out"])],
        "body",
        [
            scalar("i", TensorProto.INT64, []),
            scalar("on", TensorProto.BOOL, []),
            scalar("v", FLOAT, ["batch", 3]),
        ],
        [scalar("on_out", TensorProto.BOOL, []), scalar("v_out", FLOAT, ["batch", 3])],
    )
    constants = {**constants, "yes": np.array(True), "one": np.ones(1, np.float32)}
    return models.model_bytes(
        [*before, helper.make_node("Loop", ["n", "yes", "x"], ["y"], body=body)],
        [ROW[0]],
        [ROW[1]],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
