"""The examples of docs/http.md, run as they stand, print what stands below them."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastserve.registry import Registry
from tests.registries import publish
from tests.servers import Server, running

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "http.md").read_text()
EXAMPLES = [
    pytest.param(*example, id=f"example {number}")
    for number, example in enumerate(re.findall(r"```sh\n([^`]*)```\n```\w+\n([^`]*)```", PAGE))
    if "flights" not in "".join(example)  # `fastserve demo` trains that one
]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the model that the page makes first."""
    place = tmp_path_factory.mktemp("twice")
    snippet = re.search(r"```python\n(# twice\.py.*?)```", PAGE, re.DOTALL)
    assert snippet
    subprocess.run([sys.executable, "-c", snippet[1]], cwd=place, check=True)
    publish(Registry(place / "registry"), "twice", (place / "twice.onnx").read_bytes())
    with running(place / "registry", place) as one:
        yield one


@pytest.mark.parametrize(("commands", "printed"), EXAMPLES)
def test_an_example_prints_what_stands_below_it(
    server: Server, tmp_path: Path, commands: str, printed: str
) -> None:
    script = commands.replace("localhost:8000", server.url)
    done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    pattern = ".*".join(re.escape(part) for part in printed.strip().split("…"))
    said = done.stdout.replace("\r", "").strip()
    assert re.fullmatch(pattern, said, re.DOTALL), said


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 10
