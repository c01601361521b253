"""The demo, step by step, with what each step found out."""

import shlex
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fastserve.demo import flights, monitoring, report, training
from fastserve.demo.flights import Dataset, Flights
from fastserve.demo.monitoring import ShowReport
from fastserve.demo.server import HOST, Client, Server
from fastserve.monitoring import Profile
from fastserve.registry import Registry
from fastserve.runtime import inspect
from fastserve.types import Array

MODEL = "flights"

_SHOWN_ROWS = 8
_CHUNK_ROWS = 512
_TIMED_REQUESTS = 200


@dataclass(frozen=True, slots=True)
class _Published:
    """A version in the registry, and the data it was made of."""

    data: Dataset
    version: int
    profile: Profile

    @property
    def v1_path(self) -> str:
        """Where this version is asked, whatever the model's aliases say."""
        return f"/v1/models/{MODEL}/versions/{self.version}:predict"

    @property
    def v2_path(self) -> str:
        """Where this version is asked, whatever the model's aliases say."""
        return f"/v2/models/{MODEL}/versions/{self.version}/infer"


def run(
    folder: Path, registry: Path, keep_serving: bool, ports: tuple[int, int], show_report: ShowReport
) -> None:
    """Run the whole demo in `folder`, publishing to `registry`.

    Parameters
    ----------
    ports
        Of a server that is started later, and of its control plane: for the commands to try then.
    show_report
        Shows what the control plane says of the rows that were sent.

    Raises
    ------
    FastserveError
        When a step fails; nothing is left running.
    """
    console = Console()
    for directory in (folder, registry):
        directory.mkdir(parents=True, exist_ok=True)
    # Without this, SIGTERM would end the demo and leave its server behind.
    signal.signal(signal.SIGTERM, _leave)
    command = f"fastserve serve --registry {shlex.quote(str(registry))}"
    # It starts while the model is trained. Over another registry than that in `folder`, the directory that
    # servers of it keep is left to them.
    with Server(registry, folder / "registry.control", folder / "serve.log") as server:
        made = _prepare(console, folder, registry)
        test = made.data.test
        with _step(console, "wait for the server to have loaded it"):
            server.wait_ready(MODEL, made.version)
        _done(console, "serve", f"{command}: ready on http://{HOST}:{server.port}")
        with Client(server.port) as client:
            rows = sum(step(console, client, made) for step in (_ask_all, _ask_some, _time))
        _compare(console, server, made, rows, folder, show_report)
        _write_bodies(folder, test)
        ports = (server.port, server.control_port) if keep_serving else ports
        console.print(report.commands(*ports, folder), soft_wrap=True)
        if keep_serving:
            console.print(f"\nServing on http://{HOST}:{server.port}; Ctrl-C ends it.")
            with suppress(KeyboardInterrupt):
                server.wait()
        else:
            again = _start_again(command, registry, folder, server.database)
            console.print(Text(f"\nThe server is stopped; start it again: {again}"), soft_wrap=True)


def _start_again(command: str, registry: Path, folder: Path, database: str) -> str:
    """Have the next server know what was counted here, as it does anyhow over the registry in `folder`."""
    if registry.resolve() == (folder / "registry").resolve():
        return command
    return f"FASTSERVE_CONTROL__DATABASE={shlex.quote(database)} {command}"


def _prepare(console: Console, folder: Path, registry: Path) -> _Published:
    """Everything before serving: read, train, export, compare, describe, publish."""
    with _step(console, "read flights and weather"):
        data = flights.load()
    _done(
        console,
        "data",
        f"{len(data.train):,} flights of January–February to train, {len(data.test):,} of March to test",
        f"{data.cancelled:,} cancelled or diverted ones left out: neither late nor on time",
        "the planned hour's weather stands for its forecast; gaps are imputed",
    )
    with _step(console, "train imputation, encoding and logistic regression as one"):
        pipeline = training.train(data.train)
        expected = training.probabilities(pipeline, data.test)
    auc = training.auc(data.test, expected)
    _done(console, "train", f"AUC on March {auc:.3f} (0.5 = guessing; {data.test.late.mean():.0%} were late)")
    with _step(console, "export transform and model as one ONNX graph and compare"):
        model = training.export(pipeline)
        difference = training.largest_difference(model, data.test, expected)
    _done(
        console,
        "export",
        f"one ONNX graph of {len(model):,} bytes with {len(flights.COLUMNS)} named inputs",
        f"differs from scikit-learn by {difference:.1g} at most, over all of March",
    )
    facts = training.provenance(data, {"auc_march": round(auc, 4)})
    return _publish(console, data, model, facts, folder / "model.onnx", registry)


def _publish(
    console: Console, data: Dataset, model: bytes, facts: dict[str, Any], path: Path, registry: Path
) -> _Published:
    """Describe the training rows, and publish the model and that together."""
    path.write_bytes(model)
    with _step(console, "describe the training rows, and the answers to them"):
        profile = monitoring.describe(path, data.train)
    features = sum(len(tensor.features) for tensor in profile.tensors)
    _done(console, "profile", f"{profile.rows:,} training rows and the answers to them: {features} features")
    with _step(console, "publish"):
        version = Registry(registry).publish(
            MODEL, path, inspect=inspect, provenance=facts, profile=profile.to_bytes()
        )
    _done(console, "publish", f"{MODEL} version {version} with its profile in {registry}")
    return _Published(data, version, profile)


def _ask_all(console: Console, client: Client, made: _Published) -> int:
    """Send every March row over HTTP: the answers must be as good as the pipeline's own. Gives rows sent."""
    test = made.data.test
    answers: list[Array] = []
    started_s = time.perf_counter()
    with _progress(console) as progress:
        task = progress.add_task("ask about every flight of March", total=len(test))
        for start in range(0, len(test), _CHUNK_ROWS):
            rows = test.rows.iloc[start : start + _CHUNK_ROWS]
            answers.append(_late_v2(client.post(made.v2_path, flights.infer_body(rows))))
            progress.advance(task, len(rows))
    seconds = time.perf_counter() - started_s
    auc = training.auc(test, np.concatenate(answers))
    _done(
        console,
        "ask",
        f"{len(test):,} March flights in JSON requests of {_CHUNK_ROWS} rows: {seconds:.1f} s",
        f"AUC of the served answers {auc:.3f}",
    )
    return len(test)


def _ask_some(console: Console, client: Client, made: _Published) -> int:
    """Send the same few rows both ways and show them beside the truth. Gives rows sent."""
    test = made.data.test
    picked = np.linspace(0, len(test) - 1, _SHOWN_ROWS).astype(np.int64)
    rows = test.rows.iloc[picked]
    v2 = _late_v2(client.post(made.v2_path, flights.infer_body(rows)))
    v1 = _late_v1(client.post(made.v1_path, flights.predict_body(rows)))
    console.print("\nFlights of March, which the model has never seen", style="bold")
    console.print(report.answers(flights.instances(rows), v2, v1, test.late[picked]))
    return 2 * _SHOWN_ROWS


def _time(console: Console, client: Client, made: _Published) -> int:
    """Time single rows on one connection, one after the other. Gives rows sent."""
    test = made.data.test
    one = test.rows.iloc[:1]
    timings = []
    for name, path, body in (
        ("/v2 infer", made.v2_path, flights.infer_body(one)),
        ("/v1 :predict", made.v1_path, flights.predict_body(one)),
    ):
        durations_ms = []
        for _ in range(_TIMED_REQUESTS):
            started_ns = time.perf_counter_ns()
            client.post(path, body)
            durations_ms.append((time.perf_counter_ns() - started_ns) / 1e6)
        durations_ms.sort()
        timings.append((name, statistics.median(durations_ms), durations_ms[int(0.99 * _TIMED_REQUESTS)]))
    console.print(f"\nOne row a request, {_TIMED_REQUESTS} requests on one connection", style="bold")
    console.print(report.timings(timings))
    return 2 * _TIMED_REQUESTS


def _compare(
    console: Console, server: Server, made: _Published, rows: int, folder: Path, show_report: ShowReport
) -> None:
    """Show how far the `rows` rows that were sent lie from those that the model was trained on."""
    with _step(console, "wait for the control plane to have counted what was sent"):
        answer = monitoring.report(server, MODEL, made.version, made.profile, rows)
    console.print("\nWhat was sent beside the training rows, what differs most first", style="bold")
    page = folder / "report.html"
    show_report(answer, page)
    console.print(Text(f"With plots, as one file: {page}"), soft_wrap=True)


def _late_v2(answer: Any) -> Array:
    """Probability of being late, float64 [rows], from the flat tensor [rows, 2]."""
    tensor = next(output for output in answer["outputs"] if output["name"] == "probabilities")
    return np.asarray(tensor["data"]).reshape(-1, 2)[:, 1]


def _late_v1(answer: Any) -> Array:
    return np.asarray([prediction["probabilities"][1] for prediction in answer["predictions"]])


def _write_bodies(folder: Path, test: Flights) -> None:
    one = test.rows.iloc[:1]
    (folder / "v2.json").write_bytes(flights.infer_body(one) + b"\n")
    (folder / "v1.json").write_bytes(flights.predict_body(one) + b"\n")


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _step(console: Console, title: str) -> Iterator[None]:
    """Show that something is under way, and for how long."""
    with _progress(console) as progress:
        progress.add_task(title, total=None)
        yield


def _progress(console: Console) -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _done(console: Console, word: str, *lines: str) -> None:
    grid = Table.grid()
    grid.add_column(width=9, style="bold")
    grid.add_column()
    for number, line in enumerate(lines):
        grid.add_row(word if number == 0 else "", Text(line))
    console.print(grid)
