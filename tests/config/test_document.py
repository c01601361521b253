"""One YAML document: what is read, what is refused, and that the refusal says where."""

from pathlib import Path

import pytest

from fastserve.config.document import MAX_BYTES, parse, read
from fastserve.errors import ConfigError


def test_values_and_lines() -> None:
    document = parse("server:\n  port: 1\nlist: [{a: 1}]\n", "x")
    assert document.values == {"server": {"port": 1}, "list": [{"a": 1}]}
    assert document.lines == {("server",): 1, ("server", "port"): 2, ("list",): 3, ("list", "0", "a"): 3}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_nothing_means_defaults(text: str) -> None:
    assert parse(text, "x").values == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b", "x must hold a mapping (key: value) at its top, not a list"),
        ("just text", "x must hold a mapping (key: value) at its top, not a single value"),
        ("a: 1\nb: 2\na: 3", "x line 3: 'a' is given twice"),
        ("a:\n  b: 1\n  b: 2", "x line 3: 'a.b' is given twice"),
        ("a: [{b: 1, b: 1}]", "x line 1: 'a.0.b' is given twice"),
        ("a: &n 1\nb: *n", "x line 2: aliases (*name) are not allowed"),
        ("a: &n {c: 1}\nb:\n  <<: *n", "x line 3: "),
        ("8000: a", "x line 1: the key '8000' is not text"),
        ("1" * 99 + ": a", f"x line 1: the key '{'1' * 64}' is not text"),
        ("? [a]\n: b", "x line 1: the key 'a list' is not text"),
        ("? !!str [a]\n: b", "x line 1: the key 'a list' is not text"),
        ("a: [", "x line 1: "),
        ("a: b: c", "x line 1: "),
        ("a: 1\n---\nb: 2", "x line 2: "),
        ("a: 2013-13-45", "x is not valid YAML: month must be in 1..12"),
        ("a: !!python/object/apply:os.system [echo]", "x line 1: could not determine a constructor"),
        ("[" * 100_000, "x is nested too deeply"),
        ("a: \x00", "x is not valid YAML: "),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x")
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_file_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than the limit of 1048576 bytes"):
        read(path)


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml is not UTF-8 text \(byte 3\)"):
        read(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*: No such file or directory"):
        read(tmp_path / "none.yaml")


def test_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(path).values == {"a": 1}


@pytest.mark.parametrize(
    "value",
    [
        "1" + ":0" * 250 + ".5",
        '!!int ""',
        '!!float ""',
        "!!bool perhaps",
        "!!timestamp x",
        "!!omap [a]",
        "2013-13-45",
    ],
)
def test_a_scalar_that_its_constructor_cannot_take(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^c\.yaml"):
        parse(f"log: {value}\n", "c.yaml")
