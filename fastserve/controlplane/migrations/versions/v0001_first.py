"""The first tables: profiles, sources, windows, totals, workers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "profiles",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("profiles_of_version", "profiles", ["model", "version"])
    op.create_table(
        "sources",
        sa.Column("incarnation", sa.String(32), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("worker", sa.BigInteger, nullable=False),
        sa.Column("last_number", sa.BigInteger, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
    )
    _windows()
    op.create_table(
        "totals",
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "workers",
        sa.Column("host", sa.String(255), primary_key=True),
        sa.Column("worker", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("incarnation", sa.String(32), nullable=False),
        sa.Column("cpu_before_s", sa.Float, nullable=False),
        sa.Column("cpu_s", sa.Float, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
    )


def _windows() -> None:
    op.create_table(
        "windows",
        sa.Column("model", sa.String(255), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("profile", sa.String(64), primary_key=True),
        sa.Column("level", sa.String(8), primary_key=True),
        sa.Column("start_ms", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("end_ms", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("rolled", sa.Boolean, nullable=False),
    )
    op.create_index("windows_by_age", "windows", ["level", "start_ms"])


def downgrade() -> None:
    """Drop them."""
    for table in ("workers", "totals", "windows", "sources", "profiles"):
        op.drop_table(table)
