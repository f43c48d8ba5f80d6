"""`/api/{user_id}/tasks`."""

from fastapi import APIRouter, Request, Response, Security

from src.dependencies import Engine, Owner, TaskId, own_token
from src.problems import (
    BROKEN_PATH,
    NOT_ALLOWED,
    NOT_AUTHENTICATED,
    TASK_NOT_FOUND,
    TOO_LARGE,
    UNAVAILABLE,
    UNEXPECTED,
    WRONG_MEDIA_TYPE,
    Responses,
    documented,
)
from src.routing import JSONArray, JSONBytes, JSONRoute
from src.schemas.task import Message, TaskCreate, TaskPublic, TaskUpdate
from src.services import task_service

ANY = (
    documented(400, "The path cannot be read", BROKEN_PATH)
    | documented(
        422,
        "A value is not what it may be; `errors` names each",
        "user_id: must have 1 to 255 characters",
        errors=[
            {
                "loc": ["path", "user_id"],
                "msg": "must have 1 to 255 characters",
                "type": "string_length",
            }
        ],
    )
    | documented(
        401,
        "There is no token, or a bad one",
        NOT_AUTHENTICATED,
        headers={
            "WWW-Authenticate": {
                "description": "What to send, and what is wrong with what was sent",
                "schema": {"type": "string"},
            }
        },
    )
    | documented(403, "The token is another user's", NOT_ALLOWED)
    | documented(500, "A fault of the service", UNEXPECTED)
    | documented(
        503,
        "The database cannot be reached",
        UNAVAILABLE,
        headers={
            "Retry-After": {
                "description": "Seconds after which to try again",
                "schema": {"type": "integer"},
            }
        },
    )
)
NOT_FOUND = documented(404, "The user has no such task", TASK_NOT_FOUND)
BODY = documented(413, "The body is too large", TOO_LARGE) | documented(
    415, "The body is not declared as JSON", WRONG_MEDIA_TYPE
)
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
    dependencies=[Security(own_token)],
    responses=ANY,
    route_class=JSONRoute,
)


@router.get(
    "",
    operation_id="listUserTasks",
    response_description="The tasks",
    summary="List a user's tasks",
    response_model=list[TaskPublic],
)
async def list_user_tasks(engine: Engine, user_id: Owner) -> Response:
    """All of the user's tasks, oldest first; an empty array when there are none."""
    return JSONArray(await task_service.list_tasks(engine, user_id))


@router.post(
    "",
    operation_id="createTask",
    response_description="The new task",
    summary="Create a task",
    status_code=201,
    response_model=TaskPublic,
    responses=BODY | CREATED,
)
async def create_task(
    request: Request, engine: Engine, user_id: Owner, task: TaskCreate
) -> Response:
    """`Location` is the new task's path."""
    task_id, content = await task_service.create_task(engine, user_id, task)
    collection = request.scope["raw_path"].decode().rstrip("/")
    return JSONBytes(content, status=201, location=f"{collection}/{task_id}")


@router.get(
    "/{task_id}",
    operation_id="getTask",
    response_description="The task",
    summary="Get a task",
    response_model=TaskPublic,
    responses=NOT_FOUND,
)
async def get_task(engine: Engine, user_id: Owner, task_id: TaskId) -> Response:
    return JSONBytes(await task_service.get_task(engine, user_id, task_id))


@router.put(
    "/{task_id}",
    operation_id="updateTask",
    response_description="The task as it is now",
    summary="Update a task",
    response_model=TaskPublic,
    responses=BODY | NOT_FOUND,
)
async def update_task(
    engine: Engine, user_id: Owner, task_id: TaskId, changes: TaskUpdate
) -> Response:
    """Fields that are absent stay as they are; `"description": null` clears it."""
    return JSONBytes(await task_service.update_task(engine, user_id, task_id, changes))


@router.delete(
    "/{task_id}",
    operation_id="deleteTask",
    response_description="The task is gone",
    summary="Delete a task",
    response_model=Message,
    responses=NOT_FOUND,
)
async def delete_task(engine: Engine, user_id: Owner, task_id: TaskId) -> Response:
    await task_service.delete_task(engine, user_id, task_id)
    return JSONBytes(b'{"message":"Task deleted successfully"}')


@router.patch(
    "/{task_id}/complete",
    operation_id="toggleTaskCompletion",
    response_description="The task as it is now",
    summary="Toggle a task's completion",
    response_model=TaskPublic,
    responses=NOT_FOUND,
)
async def toggle_task_completion(engine: Engine, user_id: Owner, task_id: TaskId) -> Response:
    """Open tasks become completed and completed ones open; needs no body."""
    return JSONBytes(await task_service.toggle_task(engine, user_id, task_id))
