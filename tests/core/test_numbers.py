"""Every number that is decoded is the nearest double, cast: compared bit by bit with Python's own reading."""

import math
import random
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve_core.wire.decode import decode_numbers, set_vector_level
from tests.levels import LEVELS, at_level
from tests.oracle.decode_twin import DTYPES, Number, Refused, scalar


@pytest.fixture(params=LEVELS, scope="module", autouse=True)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each set of instructions that this machine has, in turn."""
    yield from at_level(set_vector_level, request.param)


INTEGERS = [name for name in DTYPES if "INT" in name]
SEPARATORS = [",", ", ", " ,", ",\n  ", "\t,\r\n", ",  "]


def text_of(numbers: list[str], separator: str = ",") -> bytes:
    return f"[{separator.join(numbers)}]".encode()


def check_reals(numbers: list[str], separator: str = ",") -> None:
    """All of them in one array: a number is read differently at the end of the text."""
    body = text_of(numbers, separator)
    for datatype in ("FP64", "FP32"):
        expected = []
        for number in numbers:
            try:
                expected.append(scalar(Number(number), datatype))
            except Refused:
                with pytest.raises(ValueError, match="not a flat JSON array"):
                    decode_numbers(body, DTYPES[datatype])
                break
        else:
            got = decode_numbers(body, DTYPES[datatype])
            assert got.dtype == DTYPES[datatype]
            assert got.tobytes() == np.array(expected, DTYPES[datatype]).tobytes(), body


def halfway(low: float) -> str:
    """The decimal expansion, all of it, of the number between a double and the next."""
    middle = (Fraction(low) + Fraction(math.nextafter(low, math.inf))) / 2
    power = max(0, middle.denominator.bit_length() - 1)
    digits = str(middle.numerator * 5**power).rjust(power + 1, "0")
    return f"{digits[:-power]}.{digits[-power:]}" if power else digits


DOUBLES = [
    *("0", "-0", "0.0", "-0.0", "-0e5", "0e999999999999999999999", "0.000e-99999999999999999999", "-0.0e1"),
    *("1", "-1", "10", "1.5", "0.5", "-2.75", "1e5", "1E5", "1e+5", "1e-5", "1.25E-07", "-3.5e+0", "1e00022"),
    *("5e-324", "4.9406564584124654e-324", "2.4703282292062327e-324", "2.4703282292062328e-324"),
    *("2.2250738585072014e-308", "2.2250738585072011e-308", "2.225073858507201e-308", "1e-400", "-1e-400"),
    *("1.7976931348623157e308", "1.7976931348623158e308", "3.4028234663852886e38", "3.4028235e38"),
    *("1.4012984643248171e-45", "7.006492321624085e-46", "7.006492321624086e-46", "1.17549435e-38"),
    *("0.000000016131754927799616e-31", "-0.0000107972702136817050843e-33", "1e31", "1e32", "1e-33", "1e-34"),
    *("9007199254740991", "9007199254740992", "9007199254740993", "9007199254740994", "9007199254740995"),
    *(
        "9007199254740993.0",
        "9007199254740992.9",
        "900719925474099.3",
        "9007199254740993e0",
        "9007199254740993e22",
    ),
    *("16777217", "16777219", "16777217.0", "16777216.999999999", "33554433.5", "1.00000005960464477539"),
    *("18446744073709551615", "18446744073709551616", "18446744073709551617", "99999999999999999999"),
    *(
        "123456789012345678901234567890",
        "0.123456789012345678901234567890",
        "1234567890.12345678901234567890",
    ),
    *(
        "1e22",
        "1e23",
        "8.5e22",
        "9.5e-22",
        "1e-22",
        "1e-23",
        "1e27",
        "1e28",
        "1e-27",
        "1e-28",
        "3e-27",
        "7e27",
    ),
    *(
        "0.00000000000000000000001",
        "0.000012345678901234567",
        "0.00012345678901234567",
        "0." + "0" * 40 + "1",
    ),
    *(
        "12345678",
        "123456789",
        "1234567.1234567",
        "12345678.12345678",
        "0.12345678",
        "0.123456781",
        "1.1234567",
    ),
    *("100000000000000", "999999999999999", "999999999999999.9", "0.99999999999999", "-99999999999.999"),
    "1" + "0" * 308,
    "0." + "0" * 323 + "5",
    "1." + "0" * 200 + "1",
    "1" + "0" * 400 + "e-400",
]


@pytest.mark.parametrize("number", DOUBLES)
def test_chosen_numbers(number: str) -> None:
    for padding in range(0, 80, 7):
        check_reals(["1"] + [number] + ["7"] * padding)
    check_reals([number])


@pytest.mark.parametrize("separator", SEPARATORS)
def test_white_space(separator: str) -> None:
    check_reals([number for number in DOUBLES if abs(float(number)) < 1e38], separator)


@pytest.mark.parametrize(
    "bad", ["1e400", "-1e400", "1.7976931348623159e308", "1e999999999999999999999", "9" * 400]
)
def test_beyond_the_double_range_is_refused(bad: str) -> None:
    check_reals(["1", bad, "2"])


@pytest.mark.parametrize("bad", ["3.4028236e38", "-1e39", "3.4028235677973366e38"])
def test_beyond_the_float_range_is_refused_as_float_only(bad: str) -> None:
    check_reals([bad] * 9)
    assert decode_numbers(text_of([bad]), np.float64)[0] == float(bad)


def test_numbers_between_two_doubles_and_just_beside() -> None:
    generator = random.Random(7)
    lows = [1.0, 0.1, 3.0, 1e15, 1e16, 2.0**53, 2.0**60, 1e22, 1e23, 5e-324, 2.2250738585072014e-308]
    lows += [math.ldexp(generator.random() + 0.5, generator.randint(-80, 80)) for _ in range(200)]
    for low in lows:
        middle = halfway(low)
        longer = (middle if "." in middle else middle + ".0") + "0" * 5
        check_reals([middle, "-" + middle, longer + "1", longer, longer[:-7].rstrip(".")])


def test_numbers_between_two_floats() -> None:
    """Rounding to a double first and then to a float is the definition, also where it rounds twice."""
    generator = random.Random(8)
    plain = []
    for _ in range(300):
        low = np.float32(math.ldexp(generator.random() + 0.5, generator.randint(-120, 120)))
        middle = (float(low) + float(np.nextafter(low, np.float32(np.inf)))) / 2
        tiny = math.ulp(middle)
        check_reals(
            [repr(middle), repr(middle + tiny), repr(middle - tiny), f"{middle:.25e}", f"{middle:.30e}"]
        )
        exact = (
            Fraction(middle) if 1e-3 < middle < 1e28 else Fraction(16777217 + 2 * generator.randrange(8**7))
        )
        for places in range(30 - len(str(int(exact)))):
            plain += [
                f"{int(exact)}.{int(exact % 1 * 10**places) + off:0{places}}" for off in (0, 1) if places
            ]
        plain.append(str(int(exact)))
    check_reals(plain)
    check_reals(["-" + number for number in plain], ", ")


def test_nineteen_digits_with_every_exponent() -> None:
    """Whatever their number, and where they are the first of the number between two doubles, or beside it."""
    generator = random.Random(9)
    for power in range(-345, 308):
        numbers = [f"{generator.randrange(10**count)}e{power - count}" for count in range(1, 20)]
        if power > -306:
            middle = Fraction(halfway(generator.uniform(1, 10) * 10.0**power))
            first = int(middle * Fraction(10) ** (18 - power))
            numbers += [f"{first // 10**18}.{first % 10**18:018}E{power:+}", f"-{first + 1}e{power - 18}"]
        check_reals([number for number in numbers if abs(float(number)) < 3e38])
        got = decode_numbers(text_of(numbers), np.float64)
        assert got.tolist() == [float(number) for number in numbers]


doubles = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 2**64 - 1)
    .map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
    .filter(math.isfinite),
    st.floats(-1e6, 1e6),
)
printed = st.one_of(
    doubles.map(repr),
    st.builds(lambda value, digits: f"{value:.{digits}g}", doubles, st.integers(1, 30)),
    st.builds(lambda value, digits: f"{value:.{digits}f}", st.floats(-1e9, 1e9), st.integers(0, 30)),
    st.builds(lambda value, digits: f"{value:.{digits}e}", doubles, st.integers(0, 30)),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: str(np.float32(value))),
    st.integers(-(10**40), 10**40).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,3})?", fullmatch=True).map(
        str.strip
    ),
)


@settings(max_examples=400, deadline=None)
@given(numbers=st.lists(printed, min_size=1, max_size=30), separator=st.sampled_from(SEPARATORS))
def test_any_number(numbers: list[str], separator: str) -> None:
    check_reals(numbers, separator)


def test_many_numbers_of_every_usual_form() -> None:
    generator = np.random.default_rng(3)
    values = generator.standard_normal(20_000) * 10.0 ** generator.integers(-6, 7, 20_000)
    forms = [*(f"%.{digits}g" for digits in range(1, 22)), "%.2f", "%.9f", "%.17f", "%d"]
    for separator in (",", ", "):
        for form in forms:
            numbers = [form % value for value in values[:2000]]
            got = decode_numbers(text_of(numbers, separator), np.float64)
            # Only "%d" prints integers, and some of them as -0.
            assert (got == np.array([float(number) for number in numbers])).all()
        for dtype in (np.float64, np.float32):
            body = separator.join(map(repr, values.tolist()))
            got = decode_numbers(f"[{body}]".encode(), dtype)
            assert got.tobytes() == values.astype(dtype).tobytes()


# -- integers and the rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", INTEGERS)
def test_integers_up_to_their_limits_and_no_further(datatype: str) -> None:
    limits = np.iinfo(DTYPES[datatype])
    good = [limits.min, limits.min + 1, limits.max, limits.max - 1, 0, 1, 9, 10, 99, 100, 12, 127]
    numbers = [str(number) for number in good] + ["-0"]
    for separator in SEPARATORS:
        got = decode_numbers(text_of(numbers, separator), DTYPES[datatype])
        assert got.tolist() == [*good, 0]
    bad = [limits.min - 1, limits.max + 1, limits.max * 10, 10**19 * 9, 10**20, 10**30, -(10**17)]
    for number in bad:
        if limits.min <= number <= limits.max:
            continue
        for numbers in ([str(number)], [str(number)] + ["1"] * 40):
            with pytest.raises(ValueError, match="not a flat JSON array"):
                decode_numbers(text_of(numbers), DTYPES[datatype])


@settings(max_examples=300, deadline=None)
@given(data=st.data(), datatype=st.sampled_from(INTEGERS), separator=st.sampled_from(SEPARATORS))
def test_any_integer(data: st.DataObject, datatype: str, separator: str) -> None:
    limits = np.iinfo(DTYPES[datatype])
    inside = st.integers(int(limits.min), int(limits.max)).map(str)
    texts = st.one_of(inside, st.from_regex(r"-?[0-9]{1,22}(\.0|e1)?", fullmatch=True).map(str.strip))
    numbers = data.draw(
        st.one_of(st.lists(inside, min_size=1, max_size=40), st.lists(texts, min_size=1, max_size=5))
    )
    try:
        for number in numbers:
            orjson.loads(number)
        expected = [scalar(Number(number), datatype) for number in numbers]
    except (Refused, ValueError):
        with pytest.raises(ValueError, match="not a flat JSON array"):
            decode_numbers(text_of(numbers, separator), DTYPES[datatype])
    else:
        assert decode_numbers(text_of(numbers, separator), DTYPES[datatype]).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_null_is_nan(dtype: Any) -> None:
    got = decode_numbers(b"[null,1, null ," + b"1," * 30 + b"null]", dtype)
    expected = np.array([math.nan, 1, math.nan, *[1] * 30, math.nan], dtype)
    assert got.tobytes() == expected.tobytes()


def test_booleans() -> None:
    assert decode_numbers(b"[true, false,true ]", np.bool_).tolist() == [True, False, True]


def test_an_empty_array() -> None:
    assert decode_numbers(b" [ ] ", np.float32).shape == (0,)


GRAMMAR = [
    *(
        "[01]",
        "[-01]",
        "[00]",
        "[+1]",
        "[.5]",
        "[-.5]",
        "[1.]",
        "[1.e5]",
        "[1e]",
        "[1e+]",
        "[1e-]",
        "[--1]",
        "[-]",
    ),
    *("[]1", "", "[", "]", "[1", "1]", "[1,]", "[,1]", "[1,,2]", "[1 2]", "[1]]", "[[1]]", "[1]x", "[1;2]"),
    *(
        "[NaN]",
        "[nan]",
        "[Infinity]",
        "[-Infinity]",
        "[inf]",
        "[nul]",
        "[nulL]",
        "[nullx]",
        "[true]",
        '["1"]',
    ),
    *(
        "[1.2.3]",
        "[1-2]",
        "[1e5e5]",
        "[1e5.5]",
        "[0x10]",
        "[1_000]",
        "[1d5]",
        "[1f]",
        "[1\0]",
        "[1,\0]",
        "[\0]",
    ),
    *("[1\x0b]", "[\xa01]", "[１]", "[1,2", "[1,2,", "[1, ", "[1.5e3", "[0.123456789012345678", "{}", "[{}]"),
]


LONG = [
    *(
        "01.2345678901234567",
        "-00.123456789012345",
        ".12345678901234567",
        "-.1234567890123456",
        "1.2345678901234.67",
    ),
    *(
        "1234567890123456.",
        "-1234567890123456789.",
        "1.234567890123456x",
        "1.23456789/12345678",
        "1.23456789:12345678",
    ),
    *(
        "1-2345678901234567",
        "--1.2345678901234567",
        "1.234567890123456-",
        "0.1234567890123456e",
        "+1.2345678901234567",
    ),
]


@pytest.mark.parametrize("text", [*GRAMMAR, *(f"[{number}]" for number in LONG)])
@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT8", "UINT64"])
def test_wrong_grammar_is_refused_wherever_it_stands(text: str, datatype: str) -> None:
    filler = "123.5," if datatype.startswith("FP") else "12,"
    bodies = [text.encode()]
    if text.startswith("["):
        bodies += [b"[" + filler.encode() * 20 + text[1:].encode()]
    if text.endswith("]") and len(text) > 2:
        bodies += [text[:-1].encode() + b"," + filler.encode() * 20 + b"1]"]
    for body in bodies:
        with pytest.raises(ValueError, match="not a flat JSON array"):
            decode_numbers(body, DTYPES[datatype])


@pytest.mark.parametrize("dtype", [np.float16, object, np.complex128, "U5", ">f4"])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match="is not read from JSON"):
        decode_numbers(b"[1]", dtype)
