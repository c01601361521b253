"""`fastserve models alias | rollback | tag | archive | load | unload`: what may change about a model."""

import json
from pathlib import Path

import pytest

from fastserve.registry import Registry
from tests.cli.conftest import Done, Run, facts, fails, publish
from tests.models import scaled


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with four versions, made once; tests change copies of it."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "model.onnx").write_bytes(scaled())
    publish(Registry(folder / "reg"), folder / "model.onnx", count=4)
    return folder


def said(done: Done) -> str:
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def aliases(folder: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "reg/double/aliases.json").read_text())
    return found


def test_aliases_and_rollback_as_processes(models: Run, away: Run, tmp_path: Path) -> None:
    assert said(models("alias", "double", "champion", "3")) == "double: champion → 3\n"
    assert said(away("alias", "double", "champion", "4")) == "double: champion 3 → 4\n"
    assert aliases(tmp_path) == {"champion": 4}
    assert said(away("rollback", "double")) == "double: champion 4 → 3\n"
    assert aliases(tmp_path) == {"champion": 3}
    table = said(models("list")).splitlines()
    assert [line.split()[:3] for line in table[1:]][1] == ["double", "3", "champion"]


def test_an_alias_for_an_alias(models: Run) -> None:
    models("alias", "double", "champion", "1")
    models("alias", "double", "challenger", "2")
    assert said(models("alias", "double", "champion", "challenger")) == "double: champion 1 → 2\n"
    assert said(models("alias", "double")).split() == ["ALIAS", "VERSION", "challenger", "2", "champion", "2"]
    assert json.loads(said(models("alias", "double", "--json"))) == {"challenger": 2, "champion": 2}


def test_how_one_version_stands_is_not_said_of_another(models: Run) -> None:
    models("alias", "double", "champion", "2")
    models("archive", "double@1")
    shown = [json.loads(said(models("show", f"double@{number}", "--json"))) for number in (1, 2)]
    stand = [([], True), (["champion"], False)]
    assert [facts(one, "aliases", "archived") for one in shown] == stand
    rows = json.loads(said(models("list", "--json")))
    assert [facts(row, "aliases", "archived") for row in rows] == [([], False)] * 2 + stand[::-1]


def test_an_alias_is_removed(models: Run, tmp_path: Path) -> None:
    models("alias", "double", "shadow", "1")
    assert said(models("alias", "double", "shadow", "--remove")) == "double: shadow removed; it was 1\n"
    assert aliases(tmp_path) == {}
    none = models("alias", "double")
    assert (none.returncode, none.stdout) == (0, "")
    assert none.stderr.startswith("double has no alias; set one: ")
    fails(models("alias", "double", "shadow", "--remove"), 1, "model 'double' has no alias 'shadow'", "none")


def test_changes_as_json(models: Run) -> None:
    models("alias", "double", "champion", "1")
    moved = {"model": "double", "alias": "champion", "before": 1, "version": 2}
    assert json.loads(said(models("alias", "double", "champion", "2", "--json"))) == moved
    back = {"model": "double", "alias": "champion", "before": 2, "version": 1}
    assert json.loads(said(models("rollback", "double", "--json"))) == back
    gone = {"model": "double", "alias": "champion", "before": 1, "version": None}
    assert json.loads(said(models("alias", "double", "champion", "--remove", "--json"))) == gone


def test_rollback_of_another_alias(models: Run) -> None:
    for version in ("1", "2"):
        models("alias", "double", "shadow", version)
    assert said(models("rollback", "double", "--alias", "shadow")) == "double: shadow 2 → 1\n"
    fails(models("rollback", "double", "--alias", "shadow"), 1, "'shadow'", "double")


def test_rollback_without_a_champion_before(models: Run) -> None:
    fails(models("rollback", "double"), 1, "champion", "double")
    models("alias", "double", "champion", "2")
    fails(models("rollback", "double"), 1, "champion", "2")


def test_rollback_passes_over_what_is_archived(models: Run) -> None:
    for version in ("1", "2", "3"):
        models("alias", "double", "champion", version)
    models("archive", "double@2")
    assert said(models("rollback", "double")) == "double: champion 3 → 1\n"


def test_the_mistakes_with_aliases(models: Run, away: Run) -> None:
    models("alias", "double", "champion", "3")
    has = "it has versions 1 to 4 and the alias champion"
    fails(models("alias", "double", "champion", "9"), 1, "model 'double' has no version '9'", has)
    fails(models("alias", "double", "shadow", "champoin"), 1, "'champoin'; did you mean 'champion'?", has)
    fails(
        models("alias", "duoble", "champion", "3"), 1, "model 'duoble' is not known", "did you mean 'double'?"
    )
    fails(models("alias", "zebra", "champion", "3"), 1, "model 'zebra' is not known; the registry has double")
    fails(models("alias", "double", "../up", "3"), 1, "'../up' is not an alias: ")
    fails(models("alias", "double", "7", "3"), 1, "a number means a version")
    fails(models("alias", "double", "champion"), 2, "say which version 'champion' is to mean")
    for arguments in ((), ("shadow", "1")):
        fails(models("alias", "double", *arguments, "--remove"), 2, "--remove takes a model and an alias")
    fails(models("alias", "double@3", "champion", "3"), 2, "a model's name is wanted here")
    fails(away("alias", "double", "champion", "9"), 1, "model 'double' has no version '9'")
    fails(away("alias", "double", "champion"), 2, "say which version")


def test_tags(models: Run) -> None:
    shown = said(models("tag", "double@4", "stage=prod", "ticket=ML=17"))
    assert shown.split() == ["TAG", "VALUE", "stage", "prod", "ticket", "ML=17"]
    assert json.loads(said(models("tag", "double@4", "ticket=", "--json"))) == {"stage": "prod"}
    models("alias", "double", "champion", "4")
    assert json.loads(said(models("tag", "double@champion", "--json"))) == {"stage": "prod"}
    assert json.loads(said(models("list", "--json")))[0]["tags"] == {"stage": "prod"}
    assert "stage=prod" in said(models("show", "double@4"))
    assert models("tag", "double@3").stderr == "double version 3 has no tags\n"


def test_the_mistakes_with_tags(models: Run) -> None:
    fails(models("tag", "double@4", "stage"), 2, "'stage': write key=value")
    fails(models("tag", "double", "a=b"), 2, "say which version, such as double@3", "it has versions 1 to 4")
    fails(models("tag", "double@", "a=b"), 2, "write NAME@VERSION")
    fails(models("tag", "double@8", "a=b"), 1, "model 'double' has no version '8'")
    fails(models("tag", "double@4", "a/b=c"), 1, "is not a tag's key")
    fails(models("tag", "double@4", "a=\x1b[2J"), 1, "printable")


def test_archive(models: Run) -> None:
    assert said(models("archive", "double@2")) == "double version 2 is archived\n"
    assert [row["archived"] for row in json.loads(said(models("list", "--json")))] == [
        False,
        False,
        True,
        False,
    ]
    assert "(archived)" in said(models("list"))
    assert "the version is archived" in said(models("show", "double@2"))
    fails(models("alias", "double", "champion", "2"), 1, "version 2", "archived")
    for version in (2, 3):  # of which the other never was
        undone = said(models("archive", f"double@{version}", "--undo"))
        assert undone == f"double version {version} is not archived\n"
    models("alias", "double", "champion", "2")
    fails(models("archive", "double@champion"), 1, "version 2", "cannot be archived", "champion")


def test_load_and_unload(models: Run, away: Run, tmp_path: Path) -> None:
    assert said(away("unload", "double")) == "double is not to be served until it is loaded again\n"
    assert json.loads((tmp_path / "reg/double/desired.json").read_text())["loaded"] is False
    assert said(models("list")).count("(unloaded)") == 4
    assert "the model is unloaded" in said(models("show", "double"))
    assert said(models("load", "double")) == "double is to be served\n"
    assert json.loads((tmp_path / "reg/double/desired.json").read_text())["loaded"] is True
    fails(models("unload", "duoble"), 1, "did you mean 'double'?")
    fails(models("load", "double@3"), 2, "a model's name is wanted here")


def test_state_that_cannot_be_read_is_told_and_hides_no_version(models: Run, tmp_path: Path) -> None:
    (tmp_path / "reg/double/aliases.json").write_text('{"champion": \n')
    listed = models("list")
    assert listed.returncode == 0
    assert listed.stdout.count("double/aliases.json") == 4
    fails(models("alias", "double", "champion", "1"), 1, "double/aliases.json")
    fails(models("rollback", "double"), 1, "double/aliases.json")


def test_a_registry_that_cannot_be_written_to(models: Run, tmp_path: Path) -> None:
    (tmp_path / "reg/double/.lock").unlink()
    (tmp_path / "reg/double/.lock").mkdir()
    fails(models("alias", "double", "champion", "1"), 1, "model 'double' cannot be changed: ")
