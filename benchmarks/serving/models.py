"""The models under test, made by script with fixed seeds so that everyone measures the same three."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RECIPE = 1
"""Counted up whenever a model changes, so that a cached file of an older recipe is not taken for it."""

OPSET = 17
IR_VERSION = 8
"""Old enough for every onnxruntime that a rival may pin."""


@dataclass(frozen=True, slots=True)
class BenchmarkModel:
    """A model by name, its number of FP32 input columns, and the function that makes it."""

    name: str
    features: int
    title: str
    build: Callable[[], onnx.ModelProto]

    def file(self, directory: Path) -> Path:
        """The ONNX file in `directory`, made when it is not there yet."""
        path = directory / f"{self.name}-{RECIPE}.onnx"
        if not path.exists():
            directory.mkdir(parents=True, exist_ok=True)
            half = path.with_suffix(".part")
            half.write_bytes(self.build().SerializeToString())
            half.rename(path)
        return path


def mlp(widths: Sequence[int], seed: int) -> onnx.ModelProto:
    """Fully connected layers of the given widths, ReLU between them, logits out; He-initialised."""
    rng = np.random.default_rng(seed)
    nodes, weights, tensor = [], [], "x"
    for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
        weight = rng.standard_normal((fan_in, fan_out), dtype=np.float32) * np.float32((2 / fan_in) ** 0.5)
        bias = rng.standard_normal(fan_out, dtype=np.float32) * np.float32(0.1)
        weights += [numpy_helper.from_array(weight, f"w{layer}"), numpy_helper.from_array(bias, f"b{layer}")]
        last = layer == len(widths) - 2
        sum_name = "y" if last else f"sum{layer}"
        nodes.append(helper.make_node("Gemm", [tensor, f"w{layer}", f"b{layer}"], [sum_name]))
        if not last:
            tensor = f"relu{layer}"
            nodes.append(helper.make_node("Relu", [sum_name], [tensor]))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, widths[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, widths[-1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def gradient_boosting(features: int, trees: int, seed: int) -> onnx.ModelProto:
    """A scikit-learn classifier of depth-3 trees on made-up data; label and probabilities out."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import make_classification
    from sklearn.ensemble import GradientBoostingClassifier

    rows, labels = make_classification(2_000, features, n_informative=20, random_state=seed)
    classifier = GradientBoostingClassifier(n_estimators=trees, random_state=seed).fit(
        rows.astype(np.float32), labels
    )
    model = convert_sklearn(
        classifier,
        initial_types=[("x", FloatTensorType([None, features]))],
        options={id(classifier): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    model.ir_version = IR_VERSION
    assert isinstance(model, onnx.ModelProto)
    return model


SMALL = BenchmarkModel("small", 32, "32-64-64-2 MLP", lambda: mlp((32, 64, 64, 2), seed=1))
TREES = BenchmarkModel(
    "trees", 30, "100 boosted trees, 30 features", lambda: gradient_boosting(30, 100, seed=2)
)
LARGE = BenchmarkModel(
    "large", 256, "256-1024-1024-1024-10 MLP", lambda: mlp((256, 1024, 1024, 1024, 10), seed=3)
)

MODELS = {model.name: model for model in (SMALL, TREES, LARGE)}
