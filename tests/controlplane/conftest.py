"""Real databases: SQLite in a file, and a PostgreSQL cluster that lives as long as the tests."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import create_engine, text

from fastserve.controlplane.database import Database, open_database
from fastserve.controlplane.options import ControlOptions
from fastserve.controlplane.profiles import Profiles
from fastserve.controlplane.store import Store
from fastserve.controlplane.tables import metadata
from tests.controlplane.snapshots import Clock


class Cluster:
    """A throw-away PostgreSQL, on a Unix socket only."""

    def __init__(self, binaries: Path, folder: Path, account: str | None) -> None:
        self._binaries = binaries
        self.folder = folder
        self._account = account
        self._made = 0
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8")
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c max_connections=40"
        self._run("pg_ctl", "-D", self._data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def new_database(self) -> str:
        """Make an empty database; its URL."""
        self._made += 1
        engine = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE test{self._made}"))
        engine.dispose()
        return self.url(f"test{self._made}")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tester@/{database}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            as_account(self._account, self._binaries / program, *arguments),
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()


def as_account(account: str | None, *command: Path | str) -> list[Path | str]:
    """The command as another user runs it; as this one for None."""
    return [*command] if account is None else ["runuser", "-u", account, "--", *command]


def _binaries() -> Path:
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
            return folder
    pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")


def _account() -> str | None:
    """Whom to be instead of root, which PostgreSQL refuses to run as."""
    if os.geteuid() != 0:
        return None
    if shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    pytest.skip("PostgreSQL does not run as root, and there is no other account")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    binaries, account = _binaries(), _account()
    # Not below pytest's own folder, which only root may enter; and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="fs-pg-"))
    if account is not None:
        shutil.chown(folder, account)
    stop = as_account(account, binaries / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    # Its input ends with this process, even one that is killed: nothing is left behind.
    undertaker = subprocess.Popen(
        ["sh", "-c", 'read _; "$@"; rm -rf "$0"', folder, *stop],
        cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield Cluster(binaries, folder, account)
    finally:
        undertaker.communicate()


@pytest.fixture(scope="session")
def shared_url(cluster: Cluster) -> str:
    """A database of PostgreSQL that the tests use one after the other."""
    return cluster.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    running: Cluster = request.getfixturevalue("cluster")
    return running.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind without any row."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    url: str = request.getfixturevalue("shared_url")
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in sqlalchemy.inspect(connection).get_table_names():
            if table in metadata.tables:
                connection.execute(text(f"TRUNCATE {table}"))
    engine.dispose()
    return url


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url, busy_timeout_s=0.2)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Store:
    made = Store(database, ControlOptions(count_window_rows=100), Profiles(), clock)
    made.prepare()
    return made


@pytest.fixture
def open_store(tmp_path: Path, clock: Clock) -> Iterator[Callable[[ControlOptions], Store]]:
    """Open a store over SQLite with options of a test's own."""
    opened: list[Database] = []

    def open_one(options: ControlOptions) -> Store:
        database = open_database(f"sqlite:///{tmp_path / 'one.db'}", busy_timeout_s=0.2)
        opened.append(database)
        made = Store(database, options, Profiles(), clock)
        made.prepare()
        return made

    yield open_one
    for database in opened:
        database.close()
