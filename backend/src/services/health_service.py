"""Whether the database answers."""

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import func, select

from src.database.engine import compiled, fetch

PING = compiled(select(func.now()))


async def check(engine: AsyncEngine) -> None:
    """Raises DatabaseUnavailable."""
    await fetch(engine, PING)
