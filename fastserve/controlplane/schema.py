"""Brings a database's tables to what this release uses, when the control plane starts."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from fastserve import __version__
from fastserve.controlplane.database import Database
from fastserve.controlplane.migrations.env import VERSION_TABLE
from fastserve.errors import ConfigError

_MIGRATIONS = Path(__file__).with_name("migrations")


def prepare(database: Database) -> None:
    """Make or upgrade the tables; processes that start at once wait for one another.

    Raises
    ------
    ConfigError
        A newer release wrote this database.
    StoreUnavailable
    """
    with database.writing() as connection:
        config = configuration(connection)
        _refuse_newer(connection, ScriptDirectory.from_config(config))
        command.upgrade(config, "head")


def configuration(connection: Connection) -> Config:
    """Give alembic's settings for working on an open connection."""
    config = Config()
    # Alembic reads '%' as the start of an interpolation.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _refuse_newer(connection: Connection, scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    newer = [head for head in context.get_current_heads() if head not in known]
    if newer:
        raise ConfigError(
            f"control.database has schema {newer[0][:32]}, which fastserve {__version__} does not know: "
            "run the newer release that wrote it, or give another database"
        )
