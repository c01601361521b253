"""The shape of the house, read from the source: layers, cycles, budgets, modules that stand alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "fastserve").rglob("*.py"))
LAYERS = [
    ["errors", "types", "clock", "log", "text", "overriding", "fastserve"],
    ["registry", "runtime", "tracing"],
    ["lifecycle", "batching", "monitoring"],
    ["dataplane"],
    ["frontends"],
    ["controlplane", "demo"],
    ["config"],
    ["app"],
    ["cli"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILE_LINES = 400
FUNCTION_LINES = 50


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "fastserve"


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """Modules of the two packages that a file imports; `everywhere` includes imports inside functions."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree)) if everywhere else list(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    known = {module_name(source) for source in SOURCES}
    return {name for name in found if name in known or name.startswith("fastserve_core")}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_run_downwards(path: Path) -> None:
    me = room(module_name(path))
    for other in imports(path):
        if other.startswith("fastserve_core") or room(other) in (me, "fastserve"):
            continue
        # Options are values: config composes them, and nothing else about a room.
        assert LEVEL[room(other)] <= LEVEL[me], f"{module_name(path)} imports {other}, which lies above it"
        if LEVEL[room(other)] == LEVEL[me] and LEVEL[me] > 0:
            allowed = {("lifecycle", "batching")}
            assert (me, room(other)) in allowed, f"{module_name(path)} imports its neighbour {other}"


def test_front_ends_do_not_import_each_other() -> None:
    for path in (ROOT / "fastserve/frontends").rglob("*.py"):
        mine = module_name(path).split(".")[:3]
        for other in imports(path):
            if other.startswith("fastserve.frontends."):
                assert other.split(".")[:3] == mine, f"{path} imports {other}"


def test_the_core_knows_nothing_of_the_package() -> None:
    for path in (ROOT / "fastserve_core").rglob("*.py*"):
        if path.suffix in {".py", ".pyx", ".pyi"}:
            for line in path.read_text().splitlines():
                assert not line.lstrip().startswith(
                    ("import fastserve.", "from fastserve.", "from fastserve ")
                ), path


def test_no_import_cycles() -> None:
    graph = {
        module_name(path): {m for m in imports(path) if not m.startswith("fastserve_core")}
        for path in SOURCES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' → '.join((*trail, module))}"
        if module in done:
            return
        for other in graph[module]:
            # A package's __init__ re-exports its own modules; they may name the package's siblings, not itself.
            if not module.startswith(other + ".") and other != module:
                visit(other, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


ALONE = """
import importlib, os, sys

def visit(name):
    importlib.import_module(name)
    for below in names:
        if below.rpartition(".")[0] != name:
            continue
        if below in sys.modules:
            visit(below)
        elif (child := os.fork()) == 0:
            visit(below)
            os._exit(0)
        elif os.waitpid(child, 0)[1]:
            sys.exit(f"{below} cannot be imported alone")

names = sys.argv[1:]
for name in names:
    importlib.import_module(name)
for loaded in [name for name in sys.modules if name.split(".")[0] == "fastserve"]:
    del sys.modules[loaded]
visit("fastserve")
"""


def test_every_module_can_be_imported_alone() -> None:
    """Each in a fork of a process that has its package only; what is not ours is there for all of them."""
    names = [module_name(p) for p in SOURCES if p.stem != "__main__" and "static" not in p.parts]
    subprocess.run([sys.executable, "-c", ALONE, *names], check=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize(
    "path",
    [
        *SOURCES,
        *sorted((ROOT / "fastserve_core").rglob("*.pyx")),
        *sorted((ROOT / "fastserve_core").rglob("*.hpp")),
        *sorted((ROOT / "tests").rglob("*.py")),
        *sorted((ROOT / "benchmarks").rglob("*.py")),
    ],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_budgets(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES, f"{path} has more than {FILE_LINES} lines"
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or 0) - node.lineno + 1
                assert size <= FUNCTION_LINES, f"{path}:{node.lineno} {node.name} has {size} lines"


def test_setup_py_stays_a_plain_list() -> None:
    assert (ROOT / "setup.py").read_text().count("\n") <= 70


def test_public_modules_say_why_they_exist() -> None:
    silent = [
        str(path)
        for path in SOURCES
        if path.read_text() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent
