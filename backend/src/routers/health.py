"""Probes: is the process alive, is the service ready."""

from fastapi import APIRouter

from src.database import ping
from src.dependencies import Engine
from src.problems import UNAVAILABLE, documented
from src.schemas.task import Message

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", operation_id="isAlive", summary="Is the process alive?")
async def live() -> Message:
    """Asks nothing of the database, so that probing does not keep a serverless one awake."""
    return Message(message="alive")


@router.get(
    "/ready",
    operation_id="isReady",
    summary="Does the database answer?",
    responses=documented(503, "The database cannot be reached", UNAVAILABLE),
)
async def ready(engine: Engine) -> Message:
    await ping(engine)
    return Message(message="ready")
