"""What the files of a version may be: regular, inside, theirs alone, not too large."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from fastserve.errors import ModelRejected, RegistryError
from fastserve.registry import (
    FileRules,
    Registry,
    SigningKey,
    TrustedKeys,
    audit,
    files,
    reading,
    signing,
    verifying,
)
from fastserve.registry.manifest import Manifest
from tests import models
from tests.registry.conftest import glance


@pytest.fixture
def version(published: Registry) -> Path:
    return published.path / "m/1"


def test_a_hard_link_out_is_refused(published: Registry, version: Path, tmp_path: Path) -> None:
    os.link(version / "model.onnx", tmp_path / "elsewhere")
    with pytest.raises(
        RegistryError, match=r"^m/1/model.onnx is a hard link to a file that has another name"
    ):
        published.verify("m", 1)
    (tmp_path / "elsewhere").unlink()
    assert published.verify("m", 1).version == 1


def test_hard_links_within_a_version_are_its_own(published: Registry, version: Path) -> None:
    os.link(version / "model.onnx", version / "same.onnx")
    (version / "link").symlink_to("same.onnx")
    assert published.verify("m", 1).version == 1
    (version / "deep").mkdir()
    os.link(version / "model.onnx", version / "deep/same.onnx")
    assert published.verify("m", 1).version == 1


def test_a_hard_link_behind_a_link_is_refused(published: Registry, version: Path, tmp_path: Path) -> None:
    real = published.path / "real.onnx"
    (version / "model.onnx").rename(real)
    (version / "model.onnx").symlink_to(real)
    assert published.verify("m", 1).version == 1
    os.link(real, tmp_path / "elsewhere")
    with pytest.raises(RegistryError, match=r"m/1/model.onnx is a hard link"):
        published.verify("m", 1)


@pytest.mark.parametrize("name", ["extra", "deep/extra"])
def test_links_out_are_refused_even_where_nothing_reads_them(
    published: Registry, version: Path, tmp_path: Path, name: str
) -> None:
    (version / "deep").mkdir()
    link = version / name
    (tmp_path / "secret").touch()
    for target, message in (
        (tmp_path / "secret", "leaves the registry"),
        (tmp_path, "leaves the registry"),
        (Path("nowhere"), "leads nowhere"),
        (Path(link.name), "leads nowhere"),
    ):
        link.symlink_to(target)
        with pytest.raises(RegistryError, match=rf"^m/1/{name} is a link that {message}"):
            published.verify("m", 1)
        link.unlink()
    link.symlink_to(version / "model.onnx")
    (version / "folder").symlink_to("deep")
    assert published.verify("m", 1).version == 1


def test_what_is_no_file_is_refused(
    published: Registry, version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(version / "pipe")
    with pytest.raises(RegistryError, match=r"^m/1/pipe is not a regular file"):
        published.verify("m", 1)
    (version / "pipe").unlink()
    monkeypatch.chdir(version)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(RegistryError, match=r"^m/1/socket is not a regular file"):
            published.verify("m", 1)


def test_too_large_is_said_before_anything_is_read(
    published: Registry, version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = sum(file.stat().st_size for file in version.iterdir())
    assert Registry(published.path, rules=FileRules(max_version_bytes=total)).verify("m", 1).version == 1

    def unread(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("fastserve.registry.files.hash_file", unread)
    with pytest.raises(RegistryError, match=rf"^m/1 has {total} bytes, more than the limit of {total - 1} "):
        Registry(published.path, rules=FileRules(max_version_bytes=total - 1)).verify("m", 1)
    (version / "deep").mkdir()
    with (version / "deep/hole").open("wb") as file:
        file.truncate(2**35)
    with pytest.raises(RegistryError, match=r"lifecycle.max_version_bytes"):
        published.verify("m", 1)


def test_what_cannot_be_read_is_told(
    published: Registry, version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastserve.registry.files.hash_file", lambda _: os.close(-1))
    with pytest.raises(RegistryError, match=r"^m/1 cannot be read: Bad file descriptor"):
        published.verify("m", 1)


@pytest.mark.parametrize(
    "content", ["cut", "{}", "[]", '{"files": []}', '{"files": {"a": {}}}', '{"files": {"a": 1}}']
)
def test_a_manifest_without_files_is_wrong_and_not_on_its_way(
    published: Registry, version: Path, content: str
) -> None:
    (version / "manifest.json").unlink()
    (version / "manifest.json").write_text(content)
    with pytest.raises(RegistryError, match=r"^m/1/manifest.json does not list files"):
        published.is_complete("m", 1)


def test_too_many_files(published: Registry, version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_MAX_ENTRIES", 4)
    (version / "a/b").mkdir(parents=True)
    assert published.verify("m", 1).version == 1
    (version / "a/b/c").mkdir()
    with pytest.raises(RegistryError, match=r"^m/1 has more than 4 files"):
        published.verify("m", 1)


@pytest.mark.parametrize("then", ["forged", "gone", "signed"])
@pytest.mark.parametrize("first", ["signed", "forged", "gone"])
def test_a_manifest_that_is_exchanged_while_it_is_verified(
    published: Registry,
    version: Path,
    onnx_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    then: str,
) -> None:
    signing.generate(tmp_path / "key", tmp_path / "pub")
    published.publish("m", onnx_file, inspect=glance, sign=SigningKey.load(tmp_path / "key"))
    checking = Registry(published.path, trusted=TrustedKeys.load([tmp_path / "pub"]))
    path = version.with_name("2") / "manifest.json"
    manifest = checking.verify("m", 2).manifest
    assert manifest is not None
    forged = Manifest.model_validate({**manifest.model_dump(), "provenance": {"by": "nobody"}})
    contents = {"signed": path.read_bytes(), "forged": forged.to_bytes()}
    really = files.read_inside

    def put(which: str) -> None:
        path.unlink(missing_ok=True)
        if which in contents:
            path.write_bytes(contents[which])

    def exchanged(asked: Path, *rest: Any) -> bytes | None:
        data = really(asked, *rest)
        if asked == path:
            put(then)
        return data

    put(first)
    monkeypatch.setattr(files, "read_inside", exchanged)
    if first == "signed":
        assert checking.verify("m", 2).manifest == manifest, "what was signed, whatever stands there now"
    else:
        with pytest.raises(RegistryError, match=r"^m/2 is not signed"):
            checking.verify("m", 2)


def test_a_foreign_model_keeps_to_the_rules_too(registry: Registry) -> None:
    directory = registry.path / "m/1"
    directory.mkdir(parents=True)
    custom = models.scaled().replace(b"Mul", b"Mul\x3a\x04evil", 1)
    (directory / "model.onnx").write_bytes(custom)
    with pytest.raises(ModelRejected, match=r"^m/1/model.onnx is not an ONNX file"):
        registry.verify("m", 1)
    node = helper.make_node("Own", ["x"], ["y"], domain="evil")
    tensors = [models.tensor(name, TensorProto.FLOAT, ["batch", 3]) for name in ("x", "y")]
    (directory / "model.onnx").write_bytes(models.model_bytes([node], tensors[:1], tensors[1:]))
    with pytest.raises(
        ModelRejected, match=r"^m/1/model.onnx uses the custom operator 'Own' of the domain 'evil'"
    ):
        registry.verify("m", 1)
    allowing = Registry(registry.path, rules=FileRules(allowed_domains=frozenset({"evil"})))
    assert allowing.verify("m", 1).manifest is None


def test_weights_that_end_too_early(registry: Registry) -> None:
    directory = registry.path / "m/1"
    directory.mkdir(parents=True)
    data, raw = models.external_data("weights.bin")
    (directory / "model.onnx").write_bytes(data)
    (directory / "weights.bin").write_bytes(raw[:-1])
    with pytest.raises(
        ModelRejected, match=r"^m/1/model.onnx reads 12 bytes from 0 on in 'weights.bin', which has 11"
    ):
        registry.verify("m", 1)


def test_a_version_has_the_manifest_that_it_was_published_with(published: Registry, onnx_file: Path) -> None:
    """Its newest line in the audit log says which; what has no such line, or an old one, is left alone."""
    directory = published.path / "m"
    published.publish("m", onnx_file, inspect=glance)
    (directory / "9").mkdir()
    (directory / "9/model.onnx").write_bytes(models.scaled())
    assert published.replaced("m") == {}
    (directory / "1/manifest.json").unlink()
    (directory / "2/manifest.json").chmod(0o644)
    (directory / "2/manifest.json").write_bytes((directory / "2/manifest.json").read_bytes() + b"\n")
    found = published.replaced("m")
    said = "has not the manifest.json that the audit log says it was published with"
    assert {version: text.partition(":")[0] for version, text in found.items()} == {
        1: f"m/1 {said}",
        2: f"m/2 {said}",
    }
    newer = files.hash_file(directory / "2/manifest.json")
    with audit.writing(directory) as log:
        log.commit("publish", {"version": 1})
        log.commit("publish", {"version": 2, "manifest_sha256": newer})
        log.commit("publish", {"version": [3], "manifest_sha256": newer})
    assert published.replaced("m") == {}


def test_a_damaged_log_still_says_what_was_published(published: Registry, version: Path) -> None:
    log = published.path / "m/audit.jsonl"
    (version / "manifest.json").unlink()
    log.write_bytes(b"garbage\n" + log.read_bytes())
    assert list(published.replaced("m")) == [1]
    log.write_bytes(b"garbage\n")
    assert published.replaced("m") == {}
    (published.path / "m/.audit-head").write_bytes(b"garbage")
    with pytest.raises(RegistryError, match=r"m/.audit-head is damaged"):
        published.replaced("m")


def test_a_log_that_grows_while_it_is_read_is_sound(
    published: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reading.raw_lines

    def late(directory: Path) -> Iterator[tuple[int, bytes]]:
        for _ in range(3):
            published.record("m", "note", version=1, reason="")
        return read(directory)

    monkeypatch.setattr(reading, "raw_lines", late)
    assert published.check_audit("m") == []
