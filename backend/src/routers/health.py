"""Probes: is the process alive, is the service ready."""

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from src.dependencies import Engine
from src.framework.sql.engine import ping
from src.framework.web.contract import example, headers
from src.framework.web.problems import STOPPING, UNEXPECTED, documented, unavailable
from src.framework.web.routing import StrictRoute
from src.routers.problems import UNAVAILABLE
from src.schemas.fields import Message

ALIVE = {"message": "alive"}
READY = {"message": "ready"}

router = APIRouter(
    prefix="/health",
    tags=["health"],
    responses=documented(500, "An unexpected error", UNEXPECTED),
    route_class=StrictRoute,
)


@router.get(
    "/live",
    response_description="The process is alive",
    summary="Is the process alive?",
    response_model=Message,
    responses={200: {"content": example(ALIVE)}},
)
async def is_alive() -> Response:
    """Say that the process is alive, without asking the database, which may sleep."""
    return JSONResponse(ALIVE)


@router.get(
    "/ready",
    response_description="The service is ready",
    summary="Is the service ready?",
    response_model=Message,
    responses=documented(
        503,
        "The database cannot be reached, or the service is about to stop",
        UNAVAILABLE,
        headers=headers("Retry-After"),
    )
    | {200: {"content": example(READY)}},
)
async def is_ready(request: Request, engine: Engine) -> Response:
    """Say whether the database answers and the service is not about to stop."""
    if request.app.stopping.is_set():
        return unavailable(STOPPING)
    await ping(engine)
    return JSONResponse(READY)
