"""The command itself: help, version, what it imports, how it ends."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from fastserve.registry import Registry, SigningKey
from fastserve.registry.signing import generate
from tests.cli.conftest import Run, environment, publish
from tests.servers import free_port, request, running
from tests.waiting import until


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_server_whose_standard_streams_are_closed_or_full(tmp_path: Path, closed: str) -> None:
    port = free_port()
    command = (
        f"exec '{sys.executable}' -m fastserve.cli serve --registry '{tmp_path}' --port {port} --workers 2"
    )
    process = subprocess.Popen(
        ["sh", "-c", f"{command} --control-port 0 --grpc-port 9001 {closed}"],
        env=environment(PYTHONUNBUFFERED=""),
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: is_live(port))
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    "arguments", [("--version",), ("models", "list", "--json", "--registry", "."), ("--help",)]
)
def test_what_cannot_be_printed_is_told_with_exit_code_1(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastserve.cli", *arguments],
            cwd=tmp_path,
            env=environment(PYTHONUNBUFFERED=""),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (1, "fastserve: [Errno 28] No space left on device\n")


def is_live(port: int) -> bool:
    with contextlib.suppress(OSError):
        return request(port, "GET", "/v2/health/live").status == 200
    return False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("serve", "models", "demo", "Exit codes: 0 done, 1 failed, 2 wrong use.")),
        (
            ("serve",),
            (
                "--registry",
                "--grpc-port",
                "--control-port",
                "--workers",
                "--require-signature",
                "[default: 8000]",
                "Example:",
            ),
        ),
        (("control",), ("--control-port", "`serve` starts none at 0", "[default: 8002]", "Example:")),
        (("models",), ("publish", "list", "show", "rollback", "audit", "Example:")),
        (("models", "publish"), ("NAME", "FILE", "--registry", "Example:")),
        (("models", "list"), ("--json", "Example:")),
        (("models", "show"), ("NAME[@VERSION]", "--json", "Example:")),
        (("models", "alias"), ("[ALIAS]", "[VERSION]", "--remove", "Example:")),
        (("models", "rollback"), ("NAME", "--alias", "Example:")),
        (("models", "tag"), ("NAME@VERSION", "key=value", "Example:")),
        (("models", "archive"), ("NAME@VERSION", "--undo", "Example:")),
        (("models", "verify"), ("--all", "--require-signature", "Example:")),
        (("models", "audit"), ("--verify", "--last", "Example:")),
        (("models", "gc"), ("--keep", "--dry-run", "Example:")),
        (("models", "import"), ("DIR", "--name", "--dry-run", "<model>/<version>/model.onnx", "Example:")),
        (("models", "keygen"), ("PRIVATE", "PUBLIC", "fastserve[sign]", "Example:")),
        (("models", "load"), ("NAME", "Example:")),
        (("models", "unload"), ("NAME", "Example:")),
        (("monitor", "profile"), ("--model", "Example: fastserve monitor profile")),
        (("monitor", "compare"), ("--exact", "Example: fastserve monitor compare")),
        (("monitor", "report"), ("--since", "Example: fastserve monitor report")),
        (("monitor", "watch"), ("--every", "Example: fastserve monitor watch")),
        (("demo",), ("--dir", "--keep-serving", "fastserve[demo,cpu]", "Example:")),
    ],
)
def test_help(call: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    done = call(*arguments, "--help")
    assert done.returncode == 0
    for word in words:
        assert word in done.stdout


def test_version(run: Run) -> None:
    from fastserve import __version__

    assert run("--version").stdout == f"fastserve {__version__}\n"


def test_no_arguments_show_the_help(run: Run) -> None:
    done = run()
    assert done.returncode == 2
    assert "Usage" in done.stdout + done.stderr


def imported_by(*modules: str) -> list[str]:
    """The names of all modules that are there once these have been imported."""
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.split()


def test_help_imports_nothing_heavy() -> None:
    heavy = {"numpy", "onnxruntime", "pandas", "pydantic", "sklearn", "starlette", "uvicorn", "yaml"}
    assert heavy.isdisjoint(imported_by("fastserve.cli"))


def test_serving_imports_nothing_of_training() -> None:
    heavy = {"pandas", "sklearn", "skl2onnx", "onnx", "scipy", "rich.progress"}
    assert heavy.isdisjoint(imported_by("fastserve.cli", "fastserve.app"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve",), "fastserve: no registry given: use --registry DIR, FASTSERVE_REGISTRY, or"),
        (
            ("serve", "--registry", ".", "--port", "70000"),
            "fastserve: --port: server.port is '70000', but it takes",
        ),
        (
            ("serve", "--registry", ".", "--port", "many"),
            "fastserve: --port: server.port is 'many', but it takes",
        ),
        (
            ("serve", "--registry", ".", "--workers", "0"),
            "fastserve: --workers: server.workers is '0', but it takes",
        ),
        (("serve", "--registry", ".", "--log-level", "loud"), "fastserve: --log-level: log.level is 'loud'"),
        (("serve", "--registry", ""), "it is empty, not a directory"),
        (("serve", "--registry", "/dev/null"), "'/dev/null' is a file, not a directory"),
        (("serve", "--config", "none.yaml"), "fastserve: cannot read the configuration none.yaml: No such"),
        (("serve", "--config", "."), "'.' is a directory"),
        (("serve", "--registry", ".", "--require-signature", "none.pem"), "none.pem"),
        (("serve", "--prot", "1"), "fastserve: No such option: --prot"),
        (("serve", "--port"), "fastserve: Option '--port' requires an argument."),
        (("serv",), "fastserve: No such command 'serv'. Did you mean 'serve'?"),
        (
            ("models", "publish"),
            "fastserve: Missing argument 'NAME'. Try 'fastserve models publish -h' for help.",
        ),
    ],
)
def test_wrong_use_is_one_sentence_and_exits_2(call: Run, arguments: tuple[str, ...], words: str) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("models",), ("monitor",)])
def test_a_command_that_lacks_its_verb_shows_the_help(call: Run, arguments: tuple[str, ...]) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stdout + done.stderr
    assert "fastserve:" not in done.stderr


def test_a_wrong_key_in_the_configuration(call: Run, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("registry: .\nserver:\n  prot: 80\n")
    done = call("serve", "--config", "c.yaml")
    assert done.returncode == 2
    assert (
        done.stderr
        == "fastserve: c.yaml line 3: 'server.prot' is not a setting; did you mean 'server.port'?\n"
    )


def test_a_registry_that_is_not_there_exits_1(run: Run) -> None:
    done = run("serve", "--registry", "none")
    assert done.returncode == 1
    assert done.stderr.startswith("fastserve: the registry 'none' is not a directory")


@pytest.fixture
def terminal() -> Iterator[None]:
    """As if from a terminal: what nohup ignores is ignored by all that is started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_serving_with_0(
    tmp_path: Path, model: Path, store: Registry, number: signal.Signals
) -> None:
    publish(store, model)
    with running(tmp_path / "reg", tmp_path) as server:
        answer = server.request(
            "POST",
            "/v2/models/double/infer",
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]},
        )
        assert answer.json()["outputs"][0]["data"] == [2.0, 4.0, 6.0]
        server.process.send_signal(number)
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.log.read_text()


_TOLD_TO_STOP = """
import os, sys
import fastserve.cli, fastserve.config, fastserve.controlplane.process, fastserve.app.supervisor

place, name, number = sys.argv.pop(1), sys.argv.pop(1), int(sys.argv.pop(1))

class Told:
    def __del__(self):  # what a handler raises here is lost, as it may be in an import
        os.kill(os.getpid(), number)

setattr(sys.modules[place], name, lambda *_, **__: Told() and None)
fastserve.cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("verb", "place", "name"),
    [
        ("serve", "fastserve.config", "load"),
        ("serve", "fastserve.app.supervisor", "open_registry"),
        ("serve", "fastserve.app.supervisor", "bind"),
        ("serve --control-port 0", "fastserve.app.supervisor", "import_worker"),
        ("control", "fastserve.config", "load"),
        ("control", "fastserve.controlplane.process", "open_database"),
    ],
)
def test_a_signal_in_the_first_moment_ends_it_with_0(
    tmp_path: Path, number: signal.Signals, verb: str, place: str, name: str
) -> None:
    told = [sys.executable, "-c", _TOLD_TO_STOP, place, name, str(int(number))]
    done = subprocess.run(
        [*told, *verb.split(), "--registry", "."],
        cwd=tmp_path,
        env=environment(FASTSERVE_CONTROL__TOKEN="x" * 16, FASTSERVE_SERVER__CONTROL_PORT=str(free_port())),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.usefixtures("terminal")
def test_a_control_plane_alone_does_as_its_flags_say_and_ends_with_its_terminal(tmp_path: Path) -> None:
    address = "127.0.0.2", free_port()
    flags = ["--control-host", address[0], "--control-port", str(address[1]), "--log-level", "warning"]
    flags += ["--registry", ".", "--database", "sqlite:///here.db"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastserve.cli", "control", *flags],
        cwd=tmp_path,
        env=environment(FASTSERVE_CONTROL__TOKEN="x" * 16),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: gives_metrics(address))
    finally:
        process.send_signal(signal.SIGHUP)
        _, log = process.communicate(timeout=30)
    assert (process.returncode, log) == (0, "")
    assert (tmp_path / "here.db").exists()


def gives_metrics(address: tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(HTTPConnection(*address, timeout=20)) as asking:
        asking.request("GET", "/metrics")
        return asking.getresponse().status == 200
    return False


def test_ports_of_what_is_not_there_are_taken_with_a_word(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "fastserve.cli", "serve", "--registry", ".", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--grpc-port", "9001", "--control-port", "0"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == (
            "fastserve: this release has no gRPC front end: --grpc-port 9001 is accepted and not opened\n"
        )
        until(lambda: is_live(port))
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


_SHOW = (
    "import fastserve.app, fastserve.cli\n"
    "fastserve.app.serve = lambda settings: print(*settings.lifecycle.require_signature) or 0\n"
    "fastserve.cli.main()\n"
)


def test_a_key_may_be_given_again(tmp_path: Path) -> None:
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).touch()
    (tmp_path / "c.yaml").write_text("registry: .\nlifecycle:\n  require_signature: [c.pem]\n")
    for flags, keys in (
        (("--require-signature", "a.pem", "--require-signature", "b.pem"), "a.pem b.pem\n"),
        ((), "c.pem\n"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _SHOW, "serve", "--config", "c.yaml", *flags],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (0, keys), done.stderr


def test_serving_asks_for_signatures(tmp_path: Path, model: Path, store: Registry) -> None:
    generate(tmp_path / "own.pem", tmp_path / "own.pub.pem")
    publish(store, model)
    publish(store, model, sign=SigningKey.load(tmp_path / "own.pem"))
    publish(store, model)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "fastserve.cli",
        "serve",
        "--registry",
        "reg",
        "--port",
        str(port),
        "--control-port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, "--require-signature", "own.pub.pem"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: is_live(port))
        until(lambda: [row["state"] for row in index(port)] == ["UNAVAILABLE", "READY", "UNAVAILABLE"])
        rows = index(port)
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert [row["version"] for row in rows] == ["1", "2", "3"]
    assert "sign" in rows[0]["reason"]


def index(port: int) -> list[dict[str, str]]:
    """Every version with its state, ordered by version."""
    rows: list[dict[str, str]] = request(port, "POST", "/v2/repository/index").json()
    return sorted(rows, key=lambda row: row["version"])
