"""`fastserve models`: publish, list, show, and the mistakes a user makes with them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve.cli.models.naming import ranges
from fastserve.lifecycle import probed
from fastserve.registry import Registry
from tests.cli.conftest import Run, fails, publish, tamper
from tests.lifecycle.hostile import endless_loop
from tests.models import mlp


def test_publish_list_show(call: Run, run: Run, model: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text('{"data": {"sha256": "ab"}, "metrics": {"auc": 0.7}}')
    first = run("models", "publish", "double", model, "--registry", "reg", "--from-run", facts)
    assert (first.returncode, first.stdout, first.stderr) == (0, "double version 1 → reg/double/1\n", "")
    second = call("models", "publish", "double", model, "--registry", "reg")
    assert second.stdout == "double version 2 → reg/double/2\n"

    table = run("models", "list", FASTSERVE_REGISTRY="reg")
    assert table.returncode == 0
    lines = table.stdout.splitlines()
    assert lines[0].split() == [
        *("MODEL", "VERSION", "ALIASES", "TAGS", "CREATED", "SIZE", "TAKES", "→", "GIVES"),
    ]
    assert [line.split()[:2] for line in lines[1:]] == [["double", "2"], ["double", "1"]]
    assert lines[1].rstrip().endswith("x → y")

    shown = call("models", "show", "double@1", "--registry", "reg")
    assert shown.returncode == 0
    for words in ("double version 1", "x ", "FP32", "[-1, 3]", "model.onnx", '{"auc": 0.7}'):
        assert words in shown.stdout

    facts_shown = json.loads(call("models", "show", "double@1", "--registry", "reg", "--json").stdout)
    assert facts_shown["signature"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert facts_shown["provenance"] == {"data": {"sha256": "ab"}, "metrics": {"auc": 0.7}}
    assert facts_shown["files"]["model.onnx"]["bytes"] == model.stat().st_size
    assert json.loads(call("models", "show", "double", "--registry", "reg", "--json").stdout)["version"] == 2


def test_a_terminal_that_lacks_some_letters(run: Run, model: Path) -> None:
    done = run("models", "publish", "double", model, "--registry", "reg", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "double version 1 ? reg/double/1\n", "")
    table = run("models", "list", "--registry", "reg", PYTHONIOENCODING="ascii")
    assert (table.returncode, table.stderr) == (0, "")
    assert table.stdout.splitlines()[1].rstrip().endswith("x ? y")
    tags = run("models", "tag", "double@1", "to=→", "--registry", "reg", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(tags.stdout) == {"to": "→"}


def test_publish_with_an_alias(call: Run, model: Path) -> None:
    first = call("models", "publish", "double", model, "--registry", "reg", "--alias", "champion")
    assert first.stdout == "double version 1 → reg/double/1\ndouble: champion → 1\n"
    second = call("models", "publish", "double", model, "--registry", "reg", "--alias", "champion", "--json")
    assert json.loads(second.stdout) == {
        "model": "double",
        "version": 2,
        "path": "reg/double/2",
        "alias": "champion",
        "signed": False,
        "profile": None,
    }
    shown = json.loads(call("models", "show", "double@champion", "--registry", "reg", "--json").stdout)
    assert (shown["version"], shown["aliases"]) == (2, ["champion"])
    assert "champion" in call("models", "list", "double", "--registry", "reg").stdout.splitlines()[1]


def test_a_tree_that_something_else_wrote(call: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "reg/plain/3").mkdir(parents=True)
    (tmp_path / "reg/plain/3/model.onnx").write_bytes(model.read_bytes())
    (row,) = json.loads(call("models", "list", "--registry", "reg", "--json").stdout)
    assert (row["model"], row["version"], row["created_at"], row["problem"]) == ("plain", 3, None, None)
    facts = json.loads(call("models", "show", "plain", "--registry", "reg", "--json").stdout)
    assert facts["signature"]["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    assert facts["provenance"] is None


def test_a_broken_version_is_seen_and_hides_no_other(call: Run, model: Path, store: Registry) -> None:
    publish(store, model, count=2)
    tamper(store.path / "double/1/manifest.json", lambda data: b"{")
    tamper(store.path / "double/2/model.onnx", lambda data: b"x" * len(data))
    rows = json.loads(call("models", "list", "--registry", "reg", "--json").stdout)
    assert [row["version"] for row in rows] == [2, 1]
    assert "manifest.json" in rows[1]["problem"]
    fails(call("models", "show", "double@2", "--registry", "reg"), 1, "fastserve: double/2/model.onnx ")


def test_an_empty_registry(call: Run, run: Run, tmp_path: Path) -> None:
    (tmp_path / "reg").mkdir()
    listed = run("models", "list", "--registry", "reg")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert listed.stderr == "no models in reg; publish one: fastserve models publish NAME FILE\n"
    assert call("models", "list", "--registry", "reg", "--json").stdout == "[]\n"
    (tmp_path / "reg/flights").mkdir()
    none = "model 'flights' has no version; publish one: fastserve models publish flights FILE\n"
    assert call("models", "list", "flights", "--registry", "reg").stderr == none
    fails(call("models", "show", "flights", "--registry", "reg"), 1, "model 'flights' has no version")


def test_failures_are_one_line_and_exit_1(
    call: Run, run: Run, model: Path, tmp_path: Path, store: Registry
) -> None:
    publish(store, model)
    (tmp_path / "bad.onnx").write_text("hello")
    has = "; it has version 1\n"
    for arguments, words in (
        (("show", "nope"), "fastserve: model 'nope' is not known; the registry has double\n"),
        (("show", "duoble"), "fastserve: model 'duoble' is not known; did you mean 'double'?\n"),
        (("list", "duoble"), "fastserve: model 'duoble' is not known; did you mean 'double'?\n"),
        (("show", "double@7"), f"fastserve: model 'double' has no version '7'{has}"),
        (("show", "double@x"), f"fastserve: model 'double' has no version or alias 'x'{has}"),
        (("show", "double@x\x1b[2J"), r"fastserve: model 'double' has no version or alias 'x\x1b[2J'"),
        (("publish", "../up", "model.onnx"), "fastserve: '../up' is not a model name: "),
        (("publish", "double", "model.onnx", "--alias", "7"), "fastserve: '7' is not an alias: "),
        (("publish", "bad", "bad.onnx"), "fastserve: "),
    ):
        fails(call("models", *arguments, "--registry", "reg"), 1, words)
    fails(run("models", "show", "duoble", "--registry", "reg"), 1, "did you mean 'double'?")
    fails(run("models", "publish", "bad", "bad.onnx", "--registry", "reg"), 1)
    none = "fastserve: registry 'none' cannot be read: No such file or directory\n"
    fails(call("models", "list", "--registry", "none"), 1, none)
    assert not (tmp_path / "reg/bad").exists()
    assert store.versions("double") == [1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1]", "must hold a JSON object"),
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "nested deeper than 32 levels"),
        ('{"a": "' + "x" * (1 << 20) + '"}', "larger than the limit"),
    ],
)
def test_a_wrong_run_exits_2_and_publishes_nothing(
    call: Run, model: Path, tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "run.json").write_text(content)
    arguments = ("models", "publish", "double", model, "--registry", "reg", "--from-run", "run.json")
    fails(call(*arguments), 2, "--from-run: run.json", words)
    assert not (tmp_path / "reg").exists()


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([1], "1"),
        ([1, 2], "1, 2"),
        ([1, 2, 3, 7], "1 to 3, 7"),
        (list(range(1, 41, 2)), "…, 25, 27, 29, 31, 33, 35, 37, 39"),
    ],
)
def test_versions_are_said_shortly(numbers: list[int], said: str) -> None:
    assert ranges(numbers) == said


def test_wrong_use_exits_2(call: Run, model: Path) -> None:
    for arguments, words in (
        (("list",), "fastserve: no registry given: use --registry DIR, FASTSERVE_REGISTRY, or"),
        (("publish", "double", "none.onnx", "--registry", "reg"), "none.onnx"),
        (("lst",), "No such command 'lst'"),
        (("list", "--registry", "model.onnx"), "model.onnx"),
    ):
        done = call("models", *arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_the_registry_of_the_configuration(call: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("registry: reg\n")
    assert call("models", "publish", "double", model, "--config", "c.yaml").returncode == 0
    assert "double" in call("models", "list", FASTSERVE_CONFIG="c.yaml").stdout
    assert call("models", "list", "--config", "c.yaml", FASTSERVE_REGISTRY="other").returncode == 1


@pytest.mark.parametrize(
    ("data", "setting", "value", "problem"),
    [
        (endless_loop, "probe_timeout_s", 0.5, "took longer than 0.5 s"),
        (
            lambda: mlp(2048, 2048, 2048, 2048),
            "probe_memory_bytes",
            32 * 2**20,
            "needed more memory than 32 MiB",
        ),
    ],
)
def test_test_loads_take_what_the_configuration_allows(
    call: Run, tmp_path: Path, data: Callable[[], bytes], setting: str, value: float, problem: str
) -> None:
    (tmp_path / "reg/plain/1").mkdir(parents=True)
    (tmp_path / "reg/plain/1/model.onnx").write_bytes(data())
    (tmp_path / "c.yaml").write_text(f"registry: reg\nlifecycle:\n  {setting}: {value}\n")
    file, options = "reg/plain/1/model.onnx", ("--config", "c.yaml")
    said = f"loading it {problem} (lifecycle.{setting})"
    fails(call("models", "publish", "new", file, *options), 1, said)
    fails(call("models", "show", "plain", *options), 1, said)
    (row,) = json.loads(call("models", "import", "reg/plain", "--name", "again", "--json", *options).stdout)
    assert row["problem"] == said
    (tmp_path / "rows.csv").write_text("x\n1\n")
    fails(call("monitor", "profile", "rows.csv", "--model", file, "--out", "p.json", *options), 1, said)


def test_files_are_as_large_as_the_configuration_allows(call: Run, tmp_path: Path, model: Path) -> None:
    (tmp_path / "c.yaml").write_text("registry: reg\nlifecycle: {max_version_bytes: 10}\n")
    fails(call("models", "publish", "m", model, "--config", "c.yaml"), 1, "10 bytes (max_version_bytes)")


def test_keys_are_for_those_who_check(call: Run, tmp_path: Path, model: Path) -> None:
    (tmp_path / "c.yaml").write_text("registry: reg\nlifecycle: {require_signature: [gone.pem]}\n")
    assert call("models", "publish", "m", model, "--config", "c.yaml").returncode == 0
    for verb in ("show", "verify"):
        fails(call("models", verb, "m", "--config", "c.yaml"), 1, "gone.pem")


@pytest.mark.parametrize("command", ["publish m model.onnx", "import tree"])
def test_what_a_command_has_tested_is_not_tested_again(
    call: Run, tmp_path: Path, model: Path, store: Registry, command: str
) -> None:
    (tmp_path / "tree/m/1").mkdir(parents=True)
    (tmp_path / "tree/m/1/model.onnx").write_bytes(model.read_bytes())
    cache = tmp_path / "cache"
    call("models", *command.split(), "--registry", "reg", XDG_CACHE_HOME=str(cache))
    key = probed.fingerprint(store.describe("m", 1), store.path, verified=True)
    assert probed.has_passed(cache / "fastserve/probed", key)


def test_a_configuration_from_a_pipe_is_read_once(call: Run, model: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "w") as file:
        file.write("registry: reg\nlifecycle: {probe_memory_bytes: 1048576}\n")
        file.close()
        done = call("models", "publish", "double", model, "--config", f"/dev/fd/{reader}")
    fails(done, 1, "needed more memory than 1 MiB (lifecycle.probe_memory_bytes)")


def test_debug_shows_where_it_came_from(call: Run) -> None:
    plain = call("models", "list", "--registry", "none")
    assert "Traceback" not in plain.stderr
    for arguments in (("--debug", "models", "list"), ("models", "list", "--debug")):
        shown = call(*arguments, "--registry", "none")
        assert "Traceback" in shown.stderr
        assert shown.stderr.endswith(plain.stderr)
