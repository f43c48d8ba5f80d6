"""Alembic runs this, on the connection and in the transaction that `upgrade` opened."""

from alembic import context

from src.migrations.checks import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    version_table_schema=context.config.attributes.get("schema"),
)
context.run_migrations()
