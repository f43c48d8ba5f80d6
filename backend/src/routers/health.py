"""Probes: is the process alive, is the service ready."""

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from src.dependencies import Engine
from src.exceptions import Stopping
from src.problems import UNAVAILABLE, documented
from src.routing import JSONRoute
from src.schemas.task import Message
from src.services import health_service

router = APIRouter(prefix="/health", tags=["health"], route_class=JSONRoute)


@router.get(
    "/live", operation_id="isAlive", summary="Is the process alive?", response_model=Message
)
async def live() -> Response:
    """Asks nothing of the database, so that probing does not keep a serverless one awake."""
    return JSONResponse({"message": "alive"})


@router.get(
    "/ready",
    operation_id="isReady",
    summary="Does the database answer, and will the service stay?",
    response_model=Message,
    responses=documented(503, "The database cannot be reached", UNAVAILABLE),
)
async def ready(request: Request, engine: Engine) -> Response:
    if request.app.stopping.is_set():
        raise Stopping
    await health_service.check(engine)
    return JSONResponse({"message": "ready"})
