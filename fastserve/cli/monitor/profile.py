"""`fastserve monitor profile`: what the rows look like that a version was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastserve.cli.common import (
    STDOUT,
    AsJson,
    ConfigFile,
    Debug,
    Registry,
    check_target,
    print_json,
    print_text,
    say,
    settings,
    told,
)
from fastserve.cli.models.opening import open_registry
from fastserve.cli.monitor.opening import (
    Opened,
    check_file_use,
    find_served,
    is_file,
    open_file,
    open_version,
)
from fastserve.cli.monitor.predicting import describe_tensors, predict
from fastserve.cli.monitor.reading import (
    Bins,
    Columns,
    Delimiter,
    MaxCategories,
    NoHeader,
    open_data,
    split_names,
)
from fastserve.cli.progress import progress
from fastserve.errors import FastserveError, InvalidProfile

if TYPE_CHECKING:
    from fastserve.monitoring import Profile
    from fastserve.monitoring.columns import InputColumns
    from fastserve.monitoring.datafile import DataFile
    from fastserve.registry import Registry as RegistryStore
    from fastserve.runtime import Runtime
    from fastserve.types import Array, TensorSpec

EPILOG = (
    "Example: [bold]fastserve monitor profile train.parquet --model flights@4[/bold]"
    "\n\nColumns are found by the names of the model's inputs. Where one input takes them all, the file has "
    "just those columns, or --columns names them in their order."
    "\n\nBefore a model is published: [bold]fastserve monitor profile train.parquet --model model.onnx "
    "--out profile.json[/bold], then [bold]fastserve models publish flights model.onnx "
    "--profile profile.json[/bold]."
    "\n\nWhere rows depend on their neighbours, windows differ more than by chance: give --window "
    "the rows of a whole cycle, a day or a week, and the profile says how much more (phi)."
)
_SHOWN = 200

_File = Annotated[
    Path,
    typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The reference rows."),
]
_Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME[@VERSION]|FILE.onnx",
        help="A version by number or alias; else the champion, or newest. Or a model file, with --out.",
    ),
]
_Window = Annotated[
    int | None,
    typer.Option(
        "--window",
        metavar="ROWS",
        min=0,
        show_default=False,
        help="Rows of a window that phi is taken over; 0: phi is not taken. "
        "Without it a twentieth of the file's, if it has 10,000 or more.",
    ),
]
_Codes = Annotated[
    str | None,
    typer.Option("--codes", metavar="A,B,…", help="Inputs and outputs whose whole numbers are categories."),
]
_Replace = Annotated[
    bool, typer.Option("--replace", help="Put it in the place of the profile that the version has.")
]
_Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE",
        dir_okay=False,
        help="Write it here and not to the registry; - for standard output.",
    ),
]
_NoOutputs = Annotated[
    bool, typer.Option("--no-outputs", help="Do not run the model: only its inputs are described.")
]


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the profile is to be made."""

    bins: int
    max_categories: int
    window: int | None
    codes: Sequence[str]
    outputs: bool
    quiet: bool


def profile(
    file: _File,
    *,
    model: _Model,
    columns: Columns = None,
    bins: Bins = 16,
    max_categories: MaxCategories = 1_000,
    window: _Window = None,
    codes: _Codes = None,
    replace: _Replace = False,
    out: _Out = None,
    no_outputs: _NoOutputs = False,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    registry: Registry = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
    debug: Debug = False,
) -> None:
    """Describe reference rows and the answers to them, and keep that with the version of a model."""
    if out is not None:
        check_target(out, "--out", as_json)
    wanted = split_names(columns, "--columns")
    shape = _Shape(bins, max_categories, window, split_names(codes, "--codes") or (), not no_outputs, as_json)
    if is_file(model):
        check_file_use(model, out=out is not None, replace=replace, registry=registry is not None)
    data, chosen = open_data(file, delimiter, no_header), settings(registry, config)
    if is_file(model):
        with open_file(model, chosen, run=shape.outputs) as opened:
            made = _describe(data, wanted, opened, shape)
        facts: dict[str, Any] = {"model": model, "version": None}
    else:
        store = open_registry(chosen, checks=True)
        name, version = _find(store, model, keeps=out is None, replace=replace)
        with open_version(store, name, version, chosen.runtime, run=shape.outputs) as opened:
            made = _describe(data, wanted, opened, shape)
        if out is None:
            store.add_profile(name, version, made.to_bytes(), replace=replace)
        facts = {"model": name, "version": version}
    if out == STDOUT:
        print_text(made.to_bytes().decode())
        return
    if out is not None:
        from fastserve.registry.files import replace_synced

        with told(out):
            replace_synced(out, made.to_bytes())
    _print(made, {**facts, "out": None if out is None else str(out)}, as_json)


def _find(store: "RegistryStore", model: str, *, keeps: bool, replace: bool) -> tuple[str, int]:
    """Find the version; FastserveError when it is to keep a profile and has one."""
    name, version = find_served(store, model)
    if keeps and not replace and store.profile_stamp(name, version) is not None:
        raise FastserveError(f"{name} version {version} has a profile: --replace puts this one in its place")
    return name, version


def _describe(data: "DataFile", wanted: Sequence[str] | None, opened: Opened, shape: _Shape) -> "Profile":
    """Read the rows twice, running the model over them where its outputs are described."""
    from fastserve.monitoring.building import ProfileBuilder
    from fastserve.monitoring.columns import map_columns

    label, signature, runtime = opened
    if not signature.batched:
        raise InvalidProfile(f"model '{label}' has no variable batch dimension: no row can be told apart")
    mapped = map_columns(data, _described_inputs(signature.inputs, shape.outputs), wanted)
    tensors, chosen = describe_tensors(signature, mapped, shape.codes, outputs=shape.outputs)
    builder = ProfileBuilder(
        tensors, bins=shape.bins, max_categories=shape.max_categories, window_rows=shape.window
    )
    with progress("looking", data.rows, "rows", quiet=shape.quiet) as advance:
        for block in _blocks(data, mapped, runtime, chosen):
            builder.look(block)
            advance(len(block[0]))
    with progress("counting", builder.rows, "rows", quiet=shape.quiet) as advance:
        for block in _blocks(data, mapped, runtime, chosen):
            builder.count(block)
            advance(len(block[0]))
    made = builder.profile(description=data.path.name)
    made.check(signature)
    return made


def _described_inputs(inputs: "Sequence[TensorSpec]", runs: bool) -> "Sequence[TensorSpec]":
    """Choose the inputs with a fixed number of values a row; to run the model it takes all of them."""
    fixed = [spec for spec in inputs if all(size >= 0 for size in spec.shape[1:])]
    if not fixed or len(fixed) == len(inputs):
        return inputs
    if runs:
        other = next(spec for spec in inputs if spec not in fixed)
        raise InvalidProfile(
            f"input '{other.name}' has the shape {list(other.shape)}: no fixed number of values a row. "
            "--no-outputs describes the other inputs, without running the model"
        )
    return fixed


def _blocks(
    data: "DataFile", mapped: "Sequence[InputColumns]", runtime: "Runtime | None", chosen: Sequence[int]
) -> "Iterator[list[Array]]":
    from fastserve.monitoring.columns import read_blocks

    for inputs in read_blocks(data, mapped, served=True):
        if runtime is None or not chosen:
            yield inputs
        else:
            yield from predict(runtime, inputs, chosen)


def _print(made: "Profile", facts: dict[str, Any], as_json: bool) -> None:
    rows = list(_rows(made))
    if as_json:
        print_json({**facts, "sha256": made.digest(), "rows": made.rows, "features": rows})
        return
    from fastserve.cli.tables import figure, show, table

    headers = ["", "FEATURE", "KIND", "BINS", "MISSING", "MEAN", "SD", "PHI"]
    cells = [
        [
            "takes" if row["role"] == "input" else "gives",
            row["feature"],
            row["kind"],
            str(row["bins"]),
            f"{row['missing']:.2%}",
            figure(row["mean"], ".6g"),
            figure(row["sd"], ".6g"),
            f"{row['phi']:.2f}" if row["windows"] else "–",
        ]
        for row in rows[:_SHOWN]
    ]
    show(table(headers, cells, right={3, 4, 5, 6, 7}))
    if len(rows) > _SHOWN:
        say(f"… {len(rows)} features in all; --json shows them")
    where = facts["out"] or f"{facts['model']} version {facts['version']}"
    say(f"{made.rows} rows → {where}, profile {made.digest()[:12]}")


def _rows(made: "Profile") -> Iterator[dict[str, Any]]:
    from fastserve.monitoring import NumberFeature

    for tensor in made.tensors:
        for feature in tensor.features:
            mean = sd = None
            bins = len(feature.counts)
            if isinstance(feature, NumberFeature):
                bins = len(feature.edges) - 1
                mean, sd = feature.mean, feature.sd
            yield {
                "role": tensor.role,
                "tensor": tensor.tensor,
                "feature": feature.name,
                "kind": feature.kind,
                "bins": bins,
                "missing": feature.missing / made.rows,
                "mean": mean,
                "sd": sd,
                "phi": feature.phi,
                "windows": feature.windows,
            }
