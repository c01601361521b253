"""Category sketches in parts and as bytes: merged they are one pass exactly; bytes that are wrong change nothing."""

import struct
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastserve_core.sketch.category import CategorySketch
from tests.sketch.twin_category import figures

HEADER = "<4sHQQQ"

# -- parts --------------------------------------------------------------------------------------------------

CATEGORIES = [[0, 1, 2], [5, 2**40], [-3]]


def drawn(seed: int, rows: int) -> NDArray[Any]:
    pool = np.array([0, 1, 2, 5, 2**40, -3, 9])
    return np.random.default_rng(seed).choice(pool, (rows, 3))


def counted(values: NDArray[Any], categories: Any = CATEGORIES) -> CategorySketch:
    sketch = CategorySketch(categories)
    sketch.update(values)
    return sketch


@given(st.integers(1, 16), st.randoms(use_true_random=False), st.booleans())
def test_parts_in_any_order_are_one_pass(parts: int, random: Any, by_bytes: bool) -> None:
    values = drawn(parts, 200)
    cuts = sorted(random.randrange(201) for _ in range(parts - 1))
    sketches = [counted(part) for part in np.split(values, cuts)]
    random.shuffle(sketches)
    whole = CategorySketch(CATEGORIES)
    for sketch in sketches:
        if by_bytes:
            whole.merge_bytes(sketch.take())
            assert figures(sketch) == figures(CategorySketch(CATEGORIES))
        else:
            whole.merge(sketch)
    assert figures(whole) == figures(counted(values))
    assert whole.to_bytes() == counted(values).to_bytes()


def test_a_sketch_merges_with_itself_and_forgets() -> None:
    sketch = counted(drawn(1, 50))
    sketch.merge(sketch)
    assert figures(sketch) == figures(counted(np.tile(drawn(1, 50), (2, 1))))
    state = sketch.take()
    assert figures(sketch) == figures(CategorySketch(CATEGORIES))
    sketch.merge_bytes(memoryview(bytearray(state)))
    assert sketch.to_bytes() == state
    sketch.reset()
    assert figures(sketch) == figures(CategorySketch(CATEGORIES))


def test_threads_lose_nothing() -> None:
    shared, sums = CategorySketch(CATEGORIES), CategorySketch(CATEGORIES)
    values = drawn(3, 5000)

    def work() -> None:
        for _ in range(20):
            shared.update(values)

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        sums.merge_bytes(shared.take())
    sums.merge(shared)
    assert figures(sums) == tuple(
        x * 60 if isinstance(x, int) else [y * 60 for y in x] for x in figures(counted(values))
    )


# -- bytes --------------------------------------------------------------------------------------------------


def test_the_layout_of_the_bytes() -> None:
    state = counted(np.array([[0, 5, 7], [2, 2**40, -3]])).to_bytes()
    magic, version, features, categories, _ = struct.unpack_from(HEADER, state)
    assert (magic, version, features, categories) == (b"FSKC", 1, 3, 6)
    body = struct.unpack_from("<13q", state, struct.calcsize(HEADER))
    assert body == (2, 0, 0, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1)


def test_the_fingerprint_is_the_same_in_every_process() -> None:
    plans: list[Any] = [CATEGORIES, [["a", "ä", "longer than 8"]]]
    found = [struct.unpack_from(HEADER, CategorySketch(plan).to_bytes())[4] for plan in plans]
    assert found == [0xB7D02DEE8C557DCE, 0x1AF24124251C85E6]


@pytest.mark.parametrize(
    "other",
    [
        [[0, 1, 2], [5, 2**40]],
        [[0, 1], [2, 5, 2**40], [-3]],
        [[1, 0, 2], [5, 2**40], [-3]],
        [[0, 1, 2], [5, 2**40], [2**64 - 3]],
        [["0", "1", "2"], ["5", "a"], ["b"]],
        [[0, 1, 2], [-3], [5, 2**40]],
    ],
)
def test_other_categories_do_not_merge(other: Any) -> None:
    sketch = counted(drawn(1, 9))
    before = figures(sketch)
    with pytest.raises(ValueError, match="other features or categories"):
        sketch.merge(CategorySketch(other))
    assert figures(sketch) == before


def altered(at: int, word: int, size: int = 8) -> bytes:
    state = bytearray(counted(drawn(1, 9)).to_bytes())
    state[at : at + size] = word.to_bytes(size, "little")
    return bytes(state)


ROWS_AT = struct.calcsize(HEADER)
STATE = counted(drawn(1, 9)).to_bytes()
BAD_STATES = {
    "nothing": (b"", "truncated"),
    "half a header": (STATE[:20], "truncated"),
    "one byte short": (STATE[:-1], "truncated"),
    "one byte more": (STATE + b"\0", "bytes follow the state"),
    "other magic": (b"FSKN" + STATE[4:], "not the state of a category sketch"),
    "next version": (altered(4, 2, 2), "format version"),
    "more features": (altered(6, 4), "other features or categories"),
    "endless features": (altered(6, 2**64 - 1), "other features or categories"),
    "more categories": (altered(14, 2**61), "other features or categories"),
    "other fingerprint": (altered(22, 1), "other features or categories"),
    "more rows": (altered(ROWS_AT, 10), "do not sum to its rows"),
    "negative rows": (altered(ROWS_AT, 2**63), "negative counts"),
    "negative missing": (altered(ROWS_AT + 8, 2**64 - 1), "negative counts"),
    "negative count": (altered(len(STATE) - 8, 2**64 - 1), "negative counts"),
    "a count too many": (altered(len(STATE) - 8, 100), "do not sum to its rows"),
    "sums that wrap": (altered(ROWS_AT + 8, 2**63 - 1), "do not sum to its rows"),
}


@pytest.mark.parametrize("case", BAD_STATES)
def test_bad_bytes_are_refused_with_their_reason(case: str) -> None:
    state, reason = BAD_STATES[case]
    sketch = CategorySketch(CATEGORIES)
    with pytest.raises(ValueError, match=reason):
        sketch.merge_bytes(state)
    assert figures(sketch) == figures(CategorySketch(CATEGORIES))


def check_sound(state: bytes) -> None:
    """Refused without a trace, or merged with sums that hold."""
    sketch = CategorySketch(CATEGORIES)
    try:
        sketch.merge_bytes(state)
    except ValueError:
        assert figures(sketch) == figures(CategorySketch(CATEGORIES))
        return
    assert sketch.to_bytes() == state
    for f, (start, stop) in enumerate(zip(sketch.offsets[:-1], sketch.offsets[1:], strict=True)):
        assert sketch.counts[start:stop].sum() + sketch.missing[f] + sketch.unseen[f] == sketch.rows


@given(st.binary(max_size=200), st.integers(0, len(STATE)))
@example(b"", len(STATE))
def test_any_bytes_are_refused_or_sound(tail: bytes, kept: int) -> None:
    check_sound(tail)
    check_sound(STATE[:kept] + tail)


@given(st.lists(st.tuples(st.integers(0, len(STATE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_never_break_the_sums(changes: list[tuple[int, int]]) -> None:
    state = bytearray(STATE)
    for at, byte in changes:
        state[at] = byte
    check_sound(bytes(state))


def test_rows_past_64_bits_are_refused() -> None:
    full = bytearray(CategorySketch([[0]]).to_bytes())
    for at in (ROWS_AT, ROWS_AT + 8):
        full[at : at + 8] = (2**63 - 1).to_bytes(8, "little")
    sketch = CategorySketch([[0]])
    sketch.merge_bytes(full)
    before = figures(sketch)
    with pytest.raises(ValueError, match="more than"):
        sketch.update(np.array([0]))
    with pytest.raises(ValueError, match="more than"):
        sketch.merge(sketch)
    assert figures(sketch) == before


def test_sums_that_wrap_to_the_rows_are_refused() -> None:
    state = CategorySketch([[0]]).to_bytes()[:ROWS_AT] + struct.pack("<4q", 9, 2**63 - 1, 2**63 - 1, 11)
    with pytest.raises(ValueError, match="do not sum to its rows"):
        CategorySketch([[0]]).merge_bytes(state)


@pytest.mark.parametrize("state", [None, "text", 7, [1], np.zeros(8)])
def test_what_is_not_bytes_is_refused(state: Any) -> None:
    with pytest.raises(TypeError, match="a state must be bytes"):
        CategorySketch(CATEGORIES).merge_bytes(state)
    with pytest.raises(TypeError):
        CategorySketch(CATEGORIES).merge(state)


def test_bytes_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        CategorySketch(CATEGORIES).merge_bytes(memoryview(STATE)[::2])
