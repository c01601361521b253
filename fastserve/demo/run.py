"""The demo, step by step, with what each step found out."""

import shlex
import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fastserve.demo import flights, report, training
from fastserve.demo.flights import Dataset, Flights
from fastserve.demo.server import HOST, Client, Server
from fastserve.registry import Registry
from fastserve.runtime import inspect
from fastserve.types import Array

MODEL = "flights"
V1_PATH = f"/v1/models/{MODEL}:predict"
V2_PATH = f"/v2/models/{MODEL}/infer"

_SHOWN_ROWS = 8
_CHUNK_ROWS = 512
_TIMED_REQUESTS = 200


def run(folder: Path, registry: Path, keep_serving: bool) -> None:
    """Run the whole demo in `folder`, publishing to `registry`.

    Raises
    ------
    FastserveError
        When a step fails; nothing is left running.
    """
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    # Without this, SIGTERM would end the demo and leave its server behind.
    signal.signal(signal.SIGTERM, _leave)
    data = _prepare(console, folder, registry)
    command = f"fastserve serve --registry {shlex.quote(str(registry))}"
    with Server(registry, folder / "serve.log") as server:
        _done(console, "serve", f"{command}: ready on http://{HOST}:{server.port}")
        with Client(server.port) as client:
            _ask_all(console, client, data.test)
            _ask_some(console, client, data.test)
            _time(console, client, data.test)
        _write_bodies(folder, data.test)
        console.print(report.curl_lines(server.port if keep_serving else 8000, folder), soft_wrap=True)
        if keep_serving:
            console.print(f"\nServing on http://{HOST}:{server.port}; Ctrl-C ends it.")
            _wait(server)
        else:
            console.print(Text(f"\nThe server is stopped; start it again: {command}"), soft_wrap=True)


def _prepare(console: Console, folder: Path, registry: Path) -> Dataset:
    """Everything before serving: read, train, export, compare, publish."""
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
        trained = training.train(data.train)
        expected = training.probabilities(trained, data.test)
    auc = training.auc(data.test, expected)
    _done(console, "train", f"AUC on March {auc:.3f} (0.5 = guessing; {data.test.late.mean():.0%} were late)")
    with _step(console, "export transform and model as one ONNX graph and compare"):
        model = training.export(trained)
        difference = training.largest_difference(model, data.test, expected)
    _done(
        console,
        "export",
        f"one ONNX graph of {len(model):,} bytes with {len(flights.COLUMNS)} named inputs",
        f"differs from scikit-learn by {difference:.1g} at most, over all of March",
    )
    with _step(console, "publish"):
        facts = training.provenance(data, trained, {"auc_march": round(auc, 4)})
        path = folder / "model.onnx"
        path.write_bytes(model)
        version = Registry(registry).publish(MODEL, path, inspect=inspect, provenance=facts)
    _done(console, "publish", f"{MODEL} version {version} in {registry}")
    return data


def _ask_all(console: Console, client: Client, test: Flights) -> None:
    """Send every March row over HTTP: the answers must be as good as the pipeline's own."""
    answers: list[Array] = []
    started_s = time.perf_counter()
    with _progress(console) as progress:
        task = progress.add_task("ask about every flight of March", total=len(test))
        for start in range(0, len(test), _CHUNK_ROWS):
            rows = test.rows.iloc[start : start + _CHUNK_ROWS]
            answers.append(_late_v2(client.post(V2_PATH, flights.infer_body(rows))))
            progress.advance(task, len(rows))
    seconds = time.perf_counter() - started_s
    auc = training.auc(test, np.concatenate(answers))
    _done(
        console,
        "ask",
        f"{len(test):,} March flights in JSON requests of {_CHUNK_ROWS} rows: {seconds:.1f} s",
        f"AUC of the served answers {auc:.3f}",
    )


def _ask_some(console: Console, client: Client, test: Flights) -> None:
    """Send the same few rows both ways and show them beside the truth."""
    picked = np.linspace(0, len(test) - 1, _SHOWN_ROWS).astype(np.int64)
    rows = test.rows.iloc[picked]
    v2 = _late_v2(client.post(V2_PATH, flights.infer_body(rows)))
    v1 = _late_v1(client.post(V1_PATH, flights.predict_body(rows)))
    console.print("\nFlights of March, which the model has never seen", style="bold")
    console.print(report.answers(flights.instances(rows), v2, v1, test.late[picked]))


def _time(console: Console, client: Client, test: Flights) -> None:
    """Time single rows on one connection, one after the other."""
    one = test.rows.iloc[:1]
    timings = []
    for name, path, body in (
        ("/v2 infer", V2_PATH, flights.infer_body(one)),
        ("/v1 :predict", V1_PATH, flights.predict_body(one)),
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


def _wait(server: Server) -> None:
    try:
        server.wait()
    except KeyboardInterrupt:
        return


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
