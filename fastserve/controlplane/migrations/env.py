"""Run by alembic for every command: works on the connection that `schema` hands it."""

from alembic import context

from fastserve.controlplane.tables import metadata

VERSION_TABLE = "fastserve_schema"
"""Not alembic's own name: the database may hold another application's tables."""


def run() -> None:
    """Run the migrations inside the transaction that the connection is in."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, version_table=VERSION_TABLE)
    with context.begin_transaction():
        context.run_migrations()


# Alembic loads this file under a name of its own; as a module of the package it only defines.
if __name__ == "env_py":
    run()
