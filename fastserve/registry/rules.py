"""What a model file may hold before any runtime loads it: known operators, sane versions, weights at hand."""

import re
from dataclasses import dataclass
from pathlib import Path

from fastserve.errors import ModelRejected, RegistryError
from fastserve.registry.names import is_file_name
from fastserve.registry.onnx_file import External, OnnxFacts, read_facts

_MIN_IR, _MAX_IR = 3, 64
_MAX_OPSET = 64
"""Well above what exists, so that a newer runtime is not held back: it says itself what it does not know."""
_MAX_CUSTOM_OPSET = 2**31 - 1

_BUILT_IN = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "ai.onnx.training",
        "com.microsoft",
        "com.microsoft.experimental",
        "com.microsoft.nchwc",
        "com.ms.internal.nhwc",
    }
)
"""Domains whose operators are part of onnxruntime."""

_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileRules:
    """What the files of a version must keep to."""

    max_version_bytes: int = 16 * 2**30
    """Largest size of all files together."""
    allowed_domains: frozenset[str] = frozenset()
    """Domains of custom operators that a model may use."""


class ReadsElsewhere(ModelRejected, RegistryError):
    """A model whose weights do not lie beside it: wrong as a file, and a way out of the registry."""


def check_model_file(path: Path, rules: FileRules, label: str | None = None) -> set[str]:
    """Check an ONNX file without loading it; give the names of the files beside it that hold weights.

    They are plain file names. A file that is not there is given all the same; of one that is, the tensors
    must lie inside it. `label` is what messages call the model.

    Raises
    ------
    ModelRejected
        It is not ONNX, or not what `rules` allow.
    OSError
        It cannot be read.
    """
    label = label or path.name
    facts = read_facts(path, label)
    _check_versions(facts, label)
    _check_operators(facts, label, rules)
    for tensor in sorted(facts.external, key=lambda tensor: tensor.location):
        _check_external(tensor, path.parent, label)
    return {tensor.location for tensor in facts.external}


def _check_versions(facts: OnnxFacts, label: str) -> None:
    if facts.ir_version == 0:
        raise ModelRejected(f"{label} is not an ONNX file: it has no IR version")
    if not _MIN_IR <= facts.ir_version <= _MAX_IR:
        raise ModelRejected(
            f"{label} has the IR version {facts.ir_version}; {_MIN_IR} to {_MAX_IR} can be right"
        )
    if not facts.opsets:
        raise ModelRejected(f"{label} does not say which operator sets it uses (opset_import)")
    for domain, version in sorted(facts.opsets):
        most = _MAX_OPSET if domain in _BUILT_IN else _MAX_CUSTOM_OPSET
        if not 1 <= version <= most:
            raise ModelRejected(
                f"{label} uses version {version} of the operator set {domain[:128] or 'ai.onnx'!r}; "
                f"1 to {most} can be right"
            )


def _check_operators(facts: OnnxFacts, label: str, rules: FileRules) -> None:
    for domain, operator in sorted(facts.operators - facts.functions):
        if domain not in _BUILT_IN and domain not in rules.allowed_domains:
            raise ModelRejected(
                f"{label} uses the custom operator {operator[:128]!r} of the domain {domain[:128]!r}, "
                "which lifecycle.allowed_domains does not allow"
            )


def _check_external(tensor: External, directory: Path, label: str) -> None:
    location = tensor.location
    if not is_file_name(location):
        raise ReadsElsewhere(
            f"{label} reads external data from {location[:128]!r}, which is not a file beside it: "
            "only files beside the model are read"
        )
    offset = _number(tensor.offset, "offset", label)
    length = _number(tensor.length, "length", label)
    try:
        size = (directory / location).stat().st_size
    except OSError:
        return  # whoever asked finds it missing
    if offset > size or length > size - offset:
        raise ModelRejected(
            f"{label} reads {length} bytes from {offset} on in {location!r}, which has {size} bytes"
        )


def _number(text: str | None, name: str, label: str) -> int:
    if text is None:
        return 0
    if not _NUMBER.fullmatch(text) or int(text) >= 2**63:
        raise ModelRejected(f"{label} has {text[:64]!r} for the {name} of external data")
    return int(text)
