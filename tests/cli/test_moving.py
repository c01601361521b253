"""`fastserve models gc | import | keygen` and signed versions: what goes, what comes, and from whom."""

import json
from pathlib import Path

import pytest

from fastserve.registry import Registry
from tests.cli.conftest import Run, facts, fails, publish, tamper
from tests.models import scaled
from tests.monitoring import profiles

REG = ("--registry", "reg")


def test_gc(call: Run, run: Run, model: Path, store: Registry) -> None:
    publish(store, model, count=5)
    store.set_alias("double", "champion", 2)
    would = call("models", "gc", "--keep", "2", "--dry-run", *REG)
    assert (would.returncode, would.stderr) == (0, "")
    assert would.stdout.split("\n")[0].split()[0:4] == ["MODEL", "WOULD", "BE", "REMOVED"]
    assert would.stdout.endswith(" would be freed\n")
    assert store.versions("double") == [1, 2, 3, 4, 5]

    done = run("models", "gc", "double", "--keep", "2", *REG)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 4
    assert done.stdout.endswith(" freed\n")
    assert store.versions("double") == [2, 4, 5]
    again = call("models", "gc", "--keep", "2", *REG)
    assert (again.returncode, again.stdout) == (0, "0 B freed\n")
    assert call("models", "verify", *REG).returncode == 0


def test_gc_as_json(call: Run, model: Path, store: Registry) -> None:
    publish(store, model, count=2)
    report = json.loads(call("models", "gc", "--keep", "1", "--json", *REG).stdout)
    assert report["dry_run"] is False
    (removed,) = report["removed"]
    assert removed["model"] == "double"
    assert "1" in removed["what"]
    assert removed["why"]
    assert report["bytes"] == removed["bytes"] >= model.stat().st_size
    assert store.versions("double") == [2]


def test_gc_of_one_that_cannot_be_read_holds_up_no_other(call: Run, model: Path, store: Registry) -> None:
    for name in ("a", "b", "c"):
        publish(store, model, name, count=2)
    (store.path / "b/aliases.json").write_text("{")
    done = call("models", "gc", "--keep", "1", "--json", *REG)
    report = json.loads(done.stdout)
    assert [facts(row, "model", "what") for row in report["removed"]] == [("a", "1"), ("c", "1")]
    assert report["problems"][0].startswith("b/aliases.json: it is not JSON")
    assert (done.returncode, done.stderr) == (1, "")
    done = call("models", "gc", "--keep", "1", *REG)
    assert (done.returncode, done.stdout) == (1, "0 B freed\n")
    assert done.stderr.startswith("fastserve: b/aliases.json: it is not JSON")
    assert store.versions("b") == [1, 2]


def test_gc_leaves_what_is_held(call: Run, model: Path, store: Registry) -> None:
    publish(store, model, count=3)
    held = store.hold("double", 1)
    call("models", "gc", "--keep", "1", *REG)
    assert store.versions("double") == [1, 3]
    held.close()
    call("models", "gc", "--keep", "1", *REG)
    assert store.versions("double") == [3]


def test_the_mistakes_with_gc(call: Run, run: Run, model: Path, store: Registry) -> None:
    publish(store, model)
    missing = run("models", "gc", *REG)
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "--keep" in missing.stderr
    assert "Traceback" not in missing.stderr
    assert call("models", "gc", "--keep", "0", *REG).returncode == 2
    assert call("models", "gc", "--keep", "many", *REG).returncode == 2
    fails(call("models", "gc", "duoble", "--keep", "1", *REG), 1, "did you mean 'double'?")
    fails(call("models", "gc", "--keep", "1", "--registry", "none"), 1, "registry 'none' cannot be read")


@pytest.fixture
def triton(tmp_path: Path) -> Path:
    """Another server's repository: two models, one of them with a broken version."""
    for name, version, data in (("a", "1", scaled()), ("a", "4", scaled(3.0)), ("b", "2", b"hello")):
        (tmp_path / "triton" / name / version).mkdir(parents=True)
        (tmp_path / "triton" / name / version / "model.onnx").write_bytes(data)
    return tmp_path / "triton"


def test_import(call: Run, run: Run, triton: Path, store: Registry) -> None:
    would = call("models", "import", triton, "--dry-run", "--json", *REG)
    assert would.returncode == 0
    rows = json.loads(would.stdout)
    assert [facts(row, "model", "version", "problem") for row in rows] == [
        ("a", None, None),
        ("a", None, None),
        ("b", None, None),
    ]
    assert not store.path.exists()

    done = run("models", "import", triton, "--alias", "champion", *REG)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["FROM", "MODEL", "ALIAS", "BECAME"]
    assert lines[1].rstrip().endswith("version 1")
    assert lines[2].rstrip().endswith("version 2")
    assert "b/2/model.onnx" in lines[3]
    assert ["champion" in line for line in lines[1:4]] == [False, True, False]
    assert store.models() == ["a"]
    assert dict(store.state("a").aliases) == {"champion": 2}
    shown = json.loads(call("models", "show", "a@champion", "--json", *REG).stdout)
    assert shown["provenance"]["source_version"] == 4


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_name_that_cannot_be_here_holds_up_no_other(
    call: Run, triton: Path, flags: tuple[str, ...]
) -> None:
    (triton / "a").rename(triton / "we ird")
    (triton / "b/2/model.onnx").write_bytes(scaled())
    done = call("models", "import", triton, "--json", *flags, *REG)
    rows = json.loads(done.stdout)
    assert done.returncode == 0
    assert [row["model"] for row in rows] == ["b", "we ird", "we ird"]
    assert rows[0]["problem"] is None
    assert all("is not a model name" in row["problem"] for row in rows[1:])


def test_import_from_places_that_are_no_utf8(call: Run, triton: Path) -> None:
    (triton / "b").rename(triton / "b\udce9")
    place = triton.rename(triton.with_name("jos\udce9"))
    done = call("models", "import", place, "--json", *REG)
    rows = json.loads(done.stdout)
    assert (done.returncode, [row["version"] for row in rows]) == (0, [1, 2, None])
    assert rows[0]["from"] == str(place / "a/1/model.onnx")
    shown = json.loads(call("models", "show", "a", "--json", *REG).stdout)
    assert shown["provenance"]["imported_from"].endswith("/jos\\udce9/a/4/model.onnx")


def test_import_of_one_model_under_another_name(call: Run, triton: Path, store: Registry) -> None:
    rows = json.loads(call("models", "import", triton / "a", "--name", "flights", "--json", *REG).stdout)
    assert [facts(row, "model", "version", "alias", "problem") for row in rows] == [
        ("flights", 1, None, None),
        ("flights", 2, None, None),
    ]
    assert store.versions("flights") == [1, 2]


def test_the_mistakes_with_import(call: Run, run: Run, triton: Path, tmp_path: Path) -> None:
    fails(call("models", "import", triton, "--name", "x", *REG), 2, "--name:", "more than one model: a, b")
    for flags in ((), ("--dry-run",)):
        done = call("models", "import", triton, "--alias", "a b", *flags, *REG)
        fails(done, 1, "'a b' is not an alias")
        assert not (tmp_path / "reg").exists()
    assert call("models", "import", "nowhere", *REG).returncode == 2
    (tmp_path / "empty").mkdir()
    fails(run("models", "import", "empty", *REG), 1, "empty")
    only_bad = call("models", "import", triton / "b", *REG)
    assert only_bad.returncode == 1
    assert only_bad.stderr.splitlines()[-1].startswith("fastserve: nothing could be imported from ")
    assert "Traceback" not in only_bad.stderr


def test_a_registry_is_not_imported_into_itself(
    call: Run, run: Run, model: Path, tmp_path: Path, store: Registry
) -> None:
    publish(store, model)
    (tmp_path / "link").symlink_to("reg")
    for place in ("reg", "reg/double", "link"):
        fails(run("models", "import", place, *REG), 2, f"{place} is in the registry", "there already")
    fails(call("models", "import", "reg", "--dry-run", "--json", *REG), 2, "there already")
    assert store.versions("double") == [1]
    assert call("models", "import", "reg/double", "--name", "twice", *REG).returncode == 0
    assert store.versions("twice") == [1]


def test_signed_versions(call: Run, run: Run, model: Path, tmp_path: Path, store: Registry) -> None:
    made = run("models", "keygen", "own.pem", "own.pub.pem")
    assert (made.returncode, made.stdout) == (0, "own.pem (private), own.pub.pem (public)\n")
    assert (tmp_path / "own.pem").stat().st_mode & 0o077 == 0
    assert call("models", "keygen", "other.pem", "other.pub.pem").returncode == 0
    publish(store, model)
    signed = run("models", "publish", "double", model, "--sign", "own.pem", "--alias", "champion", *REG)
    assert (signed.returncode, signed.stderr) == (0, "")
    assert signed.stdout == "double version 2 → reg/double/2, signed\ndouble: champion → 2\n"
    assert (tmp_path / "reg/double/2/manifest.sig").is_file()

    def verify(name: str, *keys: str) -> int:
        flags = [word for key in keys for word in ("--require-signature", key)]
        return call("models", "verify", name, *flags, *REG).returncode

    assert verify("double") == 0
    assert verify("double@2", "own.pub.pem") == 0
    assert verify("double@2", "other.pub.pem") == 1
    assert verify("double@2", "other.pub.pem", "own.pub.pem") == 0
    unsigned = call("models", "verify", "double", "--require-signature", "own.pub.pem", *REG)
    assert unsigned.returncode == 1
    assert unsigned.stderr.startswith("fastserve: double/1")
    assert [line.split()[-2:] for line in unsigned.stdout.splitlines()[1:]] == [
        ["no", "broken"],
        ["yes", "sound"],
    ]
    assert "signed       yes" in call("models", "show", "double@2", *REG).stdout
    tamper(tmp_path / "reg/double/2/manifest.json", lambda data: data + b" ")
    assert verify("double@2", "own.pub.pem") == 1


def test_keys_of_the_configuration(call: Run, model: Path, tmp_path: Path, store: Registry) -> None:
    call("models", "keygen", "own.pem", "own.pub.pem")
    publish(store, model)
    (tmp_path / "c.yaml").write_text("registry: reg\nlifecycle:\n  require_signature: [own.pub.pem]\n")
    assert call("models", "verify", "--config", "c.yaml").returncode == 1
    assert call("models", "list", "--config", "c.yaml").returncode == 0


def test_the_mistakes_with_keys(call: Run, model: Path, tmp_path: Path) -> None:
    call("models", "keygen", "own.pem", "own.pub.pem")
    before = (tmp_path / "own.pem").read_bytes()
    fails(call("models", "keygen", "own.pem", "new.pub.pem"), 1, "own.pem", "not overwritten")
    assert not (tmp_path / "new.pub.pem").exists()
    fails(call("models", "keygen", "new.pem", "own.pub.pem"), 1, "own.pub.pem", "not overwritten")
    assert not (tmp_path / "new.pem").exists()
    assert (tmp_path / "own.pem").read_bytes() == before
    fails(call("models", "keygen", "no/own.pem", "own.pub.pem"), 1, "no/own.pem")
    fails(
        call("models", "publish", "double", model, "--sign", "own.pub.pem", *REG),
        1,
        "own.pub.pem is not a private key",
    )
    fails(
        call("models", "publish", "double", model, "--sign", "model.onnx", *REG),
        1,
        "model.onnx is not a private key",
    )
    assert call("models", "publish", "double", model, "--sign", "none.pem", *REG).returncode == 2
    assert not (tmp_path / "reg/double").exists()
    (tmp_path / "reg").mkdir(exist_ok=True)
    fails(call("models", "verify", "--require-signature", "own.pem", *REG), 1, "own.pem is not a public key")


def test_publish_with_a_profile(call: Run, run: Run, model: Path, tmp_path: Path, store: Registry) -> None:
    profile = profiles.profile(profiles.tensor())
    (tmp_path / "p.json").write_text(json.dumps(json.loads(profile.to_bytes())))  # as others may write it
    arguments = ("models", "publish", "double", model, "--profile", "p.json", *REG)
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "double version 1 → reg/double/1, with a profile\n"
    assert store.profile("double", 1) == profile.to_bytes()
    assert json.loads(call(*arguments, "--json").stdout)["profile"] == profile.digest()
    assert f"profile      {profile.digest()}\n" in call("models", "show", "double@1", *REG).stdout
    shown = json.loads(call("models", "show", "double@2", "--json", *REG).stdout)
    assert shown["profile"] == {"sha256": profile.digest(), "bytes": len(profile.to_bytes())}
    publish(store, model)
    assert "profile      none\n" in call("models", "show", "double@3", *REG).stdout


def test_profiles_that_are_refused(call: Run, model: Path, tmp_path: Path) -> None:
    def of_width(width: int) -> bytes:
        return profiles.profile(profiles.tensor(width=width)).to_bytes()

    arguments = ("models", "publish", "double", model, "--profile", "p.json", *REG)
    for content, words in (
        (of_width(4), "input 'x' of the profile has 4 columns, the model takes 3: 'x3' is"),
        (of_width(2), "the model takes 3: 'x1' is the last"),
        (b"[]", "--profile: p.json is not a profile: "),
        (b"", "--profile: p.json is not a profile: "),
        (of_width(3).replace(b'"rows": 160', b'"rows": -5'), "p.json is not a profile: rows: "),
    ):
        (tmp_path / "p.json").write_bytes(content)
        fails(call(*arguments), 1, words)
    with (tmp_path / "p.json").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    fails(call(*arguments), 1, "--profile: p.json is larger than 67108864 bytes")
    assert call("models", "publish", "double", model, "--profile", "none.json", *REG).returncode == 2
    assert not (tmp_path / "reg/double").exists()


def test_profiles_beside_versions_are_looked_at(call: Run, model: Path, store: Registry) -> None:
    publish(store, model, count=2)
    for version in (1, 2):
        store.add_profile("double", version, b"any bytes")
    assert call("models", "verify", *REG).returncode == 0
    assert len(json.loads(call("models", "list", "--json", *REG).stdout)) == 2
    audit = call("models", "audit", "double", *REG).stdout.splitlines()[-1]
    assert "  profile  version 2, sha256 " in audit
    assert audit.rstrip().endswith(", bytes 9, replaces –")
    tamper(store.path / "double/profiles/2.json", lambda data: data[:-1])
    done = call("models", "verify", *REG)
    assert done.returncode == 1
    assert [line.split()[-1] for line in done.stdout.splitlines()[1:]] == ["sound", "broken"]
    assert done.stderr.startswith("fastserve: double/profiles/2.json does not have the checksum ")
    assert done.stderr.count("\n") == 1
    fails(call("models", "show", "double@2", *REG), 1, "double/profiles/2.json")
    removed = json.loads(call("models", "gc", "--keep", "1", "--json", *REG).stdout)["removed"]
    assert [row["what"] for row in removed] == ["1"]
    assert not (store.path / "double/profiles/1.json").exists()
