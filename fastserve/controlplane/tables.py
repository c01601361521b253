"""The tables of the control plane's database as the code uses them; `migrations` makes them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

profiles = Table(
    "profiles",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("model", String(255), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Index("profiles_of_version", "model", "version"),
)
"""References, zlib-compressed, by the sha256 of their content; of the version that named them first."""

sources = Table(
    "sources",
    metadata,
    Column("incarnation", String(32), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("worker", BigInteger, nullable=False),
    Column("last_number", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)
"""How far each worker's process has been counted."""

windows = Table(
    "windows",
    metadata,
    Column("model", String(255), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("profile", String(64), primary_key=True),
    Column("level", String(8), primary_key=True),
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("end_ms", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
    Column("rolled", Boolean, nullable=False),
    Index("windows_by_age", "level", "start_ms"),
)
"""Counts of one span. `profile` is a digest, or empty for rows without a reference.

`rolled`: the window above holds these rows too; of a window by count: it is closed.
"""

totals = Table(
    "totals",
    metadata,
    Column("model", String(255), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("content", Text, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
)
"""`fleet.VersionTotals` as JSON."""

workers = Table(
    "workers",
    metadata,
    Column("host", String(255), primary_key=True),
    Column("worker", BigInteger, primary_key=True, autoincrement=False),
    Column("incarnation", String(32), nullable=False),
    Column("cpu_before_s", Float, nullable=False),
    Column("cpu_s", Float, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)
"""A worker's place: which process holds it, and what those before it used of the processor."""
