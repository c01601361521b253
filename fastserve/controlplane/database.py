"""Opens the control plane's database: SQLite in a file of its own, or PostgreSQL."""

import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fastserve.controlplane.errors import StoreUnavailable
from fastserve.errors import ConfigError

_SQLITE = b"SQLite format 3\0"
_HOW = "use sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
_LOCK = 0x66617374_73657276
"""Of PostgreSQL's advisory locks: the control plane that writes holds it as long as its connection lives."""
_LOCK_WAIT = "1s"
_LOCK_NOT_AVAILABLE = "55P03"
_UNDEFINED_TABLE = "42P01"
_SESSION = (
    "SET lock_timeout = '5s'; SET statement_timeout = '30s'; "
    # Of a machine that is gone the lock is free after half a minute.
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
)
_NO_FILE = (-1, -1)
_WAL_LIMIT_BYTES = 16 * 2**20


class Database:
    """One database; reading and writing transactions on it. Safe from any thread.

    Parameters
    ----------
    writer
        PostgreSQL's for writing: its one connection keeps others from it. None for SQLite, see `only_one`.
    """

    def __init__(self, engine: Engine, writer: Engine | None = None) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self.tenure = 0
        """Rises when this process becomes the only one that writes; until then others may have written."""
        self._file = Path(str(engine.url.database)) if self.is_sqlite else None
        self._identity = self._look()
        self._wal: tuple[int, int] | None = None
        """SQLite's log (-wal) of the file in use."""
        self.writer = writer or engine
        self._writing_engine = self.writer.execution_options(fastserve_write=True)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give the only transaction that writes now, of all processes; committed at its end.

        Raises
        ------
        StoreUnavailable
            The database is locked, full or gone, or another control plane's; nothing of the transaction is
            kept, unless the connection broke in the very commit.
        """
        with _guarded(), self._writing_engine.begin() as connection:
            if not self.is_sqlite and "fastserve_alone" not in connection.info:
                self._keep_others_out(connection)
            yield connection
        self._wal = self._look("-wal")

    def renew(self) -> bool:
        """Start another SQLite file where the one in use was taken away: what goes there nobody would find.

        Of another database that lies there, such as a backup, the log of the old one would make a ruin.

        Raises
        ------
        StoreUnavailable
            None can be made.
        """
        if self._file is None or not self._is_replaced():
            return False
        self.engine.dispose()
        self._identity = _NO_FILE  # whatever fails now: another file may get the old one's number
        try:
            if self._wal is not None and self._look("-wal") == self._wal:
                for ending in ("-wal", "-shm"):
                    Path(f"{self._file}{ending}").unlink(missing_ok=True)
            self._wal = None
            _make_private(self._file)
        except (ConfigError, OSError) as error:
            raise StoreUnavailable(str(error)) from error
        self._identity = self._look()
        self.tenure += 1
        return True

    def _is_replaced(self) -> bool:
        return self._look() != self._identity

    def _look(self, ending: str = "") -> tuple[int, int] | None:
        """Tell which file lies at SQLite's place, or beside it."""
        try:
            found = os.stat(f"{self._file}{ending}") if self._file is not None else None  # noqa: PTH116 - each second
        except OSError:
            return None
        return None if found is None else (found.st_dev, found.st_ino)

    def _keep_others_out(self, connection: Connection) -> None:
        """Take the lock that ends with the connection, whatever becomes of the transaction."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
        try:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise StoreUnavailable("another control plane works on it") from error
        connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        connection.info["fastserve_alone"] = True
        self.tenure += 1

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a transaction that sees one state of the database; StoreUnavailable when there is none."""
        if self._is_replaced():  # a new connection would lay the log of the old file over what lies there
            raise StoreUnavailable("its file was taken away or replaced a moment ago")
        with _guarded(), self.engine.connect() as connection:
            yield connection

    def shrink(self, pages: int) -> None:
        """Give so many free pages of SQLite's file back to the file system; StoreUnavailable.

        PostgreSQL does so itself.
        """
        if not self.is_sqlite:
            return
        with self.reading() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            try:
                # `execute` would take one step of it only, and free one page.
                driver.executescript(f"PRAGMA incremental_vacuum({pages})")
            except sqlite3.Error as error:
                raise StoreUnavailable(str(error)) from error

    def close(self) -> None:
        """Close all connections."""
        self.writer.dispose()
        self.engine.dispose()


@contextmanager
def only_one(url: str) -> Iterator[None]:
    """Keep a SQLite file for this process alone: each control plane shows the totals that it has counted.

    The lock goes with the process, however it ends.

    Raises
    ------
    ConfigError
        Another control plane works on the file, or its place cannot be written to.
    """
    parts = check_url(url)
    if parts.get_backend_name() != "sqlite":
        yield
        return
    file = Path(str(parts.database))
    try:
        lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not file.parent.is_dir():
            raise ConfigError(f"control.database: there is no directory '{file.parent}'") from error
        raise ConfigError(f"'{file}.lock' cannot be made: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another control plane works on '{file}': give this one another "
                "control.database, or send to the other one by monitoring.control_url"
            ) from error
        yield
    finally:
        os.close(lock)


def open_database(url: str, busy_timeout_s: float = 5.0) -> Database:
    """Prepare a database for use; SQLite's file is made, PostgreSQL is not yet connected to.

    Parameters
    ----------
    url
        As SQLAlchemy writes it. No message shows it, since it may hold a password.
    busy_timeout_s
        How long SQLite waits for another process that writes.

    Raises
    ------
    ConfigError
        Another kind of database; no driver; a file that cannot be made.
    """
    parsed = check_url(url)
    if parsed.get_backend_name() == "sqlite":
        return Database(_sqlite(parsed, busy_timeout_s))
    parsed = parsed.set(drivername="postgresql+psycopg")
    readers = _postgresql(parsed, isolation_level="REPEATABLE READ")
    return Database(readers, _postgresql(parsed, pool_size=1, max_overflow=0))


def check_url(url: str) -> URL:
    """Take a URL apart that may be right; ConfigError for one that never can be."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError(f"control.database is not a database URL; {_HOW}") from None
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg"):
        raise ConfigError(f"control.database: '{parsed.drivername[:64]}' is not supported; {_HOW}")
    if parsed.drivername.startswith("sqlite"):
        if not parsed.database or parsed.database == ":memory:" or parsed.query or parsed.host:
            raise ConfigError("control.database: SQLite needs a file and nothing else, sqlite:///FILE")
        _check_sqlite(Path(parsed.database))
    elif "@" in f"{parsed.host}{parsed.database}":  # parts of a password, which errors would show
        raise ConfigError("control.database: '@', '/' and ':' in a password are written %40, %2F and %3A")
    return parsed


def _check_sqlite(path: Path) -> None:
    """Refuse a file of another kind, which would never become a database."""
    head = b""
    with suppress(OSError):  # what cannot be read now may be later: then it is SQLite's to say
        if path.is_file():
            with path.open("rb") as reader:
                head = reader.read(len(_SQLITE))
    if head and head != _SQLITE:
        raise ConfigError(
            f"control.database: '{path}' is no SQLite database; give a file that is not there yet"
        )


def _sqlite(url: URL, busy_timeout_s: float) -> Engine:
    _make_private(Path(str(url.database)))
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=True)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # no transactions but those that are asked for
        for pragma in (
            f"busy_timeout={int(busy_timeout_s * 1_000)}",
            "auto_vacuum=INCREMENTAL",  # before the first page is written, which WAL does
            "journal_mode=WAL",
            "synchronous=FULL",  # what was acknowledged survives a power cut
            f"journal_size_limit={_WAL_LIMIT_BYTES}",
            "foreign_keys=ON",
        ):
            _execute_patiently(connection, f"PRAGMA {pragma}", busy_timeout_s)

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("fastserve_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _execute_patiently(connection: sqlite3.Connection, statement: str, limit_s: float) -> None:
    """Try again while another process changes the journal's mode, for which SQLite itself does not wait."""
    give_up_s = time.monotonic() + limit_s
    while True:
        try:
            connection.execute(statement).fetchall()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_s:
                raise
            time.sleep(0.01)


def _make_private(path: Path) -> None:
    """Make the file readable by its owner only; SQLite gives its journals the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(f"control.database: {path} is not a regular file")
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(
            f"control.database: {path} cannot be made or opened: {error.strerror or error}"
        ) from error


def _postgresql(url: URL, **settings: Any) -> Engine:
    given = dict(url.query)
    defaults = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "application_name": "fastserve control",
    }
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            **settings,
            connect_args={name: value for name, value in defaults.items() if name not in given},
        )
    except ImportError:
        raise ConfigError(
            "control.database is PostgreSQL, whose driver is not installed: pip install 'fastserve[postgres]'"
        ) from None
    except SQLAlchemyError:
        raise ConfigError(f"control.database is not a URL of PostgreSQL; {_HOW}") from None

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: Any) -> None:
        connection.execute(_SESSION)
        connection.commit()

    return engine


@contextmanager
def _guarded() -> Iterator[None]:
    """Turn every failure of the database into StoreUnavailable."""
    try:
        yield
    except DBAPIError as error:
        lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        gone = getattr(error.orig, "sqlstate", None) == _UNDEFINED_TABLE
        raise StoreUnavailable(lines[0][:300], has_no_tables=gone) from error
    except PoolTimeout as error:
        raise StoreUnavailable("all its connections are in use") from error
