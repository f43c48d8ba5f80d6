"""What the routers' signatures are made of."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from src.schemas.task import UserId


async def get_engine(request: Request) -> AsyncEngine:
    engine: AsyncEngine = request.app.state.engine
    return engine


Engine = Annotated[AsyncEngine, Depends(get_engine)]
Owner = Annotated[UserId, Path()]
TaskId = Annotated[UUID, Path()]
