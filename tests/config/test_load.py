"""File, environment and flags over one another, and the sentence for each mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve.config import Config, load
from fastserve.errors import ConfigError

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return path

    return write


def message(path: Path | None = None, environ: dict[str, str] | None = None, flags: Any = None) -> str:
    """The error of a load that must fail, with the file's folder cut off."""
    with pytest.raises(ConfigError) as caught:
        load(path, environ, flags)
    text = str(caught.value)
    return text.replace(f"{path.parent}/", "") if path else text


def test_defaults() -> None:
    config = load()
    assert config == Config()
    assert (config.server.host, config.server.port, config.server.workers) == ("127.0.0.1", 8000, 1)
    with pytest.raises(ConfigError, match="no registry given: use --registry DIR, FASTSERVE_REGISTRY, or"):
        config.registry_dir()


def test_the_later_wins(write: Write) -> None:
    path = write("registry: file\nserver: {port: 1, workers: 2, backlog: 3}\n")
    environ = {
        "FASTSERVE_SERVER__PORT": "11",
        "FASTSERVE_SERVER__WORKERS": "12",
        "FASTSERVE_REGISTRY": "env",
    }
    config = load(path, environ, {"--port": (("server", "port"), 21), "--registry": (("registry",), None)})
    assert (config.server.port, config.server.workers, config.server.backlog) == (21, 12, 3)
    assert config.registry_dir() == Path("env")


def test_a_section_with_every_line_commented_out_means_its_defaults(write: Write) -> None:
    assert load(write("server:\n#  port: 1\n")) == Config()


def test_a_token_is_text_whatever_it_looks_like() -> None:
    config = load(None, {"FASTSERVE_MONITORING__CONTROL_TOKEN": "[a, b]"})
    assert config.monitoring.control_token is not None
    assert config.monitoring.control_token.get_secret_value() == "[a, b]"


def test_survives_the_way_to_a_worker() -> None:
    config = load(None, {"FASTSERVE_SERVER__PORT": "8001", "FASTSERVE_REGISTRY": "r"})
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("FASTSERVE_HTTP__FAST_PATH", "false", lambda c: c.http.fast_path is False),
        ("FASTSERVE_HTTP__KEEP_ALIVE_S", "2.5", lambda c: c.http.keep_alive_s == 2.5),
        ("FASTSERVE_RUNTIME__PROVIDER", "cpu", lambda c: c.runtime.provider == "cpu"),
        ("FASTSERVE_LOG__LEVEL", "debug", lambda c: c.log.level == "debug"),
        ("FASTSERVE_SERVER__HOST", "0", lambda c: c.server.host == "0"),
        ("FASTSERVE_REGISTRY", "null", lambda c: c.registry is None),
        ("FASTSERVE_REGISTRY", "[old]", lambda c: c.registry == Path("[old]")),
        (
            "FASTSERVE_LIFECYCLE__REQUIRE_SIGNATURE",
            "[a.pem, b.pem]",
            lambda c: c.lifecycle.require_signature == (Path("a.pem"), Path("b.pem")),
        ),
        (
            "FASTSERVE_LIFECYCLE__ALLOWED_DOMAINS",
            "[com.acme]",
            lambda c: c.lifecycle.allowed_domains == ("com.acme",),
        ),
        ("FASTSERVE_CONTROL__TOKEN", "{x}" * 8, lambda c: c.control.token.get_secret_value() == "{x}" * 8),
    ],
)
def test_environment_values(name: str, text: str, read: Callable[[Config], bool]) -> None:
    assert read(load(None, {name: text}))


def test_what_an_orchestrator_puts_beside_a_service_of_this_name_is_not_ours() -> None:
    environ = {
        "FASTSERVE_PORT": "tcp://10.0.0.1:8000",
        "FASTSERVE_SERVICE_HOST": "10.0.0.1",
        "FASTSERVE_PORT_8000_TCP_ADDR": "10.0.0.1",
        "OTHER__PORT": "1",
    }
    assert load(None, environ) == Config()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: {prot: 1}", "'server.prot' is not a setting; did you mean 'server.port'?"),
        ("batchng: {}", "'batchng' is not a setting; did you mean 'batching'?"),
        ("workers: 2", "'workers' is not a setting; did you mean 'server.workers'?"),
        ("control: {hots: x}", "'control.hots' is not a setting; did you mean 'control.host'?"),
        ("host: x", "'host' is not a setting; did you mean 'server.host'?"),
        ("http: {zzzz: 1}", "'http.zzzz' is not a setting"),
        ("monitoring: {zz: 1}", "'monitoring.zz' is not a setting"),
        (
            "server: {port: 70000}",
            "server.port is 70000, but it takes a whole number from 0 to 65535",
        ),
        (
            "server: {port: many}",
            "server.port is 'many', but it takes a whole number from 0 to 65535",
        ),
        ("server: 3", "server is 3, but it takes a mapping (key: value)"),
        (
            "log: {level: loud}",
            "log.level is 'loud', but it takes debug, info, warning or error",
        ),
        (
            "runtime: {provider: gpu}",
            "runtime.provider is 'gpu', but it takes auto, cpu, cuda or tensorrt",
        ),
        (
            "http: {fast_path: perhaps}",
            "http.fast_path is 'perhaps', but it takes true or false",
        ),
        ("server: {host: ''}", "server.host is '', but it takes text that is not empty"),
        (
            "lifecycle: {verify: false, require_signature: [key.pem]}",
            "lifecycle: require_signature needs verify: what is signed are the files' checksums",
        ),
        ("registry: ''", "registry: it is empty, not a directory"),
        ("registry: [a]", "registry is ['a'], but it takes a path or null"),
    ],
)
def test_mistakes_in_the_file(write: Write, text: str, words: str) -> None:
    assert message(write(text)) == "c.yaml line 1: " + words


def test_every_mistake_has_a_line(write: Write) -> None:
    lines = message(write("server:\n  prot: 1\n  workers: 0\n"), {"FASTSERVE_LOG__LEVEL": "x"}).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "c.yaml line 3",
        "c.yaml line 2",
        "FASTSERVE_LOG__LEVEL",
    ]


def test_mistakes_in_the_environment_and_the_flags() -> None:
    assert message(None, {"FASTSERVE_RUNTIME__MAX_BUCKET_MS": "inf"}).startswith(
        "FASTSERVE_RUNTIME__MAX_BUCKET_MS: runtime.max_bucket_ms is 'inf', but it takes a number"
    )
    assert message(None, {"FASTSERVE_SERVER__PROT": "1"}) == (
        "FASTSERVE_SERVER__PROT: 'server.prot' is not a setting; did you mean 'server.port'?"
    )
    assert message(None, {"FASTSERVE_HTTP__MAX_BODY_BYTES": "[1"}).startswith(
        "FASTSERVE_HTTP__MAX_BODY_BYTES: http.max_body_bytes is '[1', but it takes a whole number"
    )
    assert message(None, {"FASTSERVE_LIFECYCLE__REQUIRE_SIGNATURE": "[1]"}) == (
        "FASTSERVE_LIFECYCLE__REQUIRE_SIGNATURE: lifecycle.require_signature.0 is 1, but it takes a path"
    )
    assert message(None, None, {"--workers": (("server", "workers"), 0)}) == (
        "--workers: server.workers is 0, but it takes a whole number from 1 to 1024"
    )


@pytest.mark.parametrize("section", ["http.admin_token", "control.token", "monitoring.control_token"])
@pytest.mark.parametrize("given", ["5555666677778888", "[secret-one, secret-two]", "{secret: 1}"])
def test_a_secret_is_never_shown(write: Write, section: str, given: str) -> None:
    section, key = section.split(".")
    text = message(write(f"{section}: {{{key}: {given}}}"))
    assert f"{section}.{key} is something else (not shown), but it takes text" in text
    assert "5555" not in text and "secret" not in text


@pytest.mark.parametrize("text", ["[2013-13-45]", "[" * 5_000, "[*a]", "[&a [x, x], *a]", "{a: {b"])
def test_a_variable_that_is_no_list_is_said_with_its_name(text: str) -> None:
    told = message(None, {"FASTSERVE_SERVER__PORT": text})
    assert told.startswith(f"FASTSERVE_SERVER__PORT: server.port is {text[:4]!r}"[:42])


def test_of_very_many_mistakes_the_first_are_told(write: Write) -> None:
    lines = message(write("".join(f"unknown_{n}: 1\n" for n in range(5_000)))).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 4,980 settings more are wrong"
    assert len(message(write("".join(f"unknown_{n}: 1\n" for n in range(20)))).splitlines()) == 20


def test_long_values_are_cut(write: Write) -> None:
    assert len(message(write(f"server: {{port: {'x' * 10_000}}}"))) < 200


def test_a_value_under_what_is_no_section(write: Write) -> None:
    text = message(None, {"FASTSERVE_SERVER__PORT__X": "1"})
    assert text.startswith("FASTSERVE_SERVER__PORT__X: server.port is {'x'")
    assert message(write("server: 3"), {"FASTSERVE_SERVER__PORT": "1"}).startswith(
        "c.yaml line 1: server is 3"
    )


def test_what_a_flag_overrides_must_be_right_too(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("server:\n  port: abc\n  workers: 2\n")
    with pytest.raises(
        ConfigError, match=r"c\.yaml line 2: server\.port is 'abc', but it takes a whole number"
    ):
        load(file, {}, {"--port": (("server", "port"), 8001)})


@pytest.mark.parametrize("text", ["server: {port: true}", "http: {keep_alive_s: false}"])
def test_a_truth_value_is_no_number(tmp_path: Path, text: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"c\.yaml line 1: .* but it takes a"):
        load(file, {})


def test_what_one_setting_needs_of_another_may_come_from_the_environment(write: Write) -> None:
    file = write("http: {load_control: true}")
    assert load(file, {"FASTSERVE_HTTP__ADMIN_TOKEN": "x" * 16}).http.load_control
    assert message(file).startswith("c.yaml line 1: http: load_control needs an admin_token")


def test_an_empty_variable_names_no_registry() -> None:
    assert load(None, {"FASTSERVE_REGISTRY": ""}).registry is None
