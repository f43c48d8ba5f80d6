"""What the routers' signatures are made of."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPBearer
from sqlalchemy.ext.asyncio import AsyncEngine

from src.exceptions import NotAllowed
from src.schemas.task import UserId


class OwnToken(HTTPBearer):
    """Lets a request through when its token is of the user in its path.

    Raises NotAuthenticated, NotAllowed, KeysUnavailable.
    """

    async def __call__(self, request: HTTPConnection) -> None:
        tokens = request.app.tokens
        if tokens is not None:
            user = await tokens.user_of(request.scope["headers"])
            if user != request.path_params["user_id"]:
                raise NotAllowed


own_token = OwnToken(bearerFormat="JWT", scheme_name="token", description="Of the user in the path")


async def get_engine(request: Request) -> AsyncEngine:
    engine: AsyncEngine = request.app.state.engine
    return engine


Engine = Annotated[AsyncEngine, Depends(get_engine)]
Owner = Annotated[UserId, Path()]
TaskId = Annotated[UUID, Path()]
