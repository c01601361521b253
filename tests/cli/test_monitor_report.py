"""`fastserve monitor report` and `watch` against a control plane that says what a test wants it to say."""

import errno
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from fastserve.cli.monitor import asking
from fastserve.controlplane.reporting import Report
from fastserve.monitoring.comparing import FeatureComparison
from tests.cli.conftest import Run, environment, fails
from tests.controlplane.fleets import category, number, report, side
from tests.servers import free_port


class Plane(ThreadingHTTPServer):
    """A control plane with one answer; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def tells(self, found: Report) -> str:
        self.status, self.body = 200, found.model_dump_json().encode()
        return self.url

    def refuses(self, status: int, sentence: object) -> str:
        self.status, self.body = status, orjson.dumps({"error": sentence})
        return self.url


class Handler(BaseHTTPRequestHandler):
    server: Plane

    def do_GET(self) -> None:
        self.server.asked.append(self.requestline.split()[1])  # `path` has one slash where there are two
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def plane() -> Iterator[Plane]:
    with Plane() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def worst(psi: float | None, name: str) -> FeatureComparison:
    made = number(name)
    return made.model_copy(update={"distances": {**made.distances, "psi": psi}})


def test_a_table_with_the_worst_first(call: Run, plane: Plane) -> None:
    rain = worst(-0.0004, "rain").model_copy(update={"live": side((5, 5, 10, 20, 30, 20), 10, 25, -52_340.6)})
    found = report(worst(0.5, "wind"), category("carrier"), rain, worst(None, "dew"))
    done = call("monitor", "report", "flights", "--control", plane.tells(found))
    assert (done.returncode, done.stderr) == (0, "")
    title, span, heads, *rows = done.stdout.splitlines()
    assert title.strip() == "flights version 3 (champion)"
    assert "12,345 live rows, 2013-07-01 00:00 to 2013-07-02 00:00 UTC; 1,000 reference rows" in span
    assert heads.split() == ["FEATURE", "ROLE", "PSI", "JS", "KS", "MISSING", "OUTSIDE", "MEAN", "LIVE"]
    assert [row.split()[0] for row in rows] == ["wind", "carrier", "rain", "dew"]
    wind, carrier, still, dew = rows
    assert wind.split()[1:5] == ["input", "0.500", "0.200", "0.120"]
    assert "0.0% → 10.0%" in wind
    assert "0.0% → 25.0%" in wind
    assert "2 → 2.75" in wind
    assert wind.rstrip().endswith("▁▁▃▅█▅▃")  # below, four bins, above, missing
    assert carrier.split()[4] == "–"
    assert "0.0% → 7.0%" in carrier
    assert still.split()[2] == "0.000"
    assert "2 → -52341" in still
    assert dew.split()[2] == "–"


@pytest.mark.parametrize(
    ("name", "path", "query"),
    [
        ("flights", "flights", {}),
        ("flights@3", "flights", {"version": ["3"]}),
        ("flights@champion", "flights", {"alias": ["champion"]}),
        ("a b/../?x=&y@é", "a%20b%2F..%2F%3Fx%3D%26y", {"alias": ["é"]}),
    ],
)
def test_what_is_asked(call: Run, plane: Plane, name: str, path: str, query: dict[str, list[str]]) -> None:
    url = plane.tells(report(number()))
    assert call("monitor", "report", name, "--since", "7d", "--control", f"{url}/").returncode == 0
    (asked,) = plane.asked
    parts = urlsplit(asked)
    assert parts.path == f"/v2/control/models/{path}/report"
    assert parse_qs(parts.query) == {"since": ["7d"], **query}


def test_the_address_of_the_configuration(call: Run, plane: Plane, tmp_path: Path) -> None:
    plane.tells(report(number()))
    port = plane.server_address[1]
    (tmp_path / "c.yaml").write_text(f"control:\n  host: 0.0.0.0\nserver:\n  control_port: {port}\n")
    assert call("monitor", "report", "flights", "--config", "c.yaml").returncode == 0
    assert call("monitor", "report", "flights", FASTSERVE_SERVER__CONTROL_PORT=str(port)).returncode == 0
    away = {"FASTSERVE_MONITORING__CONTROL_URL": f"{plane.url}/", "FASTSERVE_SERVER__CONTROL_PORT": "0"}
    assert call("monitor", "report", "flights", **away).returncode == 0
    assert len(plane.asked) == 3
    assert all(asked.startswith("/v2/") for asked in plane.asked)


@pytest.mark.parametrize(
    ("host", "asked"),
    [("::", "http://[::1]:8002"), ("0.0.0.0", "http://127.0.0.1:8002"), ("fd00::1", "http://[fd00::1]:8002")],
)
def test_where_one_listens_and_where_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, host: str, asked: str
) -> None:
    monkeypatch.setenv("FASTSERVE_CONTROL__HOST", host)
    assert asking.address(None, None) == asked


def test_a_proxy_is_not_asked(call: Run, plane: Plane) -> None:
    url = plane.tells(report(number()))
    proxy = f"http://127.0.0.1:{free_port()}"
    assert (
        call("monitor", "report", "m", "--control", url, http_proxy=proxy, HTTP_PROXY=proxy).returncode == 0
    )


def test_top(call: Run, plane: Plane) -> None:
    url = plane.tells(report(*(number(f"f{place}") for place in range(30))))
    done = call("monitor", "report", "flights", "--top", "4", "--control", url)
    rows = [line for line in done.stdout.splitlines() if line.startswith("f") and " input " in line]
    assert [row.split()[0] for row in rows] == ["f0", "f1", "f2", "f3"]
    assert done.stdout.splitlines()[-1].strip() == "… 30 features in all"


def test_json(call: Run, plane: Plane) -> None:
    found = report(number(), category())
    done = call("monitor", "report", "flights", "--json", "--control", plane.tells(found))
    assert Report.model_validate(json.loads(done.stdout)) == found


def test_html(call: Run, plane: Plane, tmp_path: Path) -> None:
    url = plane.tells(report(number("<i>x</i>")))
    done = call("monitor", "report", "flights", "--html", "out.html", "--control", url)
    assert (done.returncode, done.stderr) == (0, "fastserve: wrote out.html\n")
    text = (tmp_path / "out.html").read_text("utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert "&lt;i&gt;x&lt;/i&gt;" in text
    assert "<i>x</i>" in done.stdout
    done = call("monitor", "report", "flights", "--html", "none/out.html", "--control", url)
    fails(done, 2, "--html: there is no directory 'none'")
    done = call("monitor", "report", "flights", "--html", "/dev/full", "--control", url)
    fails(done, 1, "/dev/full cannot be written: No space left on device")


def test_html_on_standard_output(call: Run, plane: Plane, tmp_path: Path) -> None:
    url = plane.tells(report(number("été")))
    done = call("monitor", "report", "flights", "--html", "-", "--control", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert "été" in done.stdout
    assert not done.stdout.partition("</html>")[2].strip()
    assert not list(tmp_path.iterdir())
    done = call("monitor", "report", "flights", "--html", "-", "--json", "--control", url)
    fails(done, 2, "--html - and --json both write to standard output")


def test_a_reference_of_live_rows_is_said(call: Run, plane: Plane) -> None:
    done = call("monitor", "report", "m", "--control", plane.tells(report(number(), source="live")))
    assert "the reference is live traffic" in done.stdout


def test_names_of_strangers_move_no_cursor(call: Run, plane: Plane) -> None:
    url = plane.tells(report(number("\x1b[2J[red]x"), model="\x1b]0;m\x07", aliases=("\r",)))
    done = call("monitor", "report", "m", "--control", url)
    assert done.returncode == 0
    assert all(one.isprintable() for one in done.stdout.replace("\n", ""))
    assert "\\x1b[2J[red]x" in done.stdout


@pytest.mark.parametrize("verb", ["report", "watch"])
class TestWhatGoesWrong:
    def test_nobody_there(self, call: Run, verb: str) -> None:
        for scheme in ("http", "https"):
            url = f"{scheme}://127.0.0.1:{free_port()}"
            words = f"{url} does not answer ([Errno {errno.ECONNREFUSED}] Connection refused)"
            fails(call("monitor", verb, "flights", "--control", url), 1, words)
        fails(call("monitor", verb, "flights", "--control", "http://[::1"), 1, "http://[::1 does not answer")

    def test_an_unknown_model(self, call: Run, plane: Plane, verb: str) -> None:
        url = plane.refuses(404, "model 'flihgts' is not known")
        fails(call("monitor", verb, "flihgts", "--control", url), 1, "model 'flihgts' is not known")

    def test_the_address_of_the_server_itself(self, call: Run, plane: Plane, verb: str) -> None:
        url = plane.refuses(404, "Not Found")
        fails(call("monitor", verb, "flights", "--control", url), 1, f"{url} has no reports: is --control")

    @pytest.mark.parametrize("since", ["", "soon", "1.5h", "0m", "-1h", "7w"])
    def test_a_span_that_is_none(self, call: Run, verb: str, since: str) -> None:
        done = call("monitor", verb, "flights", "--since", since)
        assert done.returncode == 2
        assert "must be a span such as 90s, 15m, 24h or 7d" in " ".join(done.stderr.replace("│", "").split())

    def test_a_version_that_is_not_watched(self, call: Run, plane: Plane, verb: str) -> None:
        url = plane.refuses(404, "no rows of model 'm' version 2 were watched:\n give\x1b it a profile")
        fails(call("monitor", verb, "m@2", "--control", url), 1, "were watched: give\\x1b it a profile")

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b"{}", b'{"error": 5}', b'{"error": " "}', b"\xff" * 2**17]
    )
    def test_an_error_without_a_reason(self, call: Run, plane: Plane, verb: str, body: bytes) -> None:
        plane.status, plane.body = 502, body
        fails(call("monitor", verb, "m", "--control", plane.url), 1, "answered with status 502 and no reason")

    def test_an_error_that_ends_early(self, call: Run, plane: Plane, verb: str) -> None:
        plane.status, plane.body, plane.headers = 502, b"5\r\nab", {"Transfer-Encoding": "chunked"}
        fails(call("monitor", verb, "m", "--control", plane.url), 1, "answered with status 502 and no reason")

    def test_a_redirect_is_not_followed(self, call: Run, plane: Plane, verb: str) -> None:
        plane.status, plane.headers = 302, {"Location": "file:///etc/passwd"}
        fails(call("monitor", verb, "m", "--control", plane.url), 1, "status 302")
        assert len(plane.asked) == 1

    @pytest.mark.parametrize("body", [b"", b"{}", b"null", b'{"model": 1}', b"\xff", b"[" * 10_000])
    def test_an_answer_that_is_no_report(self, call: Run, plane: Plane, verb: str, body: bytes) -> None:
        plane.body = body
        fails(call("monitor", verb, "m", "--control", plane.url), 1, "no report that this release reads")

    def test_too_much(self, call: Run, plane: Plane, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asking, "MAX_REPORT_BYTES", 100)
        url = plane.tells(report(number()))
        fails(call("monitor", verb, "m", "--control", url), 1, "more than the limit of 100 bytes")

    def test_silence(self, call: Run, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asking, "TIMEOUT_S", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as mute:
            url = f"http://127.0.0.1:{mute.getsockname()[1]}"
            fails(call("monitor", verb, "m", "--control", url), 1, "has not answered within 0.05 s")

    def test_who_speaks_no_http(self, call: Run, verb: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as ssh:

            def greet() -> None:
                with ssh.accept()[0] as one:
                    one.recv(65_536)
                    one.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

            threading.Thread(target=greet).start()
            url = f"http://127.0.0.1:{ssh.getsockname()[1]}"
            fails(call("monitor", verb, "m", "--control", url), 1, f"{url} does not answer (SSH-2.0")

    def test_an_answer_that_ends_early(self, call: Run, plane: Plane, verb: str) -> None:
        plane.headers, plane.body = {"Content-Length": "9999"}, b"{}"
        assert call("monitor", verb, "m", "--control", plane.url).returncode == 1

    @pytest.mark.parametrize("url", ["localhost:8002", "file:///etc/passwd", "http://a b", "ftp://x", ""])
    def test_an_address_that_is_none(self, call: Run, verb: str, url: str) -> None:
        fails(call("monitor", verb, "m", "--control", url), 2, "--control", "http://control:8002")

    def test_no_control_plane_is_configured(self, call: Run, verb: str) -> None:
        done = call("monitor", verb, "m", FASTSERVE_SERVER__CONTROL_PORT="0")
        fails(done, 2, "server.control_port is 0", "--control")

    @pytest.mark.parametrize("name", ["", "@3", "flights@"])
    def test_a_name_that_is_none(self, call: Run, verb: str, name: str) -> None:
        fails(call("monitor", verb, name, "--control", "http://127.0.0.1:9"), 2, "NAME@VERSION")


def test_a_slow_answer_has_an_end(call: Run, plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "WHOLE_S", -1.0)
    url = plane.tells(report(number()))
    fails(call("monitor", "report", "m", "--control", url), 1, "has not answered in full")


@pytest.mark.parametrize("every", ["2", "0s", "-1s", "1h", "100ms", "61m", "2 s", "٢s"])
def test_a_period_that_is_none(call: Run, every: str) -> None:
    fails(call("monitor", "watch", "m", "--every", every), 2, "--every")


def test_watching_without_a_terminal_prints_one_table(call: Run, plane: Plane) -> None:
    done = call("monitor", "watch", "flights", "--control", plane.tells(report(number("wind"))))
    assert (done.returncode, done.stderr) == (0, "")
    assert "wind" in done.stdout
    assert parse_qs(urlsplit(plane.asked[0]).query)["since"] == ["1h"]


def test_watching_in_a_small_terminal(plane: Plane, tmp_path: Path) -> None:
    many = [number(f"a_name_that_{place}_lines_do_not_hold") for place in range(40)]
    url = plane.tells(report(number("wind"), *many))
    leader, follower = pty.openpty()
    command = [
        "env",
        "--default-signal=INT",  # which a shell's background jobs ignore, and so would this one
        sys.executable,
        "-m",
        "fastserve.cli",
        "monitor",
        "watch",
        "m",
        "--every",
        "200ms",
        "--control",
        url,
    ]
    terminal = environment(COLUMNS="60", LINES="20", TERM="xterm")
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, cwd=tmp_path, env=terminal
    ) as process:
        os.close(follower)
        try:
            until(leader, b"wind")
            plane.tells(report(number("rain"), *many))
            until(leader, b"rain")
            plane.refuses(503, "the database is away")
            until(leader, b"the database is away")
            plane.tells(report(number("snow")))
            until(leader, b"snow")
            process.send_signal(signal.SIGINT)
            drain(leader)
            assert process.wait(30) == 0
        finally:
            process.kill()
            os.close(leader)
    assert len(plane.asked) >= 4


def until(terminal: int, word: bytes) -> None:
    """Read what the terminal shows until a word comes."""
    seen, end_s = b"", time.monotonic() + 30
    while word not in seen:
        left_s = max(end_s - time.monotonic(), 0)
        assert select.select([terminal], [], [], left_s)[0], seen
        seen += os.read(terminal, 65_536)


def drain(terminal: int) -> None:
    """Read until nobody writes any more: Linux says so by an error."""
    try:
        while select.select([terminal], [], [], 30)[0] and os.read(terminal, 65_536):
            pass
    except OSError:
        return
