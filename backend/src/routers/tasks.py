"""`/api/{user_id}/tasks`."""

from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import APIRouter, Body, Query, Request, Response, Security
from pydantic_core import from_json, to_json

from src.contract import example, headers
from src.dependencies import (
    Engine,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    Owner,
    TaskId,
    own_token,
)
from src.problems import (
    BROKEN_PATH,
    NOT_ALLOWED,
    NOT_AUTHENTICATED,
    PATCH_TYPES,
    TASK_CHANGED,
    TASK_NOT_FOUND,
    TOO_LARGE,
    UNAVAILABLE,
    UNEXPECTED,
    WRONG_MEDIA_TYPE,
    Responses,
    documented,
)
from src.responses import JSONArray, JSONBytes, strong_etags, task_response, unless_known
from src.routing import JSONRoute
from src.schemas.task import Completion, Message, TaskCreate, TaskListing, TaskPublic, TaskUpdate
from src.services import task_service

NOTHING: Completion = {}

# RFC 3986 §3.3; a parser of HTTP lets more through, such as the > that would end a Link.
_IN_A_PATH = "%/:@!$&'()*+,;=~"


def merge_patch(schema: str) -> dict[str, Any]:
    """Describe a body that may be declared in two ways."""
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"requestBody": {"content": dict.fromkeys(PATCH_TYPES, content)}}


ANY = (
    documented(400, "The path or the query cannot be read", BROKEN_PATH)
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
        headers=headers("WWW-Authenticate"),
    )
    | documented(403, "The token is another user's", NOT_ALLOWED)
    | documented(500, "A fault of the service", UNEXPECTED)
    | documented(
        503,
        "The database cannot be reached, or the keys of tokens cannot",
        UNAVAILABLE,
        headers=headers("Retry-After"),
    )
)
NOT_CREATED = documented(
    422,
    "A value is not what it may be, or the key was used for another task; `errors` names each",
    "title: must have 1 to 500 characters",
    errors=[
        {
            "loc": ["body", "title"],
            "msg": "must have 1 to 500 characters",
            "type": "string_length",
        }
    ],
)
NOT_FOUND = documented(404, "The user has no such task", TASK_NOT_FOUND)
CHANGED = documented(412, "The task has none of the ETags in If-Match", TASK_CHANGED)
BODY = documented(413, "The body is too large", TOO_LARGE) | documented(
    415, "The body is not declared as JSON", WRONG_MEDIA_TYPE
)
PATCH_BODY = BODY | documented(
    415,
    "The body is declared as neither of the two",
    WRONG_MEDIA_TYPE,
    headers=headers("Accept-Patch"),
)
TASK: Responses = {200: {"headers": headers("Cache-Control", "ETag")}}
DELETED = {"message": "Task deleted successfully"}


def or_not_modified(response: dict[str, Any]) -> Responses:
    return {200: response, 304: response | {"description": "The client has it already"}}


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
    responses=or_not_modified({"headers": headers("Cache-Control", "ETag", "Link")}),
)
async def list_user_tasks(
    request: Request,
    engine: Engine,
    user_id: Owner,
    listing: Annotated[TaskListing, Query()],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """All of the user's tasks, oldest first, or as the parameters say; an empty array for none."""
    tasks, cursor = await task_service.list_tasks(engine, user_id, listing)
    links = [(b"link", next_page(request, cursor))] if cursor is not None else []
    response = unless_known(JSONArray(tasks, links), if_none_match)
    if response.status_code == 304:
        tasks.close()
    return response


@router.post(
    "",
    operation_id="createTask",
    response_description="The new task",
    summary="Create a task",
    status_code=201,
    response_model=TaskPublic,
    responses=BODY | NOT_CREATED | {201: {"headers": headers("Cache-Control", "ETag", "Location")}},
)
async def create_task(
    request: Request,
    engine: Engine,
    user_id: Owner,
    task: TaskCreate,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """`Location` is the new task's path. With an `Idempotency-Key` it can be sent again."""
    content = await task_service.create_task(engine, user_id, task, idempotency_key)
    return task_response(content, 201, [(b"location", path_of(request, content))])


@router.get(
    "/{task_id}",
    operation_id="getTask",
    response_description="The task",
    summary="Get a task",
    response_model=TaskPublic,
    responses=NOT_FOUND | or_not_modified(TASK[200]),
)
async def get_task(
    engine: Engine, user_id: Owner, task_id: TaskId, if_none_match: IfNoneMatch = None
) -> Response:
    task = await task_service.get_task(engine, user_id, task_id)
    return unless_known(task_response(task), if_none_match)


@router.put(
    "/{task_id}",
    operation_id="updateTask",
    response_description="The task as it is now",
    summary="Update a task",
    response_model=TaskPublic,
    responses=BODY | NOT_FOUND | CHANGED | {200: {"headers": headers("Cache-Control")}},
)
async def update_task(
    engine: Engine,
    user_id: Owner,
    task_id: TaskId,
    changes: TaskUpdate,
    if_match: IfMatch = None,
) -> Response:
    """Fields that are absent stay as they are; `"description": null` clears it.

    The answer has no ETag, because what was sent is not what is kept (RFC 9110 §9.3.4).
    """
    etags = strong_etags(if_match)
    return JSONBytes(await task_service.update_task(engine, user_id, task_id, changes, etags))


@router.patch(
    "/{task_id}",
    operation_id="patchTask",
    response_description="The task as it is now",
    summary="Patch a task",
    response_model=TaskPublic,
    responses=PATCH_BODY | NOT_FOUND | CHANGED | TASK,
    openapi_extra=merge_patch("TaskUpdate"),
)
async def patch_task(
    engine: Engine,
    user_id: Owner,
    task_id: TaskId,
    changes: TaskUpdate,
    if_match: IfMatch = None,
) -> Response:
    """A merge patch (RFC 7396): fields that are absent stay as they are, `null` clears."""
    etags = strong_etags(if_match)
    return task_response(await task_service.update_task(engine, user_id, task_id, changes, etags))


@router.delete(
    "/{task_id}",
    operation_id="deleteTask",
    response_description="The task is gone",
    summary="Delete a task",
    response_model=Message,
    responses=NOT_FOUND
    | CHANGED
    | {200: {"headers": headers("Cache-Control"), "content": example(DELETED)}},
)
async def delete_task(
    engine: Engine, user_id: Owner, task_id: TaskId, if_match: IfMatch = None
) -> Response:
    await task_service.delete_task(engine, user_id, task_id, strong_etags(if_match))
    return JSONBytes(to_json(DELETED))


@router.patch(
    "/{task_id}/complete",
    operation_id="toggleTaskCompletion",
    response_description="The task as it is now",
    summary="Toggle or set a task's completion",
    response_model=TaskPublic,
    responses=PATCH_BODY | NOT_FOUND | CHANGED | TASK,
    openapi_extra=merge_patch("Completion"),
)
async def toggle_task_completion(
    engine: Engine,
    user_id: Owner,
    task_id: TaskId,
    completion: Annotated[Completion, Body()] = NOTHING,
    if_match: IfMatch = None,
) -> Response:
    """Without a body, open tasks become completed and completed ones open.

    With `{"completed": true}` or `false` it is set, and the request can be sent again.
    """
    etags = strong_etags(if_match)
    if completion:
        task = await task_service.update_task(engine, user_id, task_id, completion, etags)
    else:
        task = await task_service.toggle_task(engine, user_id, task_id, etags)
    return task_response(task)


def path_of(request: Request, task: bytes) -> bytes:
    collection = request.scope["raw_path"].decode().rstrip("/")
    return f"{collection}/{from_json(task)['id']}".encode()


def next_page(request: Request, cursor: str) -> bytes:
    """Point to the same list after the cursor: RFC 8288."""
    query = parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True)
    query = [(name, value) for name, value in query if name != "cursor"] + [("cursor", cursor)]
    path = quote(request.scope["raw_path"], safe=_IN_A_PATH)
    return f'<{path}?{urlencode(query)}>; rel="next"'.encode()
