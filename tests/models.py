"""Small real ONNX models for the tests: each function gives the bytes of one file, always the same."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8


def model_bytes(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Iterable[onnx.TensorProto] = (),
    opset: int = OPSET,
) -> bytes:
    """Serialise one graph as a model that every supported onnxruntime reads."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())


def tensor(name: str, element: int, shape: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
    """Describe one input or output; a str or None in `shape` is a variable dimension."""
    return helper.make_tensor_value_info(name, element, shape)


@cache
def mlp(*sizes: int, seed: int = 0) -> bytes:
    """Dense layers with ReLU between them: `x` FP32 [batch, sizes[0]] to `y` FP32 [batch, sizes[-1]]."""
    rng = np.random.default_rng(seed)
    nodes, weights, last = [], [], "x"
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        matrix = (rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)).astype(np.float32)
        bias = rng.standard_normal(fan_out).astype(np.float32) / 10
        weights += [numpy_helper.from_array(matrix, f"w{i}"), numpy_helper.from_array(bias, f"b{i}")]
        final = i == len(sizes) - 2
        out = "y" if final else f"h{i}"
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [out]))
        if not final:
            nodes.append(helper.make_node("Relu", [out], [f"r{i}"]))
            last = f"r{i}"
    inputs = [tensor("x", TensorProto.FLOAT, ["batch", sizes[0]])]
    return model_bytes(nodes, inputs, [tensor("y", TensorProto.FLOAT, ["batch", sizes[-1]])], weights)


@cache
def fixed_batch(rows: int = 4, width: int = 3) -> bytes:
    """`x` FP32 [rows, width] to `y` = 2x, without a variable dimension."""
    two = numpy_helper.from_array(np.array([2.0], np.float32), "two")
    shape = [rows, width]
    return model_bytes(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        [tensor("x", TensorProto.FLOAT, shape)],
        [tensor("y", TensorProto.FLOAT, shape)],
        [two],
    )


@cache
def scaled(factor: float = 2.0, width: int = 3) -> bytes:
    """`x` FP32 [batch, width] to `y` = factor·x: the smallest batched model, told apart by its factor."""
    constant = numpy_helper.from_array(np.array([factor], np.float32), "factor")
    return model_bytes(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["batch", width])],
        [tensor("y", TensorProto.FLOAT, ["batch", width])],
        [constant],
    )


@cache
def identity(element: int = TensorProto.FLOAT, *dims: int | str | None) -> bytes:
    """`x` of any element type and any dims to `y`, unchanged."""
    return model_bytes(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", element, dims)],
        [tensor("y", element, dims)],
    )


@cache
def variable_inner() -> bytes:
    """`x` FP32 [batch, length] to `y` FP32 [batch, 1], the sum over a length that each request chooses."""
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    return model_bytes(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
        [tensor("x", TensorProto.FLOAT, ["batch", "length"])],
        [tensor("y", TensorProto.FLOAT, ["batch", 1])],
        [axes],
    )


@cache
def pair() -> bytes:
    """`a` and `b` FP32 [batch, length] to their sum `y`: one length for both, which each request chooses."""
    inputs = [tensor(name, TensorProto.FLOAT, ["batch", "length"]) for name in "ab"]
    outputs = [tensor("y", TensorProto.FLOAT, ["batch", "length"])]
    return model_bytes([helper.make_node("Add", ["a", "b"], ["y"])], inputs, outputs)


@cache
def squared() -> bytes:
    """`x` FP32 [nodes, nodes] to `y` = x·x."""
    sides = ["nodes", "nodes"]
    return model_bytes(
        [helper.make_node("MatMul", ["x", "x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, sides)],
        [tensor("y", TensorProto.FLOAT, sides)],
    )


@cache
def traced_length() -> bytes:
    """`x` FP32 [batch, length, 2] to `y`, of the same shape, whose length is declared as 5."""
    return model_bytes(
        [helper.make_node("Relu", ["x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["batch", "length", 2])],
        [tensor("y", TensorProto.FLOAT, ["batch", 5, 2])],
    )


@cache
def unique_rows() -> bytes:
    """Drops repeated rows of `x` FP32 [batch, 3]: looks batched, yet answers fewer rows than it was asked."""
    return model_bytes(
        [helper.make_node("Unique", ["x"], ["y"], axis=0)],
        [tensor("x", TensorProto.FLOAT, ["batch", 3])],
        [tensor("y", TensorProto.FLOAT, [None, 3])],
    )


@cache
def centred() -> bytes:
    """`x` FP32 [batch, 3] minus the mean of the whole batch: every answer depends on its batch-mates."""
    return model_bytes(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [tensor("x", TensorProto.FLOAT, ["batch", 3])],
        [tensor("y", TensorProto.FLOAT, ["batch", 3])],
    )


@cache
def counting_twins() -> bytes:
    """How many rows of the run equal a row of `x` FP32 [batch, 1]: 1 for everyone as long as all differ."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["all"], perm=[1, 0]),
        helper.make_node("Equal", ["x", "all"], ["same"]),
        helper.make_node("Cast", ["same"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["ones", "axes"], ["y"], keepdims=1),
    ]
    return model_bytes(
        nodes,
        [tensor("x", TensorProto.FLOAT, ["batch", 1])],
        [tensor("y", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )


@cache
def any_flag() -> bytes:
    """`x` FP32 [batch, 1], plus one where any row of the run has its BOOL `flag` [batch, 1] set."""
    nodes = [
        helper.make_node("Cast", ["flag"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["ones"], ["any"], axes=[0], keepdims=1),
        helper.make_node("Add", ["x", "any"], ["y"]),
    ]
    return model_bytes(
        nodes,
        [tensor("x", TensorProto.FLOAT, ["batch", 1]), tensor("flag", TensorProto.BOOL, ["batch", 1])],
        [tensor("y", TensorProto.FLOAT, ["batch", 1])],
    )


@cache
def dynamically_quantised(width: int = 4) -> bytes:
    """A layer whose input is rounded to 256 steps between the least and the largest value of a whole run."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 127, (width, 3)).astype(np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["y"]),
    ]
    return model_bytes(
        nodes,
        [tensor("x", TensorProto.FLOAT, ["n", width])],
        [tensor("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, "w")],
    )


def passed_through(width: int = 3) -> bytes:
    """Twice the input, the row's number just as it came."""
    return model_bytes(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["n", width]), tensor("row", TensorProto.INT64, ["n", 1])],
        [tensor("y", TensorProto.FLOAT, ["n", width]), tensor("row", TensorProto.INT64, ["n", 1])],
    )


def baked_in() -> bytes:
    """Declared for any number of rows, as exporters do whose example had one; only one can be reshaped."""
    return model_bytes(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["n", 4])],
        [tensor("y", TensorProto.FLOAT, [None, None, None])],
        [numpy_helper.from_array(np.array([1, 2, 2]), "shape")],
    )


def words() -> bytes:
    """As many columns as the text with the most words has."""
    return model_bytes(
        [helper.make_node("StringSplit", ["x"], ["y", "number"])],
        [tensor("x", TensorProto.STRING, ["n"])],
        [tensor("y", TensorProto.STRING, ["n", None])],
        opset=20,
    )


def written_out(width: int = 3) -> bytes:
    """`x` FP32 [batch, width] as text, `y` BYTES: as classifiers of numbers answer whose labels are words."""
    return model_bytes(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)],
        [tensor("x", TensorProto.FLOAT, ["n", width])],
        [tensor("y", TensorProto.STRING, ["n", width])],
    )


def convolution() -> bytes:
    """An image of any size, but not of 1 x 1: the kernel is 3 x 3."""
    kernel = np.ones((1, 1, 3, 3), np.float32)
    return model_bytes(
        [helper.make_node("Conv", ["x", "k"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["n", 1, "height", "width"])],
        [tensor("y", TensorProto.FLOAT, ["n", 1, None, None])],
        [numpy_helper.from_array(kernel, "k")],
    )


@cache
def open_image(side: int = 1, channels_last: bool = False) -> bytes:
    """A coloured image of one size, as an exporter writes it that leaves every dimension open."""
    weights = numpy_helper.from_array(np.ones((2, 3, side, side), np.float32), "w")
    table = numpy_helper.from_array(np.ones((1, 2, 1, 1), np.float32), "table")
    ones = numpy_helper.from_array(np.array([-1, 2, 1, 1], np.int64), "ones")
    nodes = [
        helper.make_node("Transpose", ["x"], ["image"], perm=[0, 3, 1, 2] if channels_last else [0, 1, 2, 3]),
        helper.make_node("Conv", ["image", "w"], ["patches"]),
        helper.make_node("Add", ["patches", "table"], ["sums"]),
        helper.make_node("Reshape", ["sums", "ones"], ["y"]),
    ]
    return model_bytes(
        nodes,
        [tensor("x", TensorProto.FLOAT, ["batch_size", "num_channels", "height", "width"])],
        [tensor("y", TensorProto.FLOAT, ["batch_size", 2, 1, 1])],
        [weights, table, ones],
    )


def sequence_output() -> bytes:
    """`x` FP32 [batch, 3] to a sequence, which no tensor protocol can carry."""
    return model_bytes(
        [helper.make_node("SequenceConstruct", ["x"], ["pieces"])],
        [tensor("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_sequence_value_info("pieces", TensorProto.FLOAT, ["batch", 3])],
    )


@cache
def looping() -> bytes:
    """`y` is `x`, INT64 [batch, 1], after as many loops as its greatest row says; 2**62 take for ever."""
    text = """<ir_version: 8, opset_import: ["": 17]> looping (int64[batch,1] x) => (int64[batch,1] y) {
        turns = ReduceMax<keepdims = 0>(x)
        y = Loop<body = each (int64 turn, bool on, int64[batch,1] in) => (bool goes_on, int64[batch,1] out) {
            goes_on = Identity(on)
            out = Abs(in)
        }>(turns, "", x)
    }"""
    return bytes(onnx.parser.parse_model(text).SerializeToString())


def failing_on_negative() -> bytes:
    """`row` INT64 [batch, 1] picks from a table of 3 rows, `y` FP32 [batch, 2]; else the run fails."""
    table = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(3, 2), "table")
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    return model_bytes(
        [
            helper.make_node("Squeeze", ["row", "axes"], ["flat"]),
            helper.make_node("Gather", ["table", "flat"], ["y"]),
        ],
        [tensor("row", TensorProto.INT64, ["batch", 1])],
        [tensor("y", TensorProto.FLOAT, ["batch", 2])],
        [table, axes],
    )


def external_data(location: str = "weights.bin", width: int = 3) -> tuple[bytes, bytes]:
    """`y` = 2x with the 2s in a file of their own at `location`: (model bytes, weight bytes)."""
    weights = np.full(width, 2.0, np.float32)
    constant = numpy_helper.from_array(weights, "w")
    raw = constant.raw_data
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(raw)))):
        constant.external_data.add(key=key, value=value)
    data = model_bytes(
        [helper.make_node("Mul", ["x", "w"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["batch", width])],
        [tensor("y", TensorProto.FLOAT, ["batch", width])],
        [constant],
    )
    return data, raw


@cache
def gbm(trees: int = 20, features: int = 6, seed: int = 0) -> bytes:
    """Gradient boosting: `x` FP32 [batch, features] to `label` INT64 and `probabilities` FP32 [batch, 2]."""
    from sklearn.ensemble import GradientBoostingClassifier

    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((200, features)).astype(np.float32)
    labels = (rows[:, 0] + rows[:, 1] * rows[:, 2] > 0).astype(np.int64)
    model = GradientBoostingClassifier(n_estimators=trees, max_depth=3, random_state=seed).fit(rows, labels)
    return _convert(model, [("x", _sk("Float", features))])


@cache
def pipeline(string_labels: bool = False) -> bytes:
    """A column-wise pipeline: `carrier`, `origin` BYTES, `distance` FP32, `hour` INT64, all [batch, 1].

    Answers `label` (INT64, or BYTES with `string_labels`) and `probabilities` FP32 [batch, 2].
    """
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = pandas.DataFrame(pipeline_rows(60))
    late = (frame["distance"] > 900).to_numpy()
    columns = ColumnTransformer(
        [
            ("names", OneHotEncoder(handle_unknown="ignore"), ["carrier", "origin"]),
            ("numbers", StandardScaler(), ["distance", "hour"]),
        ]
    )
    target = np.where(late, "late", "on time") if string_labels else late.astype(np.int64)
    model = make_pipeline(columns, LogisticRegression()).fit(frame, target)
    types = [("carrier", "String"), ("origin", "String"), ("distance", "Float"), ("hour", "Int64")]
    return _convert(model, [(name, _sk(kind, 1)) for name, kind in types])


def pipeline_rows(rows: int, seed: int = 0) -> dict[str, list[Any]]:
    """Columns that fit `pipeline`, as plain lists."""
    rng = np.random.default_rng(seed)
    return {
        "carrier": [str(v) for v in rng.choice(["UA", "AA", "DL", "B6"], rows)],
        "origin": [str(v) for v in rng.choice(["JFK", "EWR", "LGA"], rows)],
        "distance": [float(v) for v in rng.integers(100, 2500, rows)],
        "hour": [int(v) for v in rng.integers(0, 24, rows)],
    }


@cache
def with_zipmap() -> bytes:
    """A classifier converted with skl2onnx's default, whose probabilities are a sequence of maps."""
    from sklearn.linear_model import LogisticRegression

    rows = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    return _convert(LogisticRegression().fit(rows, rows[:, 0] > 0), [("x", _sk("Float", 3))], zipmap=True)


def _sk(kind: str, width: int) -> Any:
    from skl2onnx.common import data_types

    return getattr(data_types, f"{kind}TensorType")([None, width])


def _convert(model: Any, inputs: list[tuple[str, Any]], zipmap: bool = False) -> bytes:
    from skl2onnx import to_onnx

    options = {id(model): {"zipmap": zipmap}}
    converted = to_onnx(
        model, initial_types=inputs, options=options, target_opset={"": OPSET, "ai.onnx.ml": 3}
    )
    return bytes(converted.SerializeToString())
