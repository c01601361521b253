"""Recorders: every row once, inputs and outputs, and never an exception into the data path."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fastserve.errors import InvalidProfile
from fastserve.monitoring import Profile, Recorder
from fastserve.types import Signature
from fastserve_core.sketch import CategorySketch, NumberSketch
from tests.monitoring import profiles

SHAPE = profiles.signature([("x", "FP32", 3)], [("y", "FP32", 3)])


def recorder(profile: Profile, signature: Signature = SHAPE) -> Recorder:
    return Recorder(profile, signature, "model m version 1")


def test_every_row_is_counted_once() -> None:
    profile = profiles.profile()
    one = recorder(profile)
    rng = np.random.default_rng(0)
    merged = [tensor.sketch() for tensor in profile.tensors]
    whole = [tensor.sketch() for tensor in profile.tensors]
    rows = 0
    for size in (1, 7, 300):
        x, y = (rng.normal(8, 4, (size, 3)).astype(np.float32) for _ in range(2))
        one.update([x], [y], size)
        whole[0].update(x)
        whole[1].update(y)
        taken, states = one.take()
        rows += taken
        for sketch, state in zip(merged, states, strict=True):
            sketch.merge_bytes(state)
    assert rows == 308
    assert one.take() == (0, [])
    for sketch, expected in zip(merged, whole, strict=True):
        assert isinstance(sketch, NumberSketch) and isinstance(expected, NumberSketch)
        assert sketch.counts.tolist() == expected.counts.tolist()
        assert sketch.rows == expected.rows == 308


def test_two_threads_lose_no_row() -> None:
    one = recorder(profiles.profile())
    x = np.zeros((3, 3), np.float32)

    def work(_: int) -> None:
        for _ in range(2_000):
            one.update([x], [x], 3)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    rows, states = one.take()
    assert rows == 24_000
    sketch = one.profile.tensors[0].sketch()
    sketch.merge_bytes(states[0])
    assert sketch.rows == rows


def test_text_several_inputs_and_half_floats() -> None:
    profile = profiles.profile(
        profiles.texts(),
        profiles.tensor("h", datatype="FP16", width=1),
        profiles.tensor("y", "output", width=2),
    )
    shape = profiles.signature(
        [("h", "FP16", 1), ("unwatched", "FP32", 5), ("carrier", "BYTES", 1)],
        [("label", "INT64", 1), ("y", "FP32", 2)],
    )
    one = recorder(profile, shape)
    one.update(
        [
            np.array([[1], [2]], np.float16),
            np.zeros((2, 5), np.float32),
            np.array([["UA"], ["B6"]], object),
        ],
        [np.zeros((2, 1), np.int64), np.array([[0.5, 99], [np.nan, 3]], np.float32)],
        2,
    )
    rows, states = one.take()
    assert rows == 2
    carrier, half, output = (tensor.sketch() for tensor in profile.tensors)
    for sketch, state in zip((carrier, half, output), states, strict=True):
        sketch.merge_bytes(state)
    assert (
        isinstance(carrier, CategorySketch)
        and isinstance(half, NumberSketch)
        and isinstance(output, NumberSketch)
    )
    assert carrier.counts.tolist() == [0, 1] and carrier.unseen.tolist() == [1]
    assert half.mean.tolist() == [1.5]
    assert output.missing.tolist() == [1, 0]


def test_what_cannot_be_counted_ends_the_watching_and_nothing_else() -> None:
    one = recorder(profiles.profile())
    good = np.zeros((2, 3), np.float32)
    one.update([good], [good], 2)
    one.update([good], [np.zeros((2, 4), np.float32)], 2)
    assert "could not be counted" in one.failure
    one.update([good], [good], 2)
    assert one.take()[0] == 2


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (
            profiles.signature([("x", "FP32", 2)], [("y", "FP32", 3)]),
            "input 'x' of the profile has 3 columns, the model takes 2: 'x2' is one too many",
        ),
        (
            profiles.signature([("x", "FP32", 4)], [("y", "FP32", 3)]),
            "input 'x' of the profile has 3 columns, the model takes 4: 'x2' is the last",
        ),
        (
            profiles.signature([("z", "FP32", 3)], [("y", "FP32", 3)]),
            "input 'x' of the profile is not an input",
        ),
        (profiles.signature([("x", "FP64", 3)], [("y", "FP32", 3)]), "is FP32; the model's is FP64"),
        (
            Signature(SHAPE.inputs, SHAPE.outputs, batched=False),
            "not all inputs and outputs of the model begin with the same variable",
        ),
    ],
)
def test_a_profile_of_another_shape_is_refused(signature: Signature, message: str) -> None:
    with pytest.raises(InvalidProfile, match=message):
        recorder(profiles.profile(), signature)


def test_an_output_whose_size_varies_other_than_its_profile_says_is_left_out() -> None:
    """As of an older release, which took the file's word for it."""
    one = recorder(profiles.profile(), profiles.signature([("x", "FP32", 3)], [("y", "FP32", -1)]))
    assert one.left_out == ["y"]
    for width in (3, 5):
        one.update([np.ones((2, 3), np.float32)], [np.ones((2, width), np.float32)], 2)
    assert not one.failure
    rows, states = one.take()
    counted = [tensor.sketch() for tensor in one.profile.tensors]
    for sketch, state in zip(counted, states, strict=True):
        sketch.merge_bytes(state)
    assert rows == 4 and [sketch.rows for sketch in counted] == [4, 0]


def test_a_profile_of_nothing_but_such_outputs_is_refused() -> None:
    profile = profiles.profile(profiles.tensor("y", "output"))
    with pytest.raises(InvalidProfile, match="no fixed number of values a row in the model"):
        recorder(profile, profiles.signature([("x", "FP32", -1)], [("y", "FP32", -1)]))


def test_numbers_need_number_columns_and_text_needs_categories() -> None:
    with pytest.raises(InvalidProfile, match="number columns such as 'x0'; BYTES needs categories"):
        recorder(
            profiles.profile(profiles.tensor(datatype="BYTES")), profiles.signature([("x", "BYTES", 3)], [])
        )
    floats = profiles.texts().model_copy(update={"datatype": "FP32"})
    with pytest.raises(InvalidProfile, match="category columns such as 'carrier'; FP32 needs numbers"):
        recorder(profiles.profile(floats), profiles.signature([("carrier", "FP32", 1)], []))
    whole = profiles.texts().model_copy(update={"datatype": "INT64"})
    with pytest.raises(InvalidProfile, match="column 'carrier' has categories that are not INT64"):
        recorder(profiles.profile(whole), profiles.signature([("carrier", "INT64", 1)], []))
