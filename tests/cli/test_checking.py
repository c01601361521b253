"""`fastserve models verify | audit`: what was published is what lies there, and who did what is what happened."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastserve.batching import BatchingOptions
from fastserve.errors import RegistryError
from fastserve.lifecycle.loader import Loader
from fastserve.lifecycle.options import LifecycleOptions
from fastserve.registry import Registry
from fastserve.runtime import RuntimeOptions
from tests.cli.conftest import Done, Run, called, facts, fails, publish, tamper
from tests.models import scaled


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, one with a history, made once; tests change copies of it."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "model.onnx").write_bytes(scaled())
    store = Registry(folder / "reg")
    publish(store, folder / "model.onnx", count=3)
    publish(store, folder / "model.onnx", name="other")
    store.set_alias("double", "champion", 2)
    store.set_alias("double", "champion", 3)
    store.archive("double", 1, True)
    return folder


def looked(done: Done) -> list[list[str]]:
    return [line.split() for line in done.stdout.splitlines()[1:]]


def told(done: Done) -> Any:
    return json.loads(done.stdout)


def test_a_sound_registry(models: Run, away: Run) -> None:
    done = away("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert [(row[0], row[1], row[-1]) for row in looked(done)] == [
        ("double", "2", "sound"),
        ("double", "3", "sound"),
        ("other", "1", "sound"),
    ]
    assert looked(models("verify", "--all"))[0][:2] == ["double", "1"]
    assert len(looked(models("verify", "double", "--all"))) == 3
    assert [row[:2] for row in looked(models("verify", "double@champion"))] == [["double", "3"]]
    assert [row[:2] for row in looked(models("verify", "double@1"))] == [["double", "1"]]


def test_a_sound_registry_as_json(models: Run) -> None:
    done = models("verify", "double", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = told(done)
    assert facts(report, "sound", "problems") == (True, [])
    assert [facts(row, "model", "version", "signed", "problem") for row in report["versions"]] == [
        ("double", 2, False, None),
        ("double", 3, False, None),
    ]
    assert all(row["bytes"] > 0 for row in report["versions"])


def test_what_is_wrong_with_one_model_is_not_said_of_another(models: Run, tmp_path: Path) -> None:
    (tmp_path / "reg/other/2/model.onnx").mkdir(parents=True)
    assert models("verify", "double").returncode == 0
    for arguments in (("other",), ()):
        done = models("verify", *arguments)
        assert done.returncode == 1 and done.stderr.startswith("fastserve: other/2/"), done.stderr


@pytest.mark.parametrize("file", ["aliases.json", "audit.jsonl"])
def test_a_file_that_cannot_be_read_hides_no_version(models: Run, tmp_path: Path, file: str) -> None:
    (tmp_path / "reg/double" / file).unlink()
    (tmp_path / "reg/double" / file).mkdir()
    report = told(models("verify", "--json"))
    assert any(file in problem for problem in report["problems"])
    assert [facts(row, "model", "problem") for row in report["versions"][-3:]] == [
        *[("double", None)] * 2,
        ("other", None),
    ]


def test_a_tampered_version_is_named(models: Run, away: Run, tmp_path: Path) -> None:
    tamper(tmp_path / "reg/double/2/model.onnx", lambda data: data[:-1] + b"x")
    done = away("verify")
    assert done.returncode == 1
    assert [row[-1] for row in looked(done)] == ["broken", "sound", "sound"]
    (line,) = done.stderr.splitlines()
    assert line.startswith("fastserve: double/2/model.onnx ")
    assert "Traceback" not in done.stderr
    report = models("verify", "--json")
    assert report.returncode == 1
    assert told(report)["sound"] is False
    assert told(report)["versions"][0]["problem"] == told(report)["problems"][0]
    assert models("verify", "other").returncode == 0
    assert models("verify", "double@3").returncode == 0
    fails(models("show", "double@2"), 1, "double/2/model.onnx")


def test_every_problem_has_its_line(models: Run, tmp_path: Path) -> None:
    model = tmp_path / "reg/double"
    tamper(model / "2/model.onnx", lambda data: data[:-5])
    tamper(model / "3/manifest.json", lambda data: b"{")
    (model / "model.yaml").write_text("onwer: me\n")
    (model / "aliases.json").write_text('{"champion": 9}')
    done = models("verify")
    assert done.returncode == 1
    for words in (
        "double/aliases.json: champion is version 9, which is not there",
        "double/model.yaml",
        "double/2/model.onnx has ",
        "double/3/manifest.json",
    ):
        assert f"fastserve: {words}" in done.stderr
    assert len(done.stderr.splitlines()) == 4
    assert looked(done)[-1][-1] == "sound"


def test_what_servers_refuse_in_a_model_yaml(models: Run, tmp_path: Path) -> None:
    file = tmp_path / "reg/double/model.yaml"
    file.write_text("batching: {max_batch_rows: 8}\nmonitoring: {pin_rows: 7}\n")
    assert models("verify", "double").returncode == 0
    file.write_text("batching: {max_batch_row: 8}\nmonitoring: {interval_s: 1}\n")
    done = models("verify", "double@2")
    assert done.returncode == 1
    refused = "model.yaml of model 'double': batching.max_batch_row is not a setting"
    warned = "model.yaml of model 'double': monitoring.interval_s is not one of enabled"
    assert done.stderr.splitlines() == [
        f"fastserve: {refused}; did you mean 'max_batch_rows'?",
        f"fastserve: {warned}, pin_rows, max_features",
    ]
    options = RuntimeOptions(), BatchingOptions(), LifecycleOptions(probe=False)
    loader = Loader(Registry(tmp_path / "reg"), *options, threads=1)
    with pytest.raises(RegistryError, match=refused):
        loader.load("double", 2)
    loader.close()
    file.write_text("batching: {max_batch_rows: yes}\n")
    told_of = models("verify").stderr
    assert "double': batching.max_batch_rows: Input should be a number, not true" in told_of
    file.write_text("batching: {max_batch_rows: 0}\n")
    shown = models("verify", "--json")
    assert told(shown)["problems"] == [
        "model.yaml of model 'double': batching.max_batch_rows: Input should be greater than or equal to 1"
    ]
    assert shown.returncode == 1


@pytest.mark.parametrize("whole", [True, False])
def test_a_version_that_was_replaced_is_named(models: Run, tmp_path: Path, whole: bool) -> None:
    version, other = tmp_path / "reg/double/2", tmp_path / "model.onnx"
    other.write_bytes(scaled(3.0))
    if whole:
        publish(Registry(tmp_path / "other_reg"), other, count=2)
        shutil.rmtree(version)
        shutil.copytree(tmp_path / "other_reg/double/2", version)
    else:
        (version / "manifest.json").unlink()
        tamper(version / "model.onnx", lambda _: other.read_bytes())
    report = models("verify", "double", "--json")
    assert report.returncode == 1
    problem = (
        "double/2 has not the manifest.json that the audit log says it was published with: "
        "a version is not replaced by hand; publish the file instead"
    )
    assert told(report)["problems"] == [problem]
    assert [row["problem"] for row in told(report)["versions"]] == [problem, None]
    assert models("verify", "double@2").stderr == f"fastserve: {problem}\n"
    assert models("verify", "double@3").returncode == 0


def test_what_is_collected_meanwhile_is_not_broken(
    models: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, verify = Registry(tmp_path / "reg"), Registry.verify

    def slowly(self: Registry, model: str, version: int) -> Any:
        store.gc(1, "double")
        return verify(self, model, version)

    monkeypatch.setattr(Registry, "verify", slowly)
    done = models("verify", "double", "--all")
    assert (done.returncode, done.stderr) == (0, "")
    assert [row[:2] for row in looked(done)] == [["double", "1"], ["double", "3"]]
    assert store.versions("double") == [3]


def test_what_was_named_and_is_collected_meanwhile_is_told(
    models: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "replaced", lambda self, model: self.gc(1, model) and {})
    done = models("verify", "double@2")
    assert (done.returncode, done.stderr) == (1, "fastserve: model 'double' has no version '2'\n")


def test_what_is_archived_is_looked_at_only_when_asked(models: Run, tmp_path: Path) -> None:
    tamper(tmp_path / "reg/double/1/model.onnx", lambda data: b"")
    assert models("verify").returncode == 0
    assert models("verify", "--all").returncode == 1


def test_what_no_server_looks_at_is_named(models: Run, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "reg/other", tmp_path / "reg/my model")
    done = models("verify")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("fastserve: 'my model': ")
    assert models("verify", "other").returncode == 0


def test_files_of_strangers_do_not_colour_the_terminal(models: Run, tmp_path: Path) -> None:
    (tmp_path / "reg/double/model.yaml").write_text('"\\e[2J": 1\n')
    done = models("verify")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout + done.stderr


def test_the_mistakes_with_verify(models: Run) -> None:
    fails(models("verify", "duoble"), 1, "did you mean 'double'?")
    fails(models("verify", "double@9"), 1, "has no version '9'", "it has versions 1 to 3")
    fails(models("verify", "double@3", "--all"), 2, "--all is for a whole model or registry")
    assert models("verify", "--require-signature", "none.pem").returncode == 2


def test_an_empty_registry_is_sound_and_told_of(tmp_path: Path) -> None:
    (tmp_path / "reg").mkdir()
    done = called(tmp_path, "models", "verify", "--registry", "reg")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "fastserve: no models in reg\n")
    fails(called(tmp_path, "models", "verify", "--registry", "none"), 1, "registry 'none' cannot be read")


def test_history(models: Run, away: Run) -> None:
    done = away("audit", "double")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split()[:5] == ["SEQ", "AT", "BY", "EVENT", "DETAILS"]
    events = [row[3] for row in looked(done)]
    assert events == ["publish", "publish", "publish", "alias", "alias", "archive"]
    assert "before 2, version 3" in done.stdout
    rows = told(models("audit", "double", "--last", "2", "--json"))
    assert [facts(row, "seq", "event") for row in rows] == [(5, "alias"), (6, "archive")]
    assert rows[0]["details"] == {"alias": "champion", "before": 2, "version": 3}
    assert "@" in rows[0]["by"]
    assert rows[0]["at"].endswith("+00:00")


def test_a_sound_history(models: Run, away: Run) -> None:
    done = away("audit", "double", "--verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "double: the audit log is sound\n", "")
    report = told(models("audit", "double", "--verify", "--json"))
    assert report == {"model": "double", "sound": True, "problems": []}


def test_an_edited_history(models: Run, away: Run, tmp_path: Path) -> None:
    log = tmp_path / "reg/double/audit.jsonl"
    tamper(log, lambda data: data.replace(b'"version":2', b'"version":1', 1))
    done = away("audit", "double", "--verify")
    assert (done.returncode, done.stdout) == (1, "")
    assert "fastserve: double/audit.jsonl: line 3" in done.stderr
    assert "Traceback" not in done.stderr
    report = models("audit", "double", "--verify", "--json")
    assert report.returncode == 1
    assert told(report)["sound"] is False
    assert told(report)["problems"]
    verified = models("verify", "double")
    assert verified.returncode == 1
    assert "double/audit.jsonl" in verified.stderr
    assert models("audit", "other", "--verify").returncode == 0


@pytest.mark.parametrize("lines", [slice(0, -1), slice(1, None), slice(None, None, -1), slice(0, 0)])
def test_a_history_with_lines_gone_or_moved(models: Run, tmp_path: Path, lines: slice) -> None:
    tamper(
        tmp_path / "reg/double/audit.jsonl",
        lambda data: b"".join(data.splitlines(keepends=True)[lines]),
    )
    done = models("audit", "double", "--verify")
    assert (done.returncode, done.stdout) == (1, "")
    assert "double/audit.jsonl" in done.stderr


def test_a_history_without_its_head(models: Run, tmp_path: Path) -> None:
    (tmp_path / "reg/double/.audit-head").unlink()
    done = models("audit", "double", "--verify")
    assert done.returncode == 1
    assert "double/.audit-head is missing" in done.stderr


def test_the_mistakes_with_audit(models: Run) -> None:
    fails(models("audit", "duoble"), 1, "did you mean 'double'?")
    fails(models("audit", "double@3"), 2, "a model's name is wanted here")
    assert models("audit").returncode == 2
    assert models("audit", "double", "--last", "0").returncode == 2


def test_a_history_with_lines_that_cannot_be_read(models: Run, tmp_path: Path) -> None:
    log = tmp_path / "reg/double/audit.jsonl"
    tamper(log, lambda data: b"hello\n" + data)
    tells = "cannot be read; `fastserve models audit double --verify` tells more\n"
    shown = models("audit", "double", "--last", "2")
    assert [row[0] for row in looked(shown)] == ["5", "6"]
    assert (shown.returncode, shown.stderr) == (0, f"fastserve: double/audit.jsonl: line 1 {tells}")
    as_json = models("audit", "double", "--json")
    assert [row["seq"] for row in told(as_json)] == [1, 2, 3, 4, 5, 6]
    assert as_json.stderr == shown.stderr
    assert "line 1 is not an audit line" in models("audit", "double", "--verify").stderr
    log.write_text("garbage\n" * 3)
    nothing = models("audit", "double")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert nothing.stderr == f"fastserve: double/audit.jsonl: lines 1 to 3 {tells}"
    assert models("audit", "double", "--verify").returncode == 1


def test_rollback_behind_a_damaged_history(models: Run, tmp_path: Path) -> None:
    (tmp_path / "reg/double/audit.jsonl").write_text("garbage\n")
    fails(
        models("rollback", "double"), 1, "'champion' of model 'double' is version 3", "from line 2 on counts"
    )
    models("alias", "double", "champion", "2")
    models("alias", "double", "champion", "3")
    assert models("rollback", "double").stdout == "double: champion 3 → 2\n"


def test_a_tree_that_something_else_wrote_has_no_history(tmp_path: Path) -> None:
    (tmp_path / "reg/plain/3").mkdir(parents=True)
    (tmp_path / "reg/plain/3/model.onnx").write_bytes(scaled())
    done = called(tmp_path, "models", "audit", "plain", "--registry", "reg")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "nothing was done to plain by fastserve\n"
    assert called(tmp_path, "models", "audit", "plain", "--verify", "--registry", "reg").returncode == 0
    shown = called(tmp_path, "models", "verify", "--registry", "reg")
    assert (shown.returncode, looked(shown)[0][-1]) == (0, "sound")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda file, _: file.unlink(), "is missing"),
        (lambda file, outside: (file.unlink(), file.symlink_to(outside)), "is no file inside the registry"),
        (
            lambda file, _: (file.unlink(), subprocess.run(["mkfifo", file], check=True)),
            "is no file inside the registry",
        ),
    ],
    ids=["missing", "link", "fifo"],
)
def test_a_version_that_lost_its_model_file(
    models: Run, tmp_path: Path, spoil: Callable[[Path, Path], Any], what: str
) -> None:
    outside, file = tmp_path / "outside.onnx", tmp_path / "reg" / "double" / "2" / "model.onnx"
    outside.write_bytes(file.read_bytes())
    spoil(file, outside)
    for arguments in ((), ("double",)):
        done = models("verify", *arguments)
        assert done.returncode == 1
        assert f"double/2/model.onnx {what}" in done.stderr
