"""Alembic runs this, on the connection and in the transaction that `upgrade` opened."""

from alembic import context
from sqlmodel import SQLModel

from src.migrations.checks import VERSION_TABLE
from src.models.idempotency_key import IdempotencyKey
from src.models.task import Task

assert {Task.metadata, IdempotencyKey.metadata} == {SQLModel.metadata}  # noqa: S101 - known by import

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    version_table=VERSION_TABLE,
    version_table_schema=context.config.attributes.get("schema"),
)
context.run_migrations()
