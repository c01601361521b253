"""What a model file may hold: known operators, sane versions, weights inside the files beside it."""

import cProfile
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fastserve.errors import ModelRejected, RegistryError
from fastserve.registry import onnx_file
from fastserve.registry.onnx_file import read_facts
from fastserve.registry.rules import FileRules, check_model_file
from tests import models

GOOD: dict[str, Callable[[], bytes]] = {
    "mlp": lambda: models.mlp(4, 8, 2),
    "fixed_batch": models.fixed_batch,
    "scaled": models.scaled,
    "identity": models.identity,
    "variable_inner": models.variable_inner,
    "unique_rows": models.unique_rows,
    "centred": models.centred,
    "sequence_output": models.sequence_output,
    "failing_on_negative": models.failing_on_negative,
    "gbm": models.gbm,
    "pipeline": models.pipeline,
    "string_labels": lambda: models.pipeline(string_labels=True),
    "with_zipmap": models.with_zipmap,
}
X = [models.tensor("x", TensorProto.FLOAT, [1])]
Y = [models.tensor("y", TensorProto.FLOAT, [1])]


def check(tmp_path: Path, model: onnx.ModelProto | bytes, *allowed: str) -> set[str]:
    path = tmp_path / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return check_model_file(path, FileRules(allowed_domains=frozenset(allowed)))


def with_nodes(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("evil.corp", 1)]
    return helper.make_model(helper.make_graph(nodes, "g", X, Y), opset_imports=imports, ir_version=8)


def custom(domain: str = "evil.corp") -> onnx.NodeProto:
    return helper.make_node("Exfiltrate", ["x"], ["y"], domain=domain)


def parsed(name: str = "scaled") -> onnx.ModelProto:
    return onnx.load_from_string(GOOD[name]())


@pytest.mark.parametrize("name", GOOD)
def test_good_models_pass(tmp_path: Path, name: str) -> None:
    assert check(tmp_path, GOOD[name]()) == set()


@pytest.mark.parametrize("name", GOOD)
def test_what_is_read_is_what_the_onnx_package_reads(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(GOOD[name]())
    model, facts = parsed(name), read_facts(path, "m")
    assert facts.ir_version == model.ir_version
    assert facts.opsets == {(entry.domain, entry.version) for entry in model.opset_import}
    assert facts.operators == {(node.domain, node.op_type) for node in model.graph.node}


@pytest.mark.parametrize("name", GOOD)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    data = GOOD[name]()
    whole = data.index(b"B\x02\x10\x11") if b"B\x02\x10\x11" in data else data.rindex(b"B")
    for stop in range(0, whole, max(1, len(data) // 40)):
        with pytest.raises(ModelRejected, match=r"^model.onnx (is|does)"):
            check(tmp_path, data[:stop])


def hidden_in_branch() -> onnx.ModelProto:
    branch = helper.make_graph([custom()], "branch", [], Y)
    plain = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "plain", [], Y)
    return with_nodes(helper.make_node("If", ["c"], ["y"], then_branch=plain, else_branch=branch))


def hidden_in_loops() -> onnx.ModelProto:
    body = helper.make_graph([custom()], "body", X, Y)
    for _ in range(3):
        body = helper.make_graph([helper.make_node("Loop", ["n"], ["y"], body=body)], "outer", X, Y)
    return with_nodes(helper.make_node("Scan", ["x"], ["y"], body=body, num_scan_inputs=1))


def hidden_in_function() -> onnx.ModelProto:
    model = with_nodes(helper.make_node("Good", ["x"], ["y"], domain="local"))
    model.functions.append(
        helper.make_function("local", "Good", ["x"], ["y"], [custom()], [helper.make_opsetid("", 17)])
    )
    return model


def hidden_in_training() -> onnx.ModelProto:
    model = parsed()
    model.training_info.add().algorithm.node.append(custom())
    return model


@pytest.mark.parametrize(
    "model",
    [lambda: with_nodes(custom()), hidden_in_branch, hidden_in_loops, hidden_in_function, hidden_in_training],
)
def test_custom_operators_are_refused_wherever_they_are(
    tmp_path: Path, model: Callable[[], onnx.ModelProto]
) -> None:
    with pytest.raises(
        ModelRejected, match=r"'Exfiltrate' of the domain 'evil.corp', which lifecycle.allowed_domains"
    ):
        check(tmp_path, model())
    assert check(tmp_path, model(), "evil.corp") == set()
    with pytest.raises(ModelRejected, match=r"'evil.corp'"):
        check(tmp_path, model(), "evil", "corp", "local", "")


def test_a_models_own_functions_are_not_custom_operators(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["x"], ["y"])]
    model = with_nodes(helper.make_node("Good", ["x"], ["y"], domain="local"))
    with pytest.raises(ModelRejected, match=r"'Good' of the domain 'local'"):
        check(tmp_path, model)
    model.functions.append(
        helper.make_function("local", "Good", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    )
    assert check(tmp_path, model) == set()
    model.graph.node.append(custom("local"))
    with pytest.raises(ModelRejected, match=r"'Exfiltrate' of the domain 'local'"):
        check(tmp_path, model)


@pytest.mark.parametrize("domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"])
def test_domains_of_onnxruntime_are_known(tmp_path: Path, domain: str) -> None:
    assert check(tmp_path, with_nodes(custom(domain))) == set()


def test_domains_that_look_known_are_not(tmp_path: Path) -> None:
    for domain in ("com.microsoft.", "ai.onnx ", "AI.ONNX", "com.microsoft.evil", "ai.onnx.contrib"):
        with pytest.raises(ModelRejected, match=r"custom operator"):
            check(tmp_path, with_nodes(custom(domain)))


@pytest.mark.parametrize("version", [-1, 0, 1, 2, 65, 2**40])
def test_ir_versions_that_cannot_be(tmp_path: Path, version: int) -> None:
    model = parsed()
    model.ir_version = version
    with pytest.raises(ModelRejected, match=r"IR version"):
        check(tmp_path, model)


def test_versions_that_are_not_there(tmp_path: Path) -> None:
    model = parsed()
    model.ClearField("ir_version")
    with pytest.raises(ModelRejected, match=r"is not an ONNX file: it has no IR version"):
        check(tmp_path, model)
    model = parsed()
    model.ClearField("opset_import")
    with pytest.raises(ModelRejected, match=r"opset_import"):
        check(tmp_path, model)
    model = parsed()
    model.ClearField("graph")
    with pytest.raises(ModelRejected, match=r"it has no graph"):
        check(tmp_path, model)


@pytest.mark.parametrize("domain", ["", "ai.onnx.ml", "evil.corp"])
@pytest.mark.parametrize("version", [-1, 0, 2**31, 2**62])
def test_operator_sets_that_cannot_be(tmp_path: Path, domain: str, version: int) -> None:
    model = parsed()
    model.opset_import.add(domain=domain, version=version)
    with pytest.raises(
        ModelRejected, match=rf"version {version % 2**64} of the operator set '{domain or 'ai.onnx'}'"
    ):
        check(tmp_path, model)


def external(tmp_path: Path, size: int | None = 100, /, **entries: Any) -> set[str]:
    model = onnx.load_from_string(models.external_data()[0])
    tensor = model.graph.initializer[0]
    del tensor.external_data[:]
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    if size is not None:
        with (tmp_path / "w.bin").open("wb") as file:
            file.truncate(size)
    return check(tmp_path, model)


@pytest.mark.parametrize(
    "entries",
    [{}, {"offset": 0, "length": 100}, {"offset": 100}, {"offset": 96, "length": 4}, {"checksum": "abc"}],
)
def test_external_data_inside_its_file(tmp_path: Path, entries: dict[str, Any]) -> None:
    assert external(tmp_path, location="w.bin", **entries) == {"w.bin"}


def test_external_data_beyond_four_gib(tmp_path: Path) -> None:
    size = 5 * 2**30
    assert external(tmp_path, size, location="w.bin", offset=size - 12, length=12) == {"w.bin"}
    with pytest.raises(ModelRejected, match=r"which has 5368709120 bytes"):
        external(tmp_path, size, location="w.bin", offset=size - 12, length=13)


def test_external_data_that_is_not_there_is_named_all_the_same(tmp_path: Path) -> None:
    assert external(tmp_path, None, location="w.bin", offset=96, length=5) == {"w.bin"}


@pytest.mark.parametrize(
    "entries",
    [
        {"length": 101},
        {"offset": 101},
        {"offset": 97, "length": 4},
        {"offset": 2**63 - 1, "length": 2**63 - 1},
        {"offset": 2**32, "length": 1},
    ],
)
def test_external_data_outside_its_file(tmp_path: Path, entries: dict[str, Any]) -> None:
    with pytest.raises(ModelRejected, match=r"in 'w.bin', which has 100 bytes"):
        external(tmp_path, location="w.bin", **entries)


@pytest.mark.parametrize("value", ["-1", "", " 1", "1e3", "0x10", "٣", str(2**63), "9" * 500])
@pytest.mark.parametrize("key", ["offset", "length"])
def test_places_that_are_no_numbers(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ModelRejected, match=f"for the {key} of external data"):
        external(tmp_path, location="w.bin", **{key: value})


@pytest.mark.parametrize(
    "location",
    [
        "../w.bin",
        "/etc/passwd",
        "a/w.bin",
        "a\\w.bin",
        "..",
        ".",
        ".hidden",
        "",
        "w\x00.bin",
        "w\n",
        "*/_ORT_MEM_ADDR_/*",
    ],
)
def test_external_data_elsewhere(tmp_path: Path, location: str) -> None:
    with pytest.raises(
        ModelRejected, match=r"reads external data from .* only files beside the model"
    ) as caught:
        external(tmp_path, location=location)
    assert isinstance(caught.value, RegistryError)
    assert "\n" not in str(caught.value)


def test_external_data_without_a_place(tmp_path: Path) -> None:
    for entries in ({}, {"offset": 0}):
        with pytest.raises(ModelRejected, match=r"a tensor is said to lie outside, but not where"):
            external(tmp_path, **entries)


def length(size: int) -> bytes:
    encoded = b""
    while size > 127:
        encoded, size = encoded + bytes([size & 127 | 128]), size >> 7
    return encoded + bytes([size])


def part(tag: int | bytes, content: bytes) -> bytes:
    return (bytes([tag]) if isinstance(tag, int) else tag) + length(len(content)) + content


HEAD = b"\x08\x08\x42\x02\x10\x11"
TWICE = part(0x2A, b"") + part(0x32, b"") + part(0x2A, b""), part(0x32, b"") * 2, part(b"\xb2\x01", b"") * 2
NODE = part(0x0A, part(0x22, b"Exfiltrate") + part(0x3A, b"evil.corp"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEAD + part(b"\xba\x00", NODE), "custom operator 'Exfiltrate'"),  # field 7 in two bytes
        (HEAD + part(0x3A, b"") + part(0x3A, NODE), "there twice"),  # parsers merge the two
        *((HEAD + part(0x3A, part(0x0A, part(0x2A, content))), "there twice") for content in TWICE),
        (HEAD + part(0x3A, b"") + part(b"\xa2\x01", part(0x12, b"") * 2), "there twice"),
        (HEAD + part(0x3A, part(0x7A, part(0x0A, b"") * 2)), "there twice"),
        (HEAD + part(0x3A, b"\x0a\x7f") + bytes(200), "longer than what holds it"),
        (HEAD + part(b"\xba\x80\x80\x80\x10", NODE) + part(0x3A, b""), "impossible number"),  # cut to 32 bits: field 7
        (HEAD + b"\x00" + part(0x3A, b""), "impossible number"),
        (HEAD + part(0x3A, b"") + b"\x0b\x0c", "unknown wire type 3"),
        (HEAD + part(0x3A, b"") + b"\x0f", "unknown wire type 7"),
        (HEAD + b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "longer than what holds it"),
        (HEAD + b"\x3a" + b"\xff" * 20, "number is cut off"),
        (HEAD + part(0x3A, part(0x0A, part(0x3A, b"a" * 5000))), "a name of 5000 bytes"),
        (HEAD + part(0x3A, part(0x0A, part(0x3A, b"\xff\xfe"))), "not an ONNX file"),
    ],
)  # fmt: skip
def test_bytes_that_hide_something(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelRejected, match=re.escape(message)):
        check(tmp_path, data)


def test_the_last_domain_counts_as_it_does_for_a_parser(tmp_path: Path) -> None:
    node = part(0x0A, part(0x22, b"Relu") + part(0x3A, b"") + part(0x22, b"Bad") + part(0x3A, b"evil.corp"))
    with pytest.raises(ModelRejected, match=r"'Bad' of the domain 'evil.corp'"):
        check(tmp_path, HEAD + part(0x3A, node))


def calls(work: Callable[[], object]) -> int:
    """How many functions are called by some work, of Python or compiled: what it costs on any machine."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(one.callcount for one in profile.getstats())


def test_weights_cost_nothing(tmp_path: Path) -> None:
    model = parsed("mlp")
    for i in range(200):
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ones(131_072, np.float32), f"extra{i}")
        )
    data = model.SerializeToString()
    assert len(data) > 100_000_000
    check(tmp_path, data)
    assert calls(lambda: check_model_file(tmp_path / "model.onnx", FileRules())) < 100_000


def test_trees_are_passed_over_in_runs(tmp_path: Path) -> None:
    node = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["y"], domain="ai.onnx.ml",
        nodes_values=[0.5] * 300_000, nodes_featureids=[300] * 300_000, nodes_modes=["BRANCH_LEQ", "LEAF"] * 150_000,
    )  # fmt: skip
    data = with_nodes(node).SerializeToString()
    assert calls(lambda: check(tmp_path, data)) < 100_000


@pytest.mark.parametrize(
    "data",
    [
        HEAD + part(0x3A, b"\x0a\x00" * 60_000),  # nodes
        HEAD + part(0x3A, b"\xaa\x06\x00" * 60_000),  # unknown fields
        HEAD + part(0x3A, b"".join(part(0x0A, part(0x22, b"%d" % i)) for i in range(6_000))),  # operators
    ],
    ids=["nodes", "unknown", "operators"],
)
def test_work_is_bounded(tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "_MAX_STEPS", 50_000)
    monkeypatch.setattr(onnx_file, "_MAX_FACTS", 5_000)
    with pytest.raises(ModelRejected, match=r"it has more than"):
        check(tmp_path, data)


def test_more_than_protobuf_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.touch()
    os.truncate(path, 2**31)
    with pytest.raises(ModelRejected, match=r"larger than 2 GiB"):
        check_model_file(path, FileRules())


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(RegistryError, match=r"not a regular file"):
        check_model_file(tmp_path / "model.onnx", FileRules())


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=1000)
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.onnx"
    path.write_bytes(noise)
    with pytest.raises(ModelRejected, match=r"^random.onnx "):
        check_model_file(path, FileRules())


@given(st.data())
@settings(max_examples=200, deadline=1000)
def test_damaged_models_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    content = bytearray(GOOD[data.draw(st.sampled_from(["scaled", "gbm", "with_zipmap"]))]())
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(ModelRejected):
        assert check_model_file(path, FileRules()) is not None
