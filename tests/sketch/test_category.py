"""Category counts: equal to a plain Counter, whatever the values are; plans and tensors that cannot be."""

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastserve_core.sketch.category import MAX_CATEGORIES, CategorySketch
from tests.sketch.twin_category import TwinCategorySketch, figures

WHOLE = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
EXTREMES = [-(2**63), -(2**63) + 1, -1, 0, 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1]


def objects(rows: Any) -> NDArray[Any]:
    """[rows, features] of objects; NumPy must not look into them."""
    out = np.empty((len(rows), len(rows[0]) if rows else 1), object)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            out[i, j] = value
    return out


def agree(categories: Any, values: NDArray[Any]) -> CategorySketch:
    """Both sketches after the same values; what each feature counted sums to the rows."""
    sketch, twin = CategorySketch(categories), TwinCategorySketch(categories)
    sketch.update(values)
    twin.update(values)
    assert figures(sketch) == figures(twin)
    for f, (start, stop) in enumerate(zip(sketch.offsets[:-1], sketch.offsets[1:], strict=True)):
        assert sketch.counts[start:stop].sum() == sketch.rows - sketch.missing[f] - sketch.unseen[f]
    return sketch


# -- agreement with a Counter -------------------------------------------------------------------------------

WORDS = st.text(max_size=12) | st.sampled_from(["", "a", "ä", "日本", "🙂", "a\0b", "long" * 20])
SURROGATE = "half \ud800"
PLAN = st.lists(st.lists(WORDS, unique=True, max_size=6), min_size=1, max_size=4)


@st.composite
def text_case(draw: st.DrawFn) -> tuple[list[list[str]], NDArray[Any]]:
    categories = draw(PLAN)
    known = [word for feature in categories for word in feature]
    value = st.one_of(
        st.sampled_from([*known, None]),
        st.sampled_from([*known, ""]).map(str.encode),
        WORDS,
        st.binary(max_size=6),
        st.sampled_from([3, float("nan"), SURROGATE, (), np.str_("a")]),
    )
    row = st.lists(value, min_size=len(categories), max_size=len(categories))
    return categories, objects(draw(st.lists(row, min_size=1, max_size=12)))


@given(text_case())
def test_text_is_counted_as_a_counter_does(case: Any) -> None:
    agree(*case)


@st.composite
def number_case(draw: st.DrawFn) -> tuple[list[list[int]], NDArray[Any]]:
    number = st.integers(-5, 20) | st.sampled_from(EXTREMES) | st.integers(-(2**63), 2**64 - 1)
    categories = draw(st.lists(st.lists(number, unique=True, max_size=8), min_size=1, max_size=4))
    dtype = draw(st.sampled_from([*WHOLE, np.bool_, np.float32, np.float64]))
    known = [each for feature in categories for each in feature]
    near = st.sampled_from([*known, 0]).flatmap(lambda x: st.sampled_from([x - 1, x, x + 1]))
    drawn = draw(st.lists(near | number, min_size=0, max_size=12))
    values = np.resize(np.array(drawn or [0], object), (len(drawn), len(categories)))
    if np.issubdtype(dtype, np.floating):
        odd = draw(st.lists(st.floats(width=32), max_size=values.size))
        flat: NDArray[Any] = np.array([float(x) for x in values.ravel()], dtype)
        flat[: len(odd)] = odd
        return categories, flat.reshape(values.shape)
    bits = 8 * np.dtype(dtype).itemsize
    return categories, np.array([x % 2**bits for x in values.ravel()], np.uint64).astype(dtype).reshape(
        values.shape
    )


@given(number_case())
def test_numbers_are_counted_as_a_counter_does(case: Any) -> None:
    agree(*case)


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.float32, np.float64])
@pytest.mark.parametrize("value", EXTREMES)
def test_the_ends_of_64_bits_are_told_apart(dtype: Any, value: int) -> None:
    info: Any = np.finfo(dtype) if np.issubdtype(dtype, np.floating) else np.iinfo(dtype)
    held = [x for x in EXTREMES if info.min <= x <= info.max]
    for categories in ([value], [value, value ^ 1], EXTREMES):
        agree([categories], np.array(held, object).astype(dtype))


def test_bits_of_int64_and_uint64_do_not_mix() -> None:
    sketch = agree([[-1, -5, -4]], np.array([2**64 - 1, 2**64 - 5, 2**64 - 4], np.uint64))
    assert sketch.unseen.tolist() == [3]
    sketch = agree([[2**64 - 1]], np.array([-1], np.int64))
    assert sketch.unseen.tolist() == [1]


def test_bools_are_categories() -> None:
    sketch = agree([[False, True], [True]], np.array([[True, True], [False, False], [True, False]]))
    assert (sketch.counts.tolist(), sketch.unseen.tolist()) == ([1, 2, 1], [0, 2])
    strange = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
    sketch = CategorySketch([[False, True]])
    sketch.update(strange)
    assert sketch.counts.tolist() == [1, 3]


def test_floats_that_are_not_whole_are_unseen() -> None:
    values = np.array([0.0, -0.0, 0.5, np.inf, -np.inf, np.nan, 1e300, -1e300, 2.0])
    sketch = agree([[0, 2]], values)
    assert (sketch.counts.tolist(), sketch.missing.tolist(), sketch.unseen.tolist()) == ([2, 1], [1], [5])


def test_a_hundred_thousand_categories() -> None:
    words = [f"word-{i:06}" for i in range(100_000)]
    sketch = CategorySketch([words])
    sketch.update(np.array(words[::-1], object))
    sketch.update(np.array([word.encode() for word in words], object))
    sketch.update(np.array([word + "!" for word in words[:10]], object))
    assert sketch.counts.tolist() == [2] * 100_000 and sketch.unseen.tolist() == [10]
    numbers = np.random.default_rng(7).integers(-(2**62), 2**62, 100_000)
    sparse = CategorySketch([numbers.tolist()])
    sparse.update(numbers)
    assert sparse.counts.tolist() == [1] * 100_000
    dense = CategorySketch([range(100_000)])
    dense.update(np.arange(-10, 100_010))
    assert dense.counts.tolist() == [1] * 100_000 and dense.unseen.tolist() == [20]


def test_no_feature_need_have_categories() -> None:
    sketch = CategorySketch([[], []])
    sketch.update(objects([["a", None]]))
    sketch.update(np.array([[1, 2]]))
    assert figures(sketch) == (2, [0, 1], [2, 1], [])


def test_every_shape_of_a_row_will_do() -> None:
    six, one = CategorySketch([[0, 1]] * 6), CategorySketch([[0, 1]])
    wide: list[tuple[int, ...]] = [(4, 6), (4, 2, 3), (4, 3, 1, 2), (0, 6)]
    narrow: list[tuple[int, ...]] = [(4,), (4, 1), (4, 1, 1), (0,)]
    for sketch, shapes in ((six, wide), (one, narrow)):
        for shape in shapes:
            sketch.update(np.zeros(shape, np.int32))
    assert six.rows == one.rows == 12
    assert six.counts.tolist() == [12, 0] * 6


# -- values with a will of their own ------------------------------------------------------------------------


class Hostile(str):
    def __hash__(self) -> int:
        raise RuntimeError("hashed")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compared")


class HostileBytes(bytes):
    def __hash__(self) -> int:
        raise RuntimeError("hashed")


def test_an_objects_own_code_is_never_called() -> None:
    hostile = Hostile("a")
    sketch = CategorySketch([["a"]])
    sketch.update(objects([[hostile], [HostileBytes(b"a")], [[]], [{}], [object()], [SURROGATE], [b"\xff"]]))
    assert figures(sketch) == (7, [0], [7], [0])
    sketch.update(np.empty(3, object))
    assert sketch.missing.tolist() == [3]


def test_nothing_is_kept_of_the_values() -> None:
    value = "ä" * 50
    sketch = CategorySketch([[value]])
    values = np.array([value] * 10, object)
    before, size = sys.getrefcount(value), sys.getsizeof(value)
    sketch.update(values)
    assert (sys.getrefcount(value), sys.getsizeof(value)) == (before, size)
    assert sketch.counts.tolist() == [10]


# -- plans and tensors that cannot be -----------------------------------------------------------------------

BAD_PLANS: dict[str, tuple[Any, type[Exception], str]] = {
    "no feature": ([], ValueError, "at least one feature"),
    "not a sequence": (7, TypeError, "not iterable"),
    "one text": ("abc", TypeError, "categories must be a sequence, not str"),
    "a text for a feature": (["abc"], TypeError, "feature 0: categories must be a sequence, not str"),
    "bytes": ([[b"a"]], TypeError, "must be str, int or bool, not bytes"),
    "a float": ([[1], [1.5]], TypeError, "feature 1: a category must be str, int or bool, not float"),
    "None": ([["a", None]], TypeError, "must be str, int or bool, not NoneType"),
    "text and numbers": ([["a"], [1]], TypeError, "text and numbers"),
    "a text twice": ([["a"], ["b", "c", "b"]], ValueError, "feature 1: category 'b' comes twice"),
    "a number twice": ([[1, 2, np.int8(1)]], ValueError, "comes twice"),
    "True and 1": ([[True, 1]], ValueError, "category 1 comes twice"),
    "half a surrogate pair": ([[SURROGATE]], ValueError, "has no UTF-8"),
    "below int64": ([[-(2**63) - 1]], ValueError, "fits neither int64 nor uint64"),
    "above uint64": ([[2**64]], ValueError, "fits neither int64 nor uint64"),
    "too many categories": (
        [range(10), range(MAX_CATEGORIES - 9)],
        ValueError,
        "more than 1000000 categories",
    ),
    "too many features": (([] for _ in range(MAX_CATEGORIES + 1)), ValueError, "more than 1000000 features"),
}


@pytest.mark.parametrize("case", BAD_PLANS)
def test_a_bad_plan_is_refused_with_its_reason(case: str) -> None:
    categories, error, reason = BAD_PLANS[case]
    with pytest.raises(error, match=reason):
        CategorySketch(categories)


BAD_NUMBERS: dict[str, tuple[Any, type[Exception], str]] = {
    "a list": ([[1, 2]], TypeError, "must be a NumPy array, not list"),
    "no axis": (np.array(1), ValueError, r"shape \[rows, 2\], not \[\]"),
    "one axis for two features": (np.array([1, 2]), ValueError, r"shape \[rows, 2\], not \[2\]"),
    "three features": (np.zeros((2, 3), int), ValueError, r"not \[2, 3\]"),
    "rows without values": (np.zeros((2, 0), int), ValueError, r"not \[2, 0\]"),
    "columns first": (np.zeros((4, 2), int, "F"), ValueError, "C-contiguous"),
    "every other row": (np.zeros((4, 2), int)[::2], ValueError, "C-contiguous"),
    "foreign byte order": (np.zeros((4, 2), ">i4"), ValueError, "byte order"),
    "objects": (objects([[1, 2]]), ValueError, "numbers must be bool"),
    "text": (np.array([["a", "b"]]), ValueError, "numbers must be bool"),
    "float16": (np.zeros((1, 2), np.float16), ValueError, "not float16"),
    "complex": (np.zeros((1, 2), complex), ValueError, "not complex128"),
    "dates": (np.zeros((1, 2), "M8[s]"), ValueError, "not datetime64"),
    "records": (np.zeros((1, 2), [("a", int)]), ValueError, "numbers must be bool"),
}


@pytest.mark.parametrize("case", BAD_NUMBERS)
def test_a_bad_tensor_is_refused_with_its_reason(case: str) -> None:
    values, error, reason = BAD_NUMBERS[case]
    sketch = CategorySketch([[1], [2]])
    with pytest.raises(error, match=reason):
        sketch.update(values)
    assert figures(sketch) == (0, [0, 0], [0, 0], [0, 0])


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([b"a"]), np.array([1]), np.array([1.0])])
def test_text_must_come_as_objects(values: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="text must come as an object array"):
        CategorySketch([["a"]]).update(values)
