"""Write a migration from the models: `make migration NAME=notes`."""

import asyncio
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from alembic import command
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, TypeDecorator
from sqlmodel import AutoString, SQLModel
from sqlmodel.sql.sqltypes import UTCDateTime

from src.framework.sql.embedded import embedded_server
from src.framework.sql.engine import create_engine
from src.migrations import HEAD, MODELS, VERSIONS

TEMPLATE = '''"""{title}."""

import sqlalchemy as sa
from alembic import op
{imports}
revision = "{revision}"
down_revision = "{head}"


def upgrade() -> None:
    {body}
'''


def write(connection: Connection, name: str) -> Path:
    """Create the tables in an empty database, and write a migration for what the tables lack."""
    config = Config(attributes={"connection": connection, "schema": "public"})
    config.set_main_option("script_location", str(VERSIONS.parent))
    command.upgrade(config, "head")
    tables = {model.__tablename__ for model in MODELS}
    options = {"include_name": lambda table, kind, _: kind != "table" or table in tables}
    context = MigrationContext.configure(connection, opts=options)
    changes = produce_migrations(context, SQLModel.metadata).upgrade_ops
    if changes is None or changes.is_empty():
        sys.exit("The migrations make the models' tables already.")
    body = render_python_code(changes, render_item=written, migration_context=context)
    imports = "from sqlalchemy.dialects import postgresql\n" if "postgresql." in body else ""
    revision = f"{int(HEAD[:4]) + 1:04}_{name}"
    path = VERSIONS / f"{revision}.py"
    title = name.replace("_", " ").capitalize()
    body = "\n".join(line for line in body.splitlines() if not line.strip().startswith("#"))
    path.write_text(
        TEMPLATE.format(
            title=title, imports=imports, revision=revision, head=HEAD, body=body.strip()
        )
    )
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", path], check=True)
    return path


def written(_kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write SQLModel's types as types of SQLAlchemy."""
    if isinstance(item, TypeDecorator):
        arguments = {
            AutoString: f"{getattr(item.impl, 'length', '')}",
            UTCDateTime: "timezone=True",
        }
        return f"sa.{type(item.impl).__name__}({arguments[type(item)]})"
    return False


async def main(name: str) -> None:
    with TemporaryDirectory() as folder, embedded_server(Path(folder) / "data") as url:
        engine = create_engine(url, pool_size=1)
        async with engine.connect() as connection:
            path = await connection.run_sync(write, name)
        await engine.dispose()
    print(f"Look through {path}, and run `make test`.")


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].isidentifier():
        sys.exit("Name it: make migration NAME=notes")
    asyncio.run(main(sys.argv[1]))
