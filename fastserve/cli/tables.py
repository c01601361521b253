"""How models look in a terminal; text from a registry is shown as it is, never read as markup."""

import json
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text


def show(*parts: RenderableType) -> None:
    """Print tables to standard output; into a pipe they are as wide as they need to be."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(*parts, sep="\n")


def model_table(rows: list[dict[str, Any]]) -> Table:
    """One line a version."""
    table = _table("MODEL", "VERSION", "CREATED", "SIZE", "TAKES → GIVES")
    table.columns[1].justify = table.columns[3].justify = "right"
    for row in rows:
        if row["problem"]:
            summary = Text(row["problem"], style="red")
        elif row["inputs"] is None:
            summary = Text("not published by fastserve; see `models show`", style="dim")
        else:
            summary = Text(f"{_names(row['inputs'])} → {_names(row['outputs'])}")
        table.add_row(
            Text(row["model"]), str(row["version"]), row["created_at"] or "–", size(row["bytes"]), summary
        )
    return table


def fact_tables(facts: dict[str, Any]) -> list[RenderableType]:
    """Everything about one version: heading, tensors, files, provenance."""
    heading = Text(f"{facts['model']} version {facts['version']}", style="bold")
    heading.append(f"\n{facts['path']}", style="not bold")
    heading.append(f"\ncreated {facts['created_at'] or 'unknown'}", style="not bold")
    tensors = _table("", "TENSOR", "DATATYPE", "SHAPE")
    for side, word in (("inputs", "takes"), ("outputs", "gives")):
        for tensor in facts["signature"][side]:
            tensors.add_row(word, Text(tensor["name"]), tensor["datatype"], Text(json.dumps(tensor["shape"])))
    files = _table("FILE", "SIZE", "SHA-256")
    for name, file in facts["files"].items():
        files.add_row(Text(name), size(file["bytes"]), file["sha256"])
    parts: list[RenderableType] = [heading, tensors, files]
    if facts["provenance"]:
        provenance = _table("PROVENANCE", "")
        for key, value in facts["provenance"].items():
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            provenance.add_row(Text(key), Text(shown, overflow="fold"))
        parts.append(provenance)
    return parts


def size(count: int | None) -> str:
    """Bytes as a person reads them."""
    if count is None:
        return "–"
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:4])
    return shown + (f", … ({len(names)} in all)" if len(names) > 4 else "")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
