"""How models, their versions and their history look in a terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fastserve.cli.models.naming import some
from fastserve.cli.tables import size, table, text

_SHOWN = 4
"""Of a model's inputs or outputs, in a list of models."""


def model_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line a version."""
    headers = ["MODEL", "VERSION", "ALIASES", "TAGS", "CREATED", "SIZE", "TAKES → GIVES"]
    cells = [
        [
            row["model"],
            "–" if row["version"] is None else str(row["version"]),
            _standing(row),
            _pairs(row["tags"]),
            row["created_at"] or "–",
            size(row["bytes"]),
            _summary(row),
        ]
        for row in rows
    ]
    return table(headers, cells, right={1, 5})


def fact_tables(facts: Mapping[str, Any]) -> list[RenderableType]:
    """Everything about one version: heading, tensors, files, provenance."""
    title = text(f"{facts['model']} version {facts['version']}", style="bold")
    heading = Text("\n").join([title, *(text(f"{word:<12} {value}") for word, value in _about(facts))])
    tensors = [
        [word, tensor["name"], tensor["datatype"], json.dumps(tensor["shape"])]
        for side, word in (("inputs", "takes"), ("outputs", "gives"))
        for tensor in facts["signature"][side]
    ]
    files = [[name, size(file["bytes"]), file["sha256"]] for name, file in facts["files"].items()]
    parts: list[RenderableType] = [
        heading,
        table(["", "TENSOR", "DATATYPE", "SHAPE"], tensors),
        table(["FILE", "SIZE", "SHA-256"], files),
    ]
    if facts["provenance"]:
        provenance = [[key, _value(value)] for key, value in facts["provenance"].items()]
        parts.append(table(["PROVENANCE", ""], provenance))
    return parts


def audit_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each thing that happened."""
    cells = [[str(row["seq"]), row["at"], row["by"], row["event"], _details(row["details"])] for row in rows]
    return table(["SEQ", "AT", "BY", "EVENT", "DETAILS"], cells, right={0})


def import_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each model file that was found."""
    cells: list[list[str | Text]] = []
    for row in rows:
        if row["problem"]:
            became = text(row["problem"], style="red")
        elif row["version"] is None:
            became = text("the next version", style="dim")
        else:
            became = text(f"version {row['version']}")
        cells.append([row["from"], row["model"], row["alias"] or "", became])
    return table(["FROM", "MODEL", "ALIAS", "BECAME"], cells)


def check_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each version that was looked at; what is wrong is told apart, in full."""
    cells = [
        [
            row["model"],
            str(row["version"]),
            size(row["bytes"]),
            "yes" if row["signed"] else "no",
            text("broken", style="red") if row["problem"] else text("sound"),
        ]
        for row in rows
    ]
    return table(["MODEL", "VERSION", "SIZE", "SIGNED", "IS"], cells, right={1, 2})


def _standing(row: Mapping[str, Any]) -> Text:
    """What a version is called, and why it is not served; no alias has parentheses."""
    said = [", ".join(row["aliases"])] if row["aliases"] else []
    if row["archived"]:
        said.append("(archived)")
    if not row["loaded"]:
        said.append("(unloaded)")
    return text(" ".join(said))


def _summary(row: Mapping[str, Any]) -> Text:
    if row["problem"]:
        return text(row["problem"], style="red")
    if row["inputs"] is None:
        return text("not published by fastserve; see `models show`", style="dim")
    return text(f"{some(row['inputs'], _SHOWN)} → {some(row['outputs'], _SHOWN)}")


def _about(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "path", facts["path"]
    for word in ("description", "owner"):
        if facts[word]:
            yield word, facts[word]
    yield "created", facts["created_at"] or "unknown"
    if facts["aliases"]:
        yield "aliases", ", ".join(facts["aliases"])
    if facts["tags"]:
        yield "tags", _pairs(facts["tags"])
    yield "signed", "yes" if facts["signed"] else "no"
    yield "profile", facts["profile"]["sha256"] if facts["profile"] else "none"
    if facts["archived"] or not facts["loaded"]:
        why = "the version is archived" if facts["archived"] else "the model is unloaded"
        yield "not served", why


def _details(details: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {'–' if value is None else _value(value)}" for key, value in details.items())


def _pairs(tags: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={tags[key]}" for key in sorted(tags))


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
