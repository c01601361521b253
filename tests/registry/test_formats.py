"""Files that are no ONNX, and what they are told to be."""

import gzip
import pickle
from pathlib import Path

import pytest

from fastserve.errors import ModelRejected
from fastserve.registry.onnx_file import read_facts


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "it is a pointer of Git LFS"),
        (b"PK\x03\x04" + bytes(60), "it is a ZIP archive, as torch.save"),
        (pickle.dumps(["a model"]), "it is a Python pickle"),
        (gzip.compress(b"model"), "it is compressed with gzip"),
        (b"<!DOCTYPE html><html></html>", "it has a field of unknown wire type 4"),
    ],
    ids=["Git LFS", "ZIP", "pickle", "gzip", "another"],
)
def test_what_is_published_by_mistake_is_named(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelRejected, match=f"^model.onnx is not an ONNX file: {told}"):
        read_facts(path, path.name)
