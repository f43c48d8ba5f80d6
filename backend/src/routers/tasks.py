"""`/api/{user_id}/tasks`."""

from typing import Any

from fastapi import APIRouter, Request, Response

from src.dependencies import Engine, Owner, TaskId
from src.routing import JSONRoute
from src.schemas.problem import Problem
from src.schemas.task import Message, TaskCreate, TaskPublic, TaskUpdate
from src.services import task_service

Responses = dict[int | str, dict[str, Any]]


def _problem(description: str) -> dict[str, Any]:
    return {"model": Problem, "description": description}


INVALID: Responses = {
    422: _problem("A value is not what it may be; `errors` names each"),
    503: _problem("The database cannot be reached; `Retry-After` says when to try again"),
}
NOT_FOUND: Responses = {404: _problem("The user has no such task")}
BAD_BODY: Responses = {
    413: _problem("The body is larger than 128 KiB"),
    415: _problem("The body is not declared as JSON"),
}
CREATED: Responses = {
    201: {
        "headers": {
            "Location": {
                "description": "The new task's path",
                "schema": {"type": "string", "format": "uri-reference"},
            }
        }
    }
}

router = APIRouter(
    prefix="/api/{user_id:segment}/tasks",
    tags=["tasks"],
    responses=INVALID,
    route_class=JSONRoute,
)


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


@router.get(
    "", operation_id="listUserTasks", summary="List a user's tasks", response_model=list[TaskPublic]
)
async def list_user_tasks(engine: Engine, user_id: Owner) -> Response:
    """All of the user's tasks, oldest first; an empty array when there are none."""
    return _json(await task_service.list_tasks(engine, user_id))


@router.post(
    "",
    operation_id="createTask",
    summary="Create a task",
    status_code=201,
    response_model=TaskPublic,
    responses=BAD_BODY | CREATED,
)
async def create_task(
    request: Request, engine: Engine, user_id: Owner, task: TaskCreate
) -> Response:
    """`Location` is the new task's path."""
    task_id, content = await task_service.create_task(engine, user_id, task)
    response = _json(content, 201)
    collection = request.scope["raw_path"].decode().rstrip("/")
    response.headers["Location"] = f"{collection}/{task_id}"
    return response


@router.get(
    "/{task_id}",
    operation_id="getTask",
    summary="Get a task",
    response_model=TaskPublic,
    responses=NOT_FOUND,
)
async def get_task(engine: Engine, user_id: Owner, task_id: TaskId) -> Response:
    return _json(await task_service.get_task(engine, user_id, task_id))


@router.put(
    "/{task_id}",
    operation_id="updateTask",
    summary="Update a task",
    response_model=TaskPublic,
    responses=BAD_BODY | NOT_FOUND,
)
async def update_task(
    engine: Engine, user_id: Owner, task_id: TaskId, changes: TaskUpdate
) -> Response:
    """Fields that are absent stay as they are; `"description": null` clears it."""
    return _json(await task_service.update_task(engine, user_id, task_id, changes))


@router.delete(
    "/{task_id}",
    operation_id="deleteTask",
    summary="Delete a task",
    response_model=Message,
    responses=NOT_FOUND,
)
async def delete_task(engine: Engine, user_id: Owner, task_id: TaskId) -> Message:
    await task_service.delete_task(engine, user_id, task_id)
    return Message(message="Task deleted successfully")


@router.patch(
    "/{task_id}/complete",
    operation_id="toggleTaskCompletion",
    summary="Toggle a task's completion",
    response_model=TaskPublic,
    responses=NOT_FOUND,
)
async def toggle_task_completion(engine: Engine, user_id: Owner, task_id: TaskId) -> Response:
    """Open tasks become completed and completed ones open; needs no body."""
    return _json(await task_service.toggle_task(engine, user_id, task_id))
