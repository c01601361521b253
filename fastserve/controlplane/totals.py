"""Totals of versions as the database keeps them: JSON, in numbers of any size."""

import json
from collections.abc import Iterable

import orjson
from sqlalchemy import Connection, bindparam, select, tuple_

from fastserve.controlplane.errors import StoreUnavailable
from fastserve.controlplane.fleet import Version, VersionTotals
from fastserve.controlplane.tables import totals
from fastserve.monitoring.snapshot import HistogramDelta

_ALL = select(totals)
_OF_VERSIONS = _ALL.where(
    totals.c.model.in_(bindparam("models", expanding=True)),  # of pairs alone SQLite uses no index
    tuple_(totals.c.model, totals.c.version).in_(bindparam("versions", expanding=True)),
)

_MOST_NAMED = 1_000
"""Versions of one query; PostgreSQL refuses some thousands."""


def read_totals(
    connection: Connection, versions: Iterable[Version] | None = None
) -> dict[Version, VersionTotals]:
    """Give the totals of some versions, or of all; a version without any is left out."""
    wanted = None if versions is None else set(versions)
    if wanted is None or len(wanted) > _MOST_NAMED:
        rows = connection.execute(_ALL)
    else:
        models = sorted({model for model, _ in wanted})
        rows = connection.execute(_OF_VERSIONS, {"models": models, "versions": sorted(wanted)})
    return {
        (row.model, row.version): _parse(row.content)
        for row in rows
        if wanted is None or (row.model, row.version) in wanted
    }


def to_text(one: VersionTotals) -> str:
    """Write totals."""
    histograms = {
        name: {"buckets": each.buckets, "total": each.total} for name, each in one.histograms.items()
    }
    content = {"codes": one.codes, "histograms": histograms, "watched_rows": one.watched_rows}
    try:
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a sum has more than 64 bits
        return json.dumps(content, separators=(",", ":"))


def _parse(text: str) -> VersionTotals:
    try:
        content = json.loads(text)
        # Not validated: the sums may have outgrown what one snapshot may say.
        histograms = {
            name: HistogramDelta.model_construct(
                buckets={int(bucket): count for bucket, count in each["buckets"].items()}, total=each["total"]
            )
            for name, each in content["histograms"].items()
        }
        return VersionTotals(content["codes"], histograms, content["watched_rows"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StoreUnavailable(f"totals in it are damaged ({error})") from error
