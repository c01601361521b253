"""`fastserve models`: publish, list, show, and the mistakes a user makes with them."""

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_publish_list_show(run: Run, model: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text('{"data": {"sha256": "ab"}, "metrics": {"auc": 0.7}}')
    first = run("models", "publish", "double", model, "--registry", "reg", "--provenance", facts)
    assert (first.returncode, first.stdout, first.stderr) == (0, "double version 1 → reg/double/1\n", "")
    second = run("models", "publish", "double", model, "--registry", "reg")
    assert second.stdout == "double version 2 → reg/double/2\n"

    table = run("models", "list", FASTSERVE_REGISTRY="reg")
    assert table.returncode == 0
    lines = table.stdout.splitlines()
    assert lines[0].split() == ["MODEL", "VERSION", "CREATED", "SIZE", "TAKES", "→", "GIVES"]
    assert [line.split()[:2] for line in lines[1:]] == [["double", "2"], ["double", "1"]]
    assert lines[1].rstrip().endswith("x → y")

    shown = run("models", "show", "double@1", "--registry", "reg")
    assert shown.returncode == 0
    for words in ("double version 1", "x ", "FP32", "[-1, 3]", "model.onnx", '{"auc": 0.7}'):
        assert words in shown.stdout

    facts_shown = json.loads(run("models", "show", "double@1", "--registry", "reg", "--json").stdout)
    assert facts_shown["signature"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert facts_shown["provenance"] == {"data": {"sha256": "ab"}, "metrics": {"auc": 0.7}}
    assert facts_shown["files"]["model.onnx"]["bytes"] == model.stat().st_size
    assert json.loads(run("models", "show", "double", "--registry", "reg", "--json").stdout)["version"] == 2


def test_a_tree_that_something_else_wrote(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "reg/plain/3").mkdir(parents=True)
    (tmp_path / "reg/plain/3/model.onnx").write_bytes(model.read_bytes())
    (row,) = json.loads(run("models", "list", "--registry", "reg", "--json").stdout)
    assert (row["model"], row["version"], row["created_at"], row["problem"]) == ("plain", 3, None, None)
    facts = json.loads(run("models", "show", "plain", "--registry", "reg", "--json").stdout)
    assert facts["signature"]["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}]
    assert facts["provenance"] is None


def test_a_broken_version_is_seen_and_hides_no_other(run: Run, model: Path, tmp_path: Path) -> None:
    for _ in range(2):
        run("models", "publish", "double", model, "--registry", "reg")
    (tmp_path / "reg/double/1/manifest.json").write_text("{")
    (tmp_path / "reg/double/2/model.onnx").write_bytes(b"x" * model.stat().st_size)
    rows = json.loads(run("models", "list", "--registry", "reg", "--json").stdout)
    assert [row["version"] for row in rows] == [2, 1]
    assert "manifest.json" in rows[1]["problem"]
    shown = run("models", "show", "double@2", "--registry", "reg")
    assert shown.returncode == 1
    assert shown.stderr.startswith("fastserve: double/2/model.onnx ")
    assert shown.stderr.count("\n") == 1


def test_an_empty_registry(run: Run, tmp_path: Path) -> None:
    (tmp_path / "reg").mkdir()
    listed = run("models", "list", "--registry", "reg")
    assert (listed.returncode, listed.stdout) == (0, "")
    assert listed.stderr == "no models in reg; publish one: fastserve models publish NAME FILE\n"
    assert run("models", "list", "--registry", "reg", "--json").stdout == "[]\n"


def test_failures_are_one_line_and_exit_1(run: Run, model: Path, tmp_path: Path) -> None:
    run("models", "publish", "double", model, "--registry", "reg")
    (tmp_path / "bad.onnx").write_text("hello")
    for arguments, words in (
        (("show", "nope", "--registry", "reg"), "fastserve: model 'nope' is not known\n"),
        (("show", "double@7", "--registry", "reg"), "fastserve: model 'double' has no version '7'\n"),
        (("show", "double@x", "--registry", "reg"), "fastserve: model 'double' has no version 'x'\n"),
        (
            ("list", "--registry", "none"),
            "fastserve: registry 'none' cannot be read: No such file or directory\n",
        ),
        (("publish", "../up", "model.onnx", "--registry", "reg"), "fastserve: '../up' is not a model name: "),
        (
            ("publish", "bad", "bad.onnx", "--registry", "reg"),
            "fastserve: onnxruntime cannot load the model: ",
        ),
    ):
        done = run("models", *arguments)
        assert done.returncode == 1, arguments
        assert done.stderr.startswith(words), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stdout == ""
    assert not (tmp_path / "reg/bad").exists()


def test_wrong_use_exits_2(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text("[1]")
    for arguments, words in (
        (("list",), "fastserve: no registry given: use --registry DIR, FASTSERVE_REGISTRY, or"),
        (("publish", "double", "none.onnx", "--registry", "reg"), "none.onnx"),
        (
            ("publish", "double", "model.onnx", "--registry", "reg", "--provenance", "facts.json"),
            "a JSON object",
        ),
        (("lst",), "No such command 'lst'"),
        (("list", "--registry", "model.onnx"), "model.onnx"),
    ):
        done = run("models", *arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_the_registry_of_the_configuration(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("registry: reg\n")
    assert run("models", "publish", "double", model, "--config", "c.yaml").returncode == 0
    assert "double" in run("models", "list", FASTSERVE_CONFIG="c.yaml").stdout
    assert run("models", "list", "--config", "c.yaml", FASTSERVE_REGISTRY="other").returncode == 1


def test_debug_shows_where_it_came_from(run: Run) -> None:
    plain = run("models", "list", "--registry", "none")
    assert "Traceback" not in plain.stderr
    for arguments in (("--debug", "models", "list"), ("models", "list", "--debug")):
        shown = run(*arguments, "--registry", "none")
        assert "Traceback" in shown.stderr
        assert shown.stderr.endswith(plain.stderr)
