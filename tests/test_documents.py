"""What README and docs promise is there, and what is there is in them: links, settings, metrics, addresses, flags."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from starlette.routing import Route

from fastserve.batching.options import BatchingOptions
from fastserve.cli import app as command
from fastserve.config import describe
from fastserve.controlplane.app import create_app as control_app
from fastserve.controlplane.fleet import Fleet
from fastserve.controlplane.metrics import render
from fastserve.controlplane.options import ControlOptions
from fastserve.frontends.http.app import create_app
from fastserve.frontends.http.options import HttpOptions

ROOT = Path(__file__).resolve().parents[1]
DOCS = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
UNITS = {"MiB": 2**20, "GiB": 2**30}


def rows(text: str) -> Iterator[list[str]]:
    """Cells of the lines of tables that begin with a name in backticks."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("| ").split(" | ")]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def anchors(page: Path) -> set[str]:
    """How GitHub calls the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith(("http:", "https:")):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def defaults() -> dict[str, Any]:
    found = {".".join(path): field for path, field in describe.settings() if not describe.section_of(field)}
    return {key: field.get_default(call_default_factory=True) for key, field in found.items()}


def value(text: str) -> Any:
    """Read a default as tables write it; – and unset are nothing."""
    number, _, unit = text.strip("`").partition(" ")
    if number in ("–", "unset"):
        return None
    if number in ("true", "false"):
        return number == "true"
    return float(number) * UNITS.get(unit, 1) if number.isdecimal() else number


def test_tables_of_settings_tell_the_defaults() -> None:
    own = DOCS["configuration.md"].split("\n## Environment")[0]
    told = {name: default for cells in rows(own) for name, default in pairs(cells)}
    batching = {f"batching.{cells[0].strip('`')}": value(cells[1]) for cells in of_batching()}
    assert set(batching) == {f"batching.{name}" for name in BatchingOptions.model_fields}
    real = defaults()
    for name, default in (told | batching).items():
        assert (real[name] or None) == (default or None), name


def pairs(cells: list[str]) -> Iterator[tuple[str, Any]]:
    yield from zip(quoted(cells[0]), map(value, cells[1].split(", ")), strict=True)


def of_batching() -> list[list[str]]:
    return list(rows(DOCS["batching.md"].split("## Settings")[1].split("\n## ")[0]))


def test_settings_that_are_mentioned_exist() -> None:
    real = defaults()
    sections = "|".join({name.split(".")[0] for name in real} - {"registry"})
    for name, text in DOCS.items():
        mentioned = set(re.findall(rf"`((?:{sections})\.[a-z_]+)[`:]", text))
        assert mentioned <= set(real) | {"control.db", "http.route"}, name


def test_metrics_are_listed() -> None:
    page = render(Fleet(), ControlOptions()).decode()
    real = {name for name in re.findall(r"^# TYPE (\S+)", page, re.MULTILINE) if name.startswith("fastserve")}
    table = DOCS["control-plane.md"].split("### GET /metrics")[1].split("## Grafana")[0]
    listed = {name for cells in rows(table) for name in quoted(cells[0]) if name.startswith("fastserve_")}
    assert listed == real


def addresses(routes: list[Any]) -> set[tuple[str, str]]:
    """Method and path of each route, whatever its parameters are called."""
    found = [route for route in routes if isinstance(route, Route)]
    return {
        (method, re.sub(r"\{.*?\}", "{}", route.path))
        for route in found
        for method in (route.methods or set()) - {"HEAD"}
    }


def listed_addresses(text: str) -> set[tuple[str, str]]:
    """The same of what stands in backticks, with and without what is in brackets."""
    found: set[tuple[str, str]] = set()
    for method, path in re.findall(r"`(GET|POST) (/[^`]*)`", text):
        for one in (re.sub(r"\[.*?\]", "", path), path.replace("[", "").replace("]", "")):
            found.add((method, re.sub(r"\{.*?\}", "{}", one)))
    return found


def test_endpoints_are_listed() -> None:
    table = DOCS["http.md"].split("## Endpoints")[1].split("\n## ")[0]
    app = create_app(cast(Any, None), HttpOptions())
    refused = {"/v2/systemsharedmemory/", "/v2/cudasharedmemory/", "/v2/logging", "/v2/trace/", "/docs/"}
    real = {
        (method, path)
        for method, path in addresses(app.routes)
        if not path.startswith((*refused, "/v2/repository/{}/")) and not path.endswith("/trace/setting")
    }
    assert listed_addresses(table) == real


def test_endpoints_of_the_control_plane_are_listed() -> None:
    headings = re.findall(r"^### ((?:GET|POST) \S+)$", DOCS["control-plane.md"], re.MULTILINE)
    listed = listed_addresses(" ".join(f"`{heading}`" for heading in headings))
    assert listed == addresses(control_app(cast(Any, None), None).routes)


def commands(node: Any, words: tuple[str, ...] = ("fastserve",)) -> Iterator[tuple[str, Any]]:
    below = getattr(node, "commands", None)
    if below is None:
        yield " ".join(words), node
    else:
        for name, child in below.items():
            yield from commands(child, (*words, name))


def test_commands_and_their_flags_are_documented() -> None:
    root: Any = typer.main.get_command(command)
    found = dict(commands(root))
    table = list(rows(DOCS["configuration.md"].split("## Command line")[1]))
    listed = " ".join(" ".join(quoted(cells[0])) for cells in table)
    for name in found:
        assert re.search(rf"{name}\b", listed), name
    flags = {flag for node in (root, *found.values()) for param in node.params for flag in param.opts}
    long = {flag for flag in flags if flag.startswith("--")}
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(DOCS.values())))
    assert long <= mentioned
    assert mentioned <= long | {"--help", "--data-binary"}, "--data-binary is curl's"


def test_the_example_of_sketches_runs() -> None:
    example = re.search(r"```python\n(.*?)```", DOCS["sketches.md"], re.DOTALL)
    assert example
    done = subprocess.run([sys.executable, "-c", example[1]], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0 0 1] [1] [1]"
