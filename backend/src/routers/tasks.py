"""`/api/{user_id}/tasks`."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, HTTPException, Query, Request, Response, Security
from pydantic_core import to_json
from starlette.convertors import StringConvertor, register_url_convertor

from src.dependencies import (
    TASK_ID,
    Engine,
    IdempotencyKey,
    IfListMatches,
    IfMatch,
    IfNoneMatch,
    LastEventId,
    LiveChanges,
    Prefer,
    PreferWait,
    TaskId,
    UserInPath,
    own_token,
    seconds_left,
)
from src.framework.auth.exceptions import NotAuthenticated
from src.framework.auth.tokens import EXPIRED
from src.framework.sql.etag import etag
from src.framework.sql.position import encode
from src.framework.web import events
from src.framework.web.conditions import condition, matches
from src.framework.web.contract import example, headers
from src.framework.web.events import EventStream, until_gone
from src.framework.web.links import page_link, path_of, path_of_new
from src.framework.web.preferences import preferences, seconds_to_wait
from src.framework.web.problems import (
    BROKEN_PATH,
    UNEXPECTED,
    WRONG_MEDIA_TYPE,
    Responses,
    documented,
    too_large,
)
from src.framework.web.responses import JSONArray, JSONBytes, conditional, etag_in, tagged
from src.framework.web.routing import StrictRoute
from src.routers.problems import (
    CHANGES_GONE,
    LIST_IS_KNOWN,
    LIST_IS_WEAK,
    NOT_AUTHENTICATED,
    NOT_THE_OWNER,
    TASK_CHANGED,
    TASK_NOT_FOUND,
    UNAVAILABLE,
)
from src.schemas.batch import MAX_OPERATIONS, Batch, BatchResults
from src.schemas.feed import TOKEN, ChangesPage, Since
from src.schemas.listing import OTHER_NAMES, TaskListing
from src.schemas.task import (
    CompletionOrNone,
    Message,
    TaskCreate,
    TaskPublic,
    TaskUpdate,
)
from src.services import feed_service, task_service

ANY = (
    documented(400, "The path or the query cannot be read", BROKEN_PATH)
    | documented(
        422,
        "A value is invalid; `errors` names each",
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
        "The token is missing or invalid",
        NOT_AUTHENTICATED,
        headers=headers("WWW-Authenticate"),
    )
    | documented(403, "The token belongs to another user", NOT_THE_OWNER)
    | documented(500, "An unexpected error", UNEXPECTED)
    | documented(
        503,
        "The database or the key server cannot be reached",
        UNAVAILABLE,
        headers=headers("Retry-After"),
    )
)
NOT_CREATED = documented(
    422,
    "A value is invalid, or the key was used for another request; `errors` names each",
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
CHANGED = documented(412, "The task does not meet If-Match or If-None-Match", TASK_CHANGED)
WEAK = documented(412, "If-Match has an ETag, and a list's ETags are weak", LIST_IS_WEAK)
LIST_KNOWN = documented(
    412, "If-Match has an ETag, or If-None-Match one that the list has", LIST_IS_KNOWN
)
GONE = documented(
    410, "The changes since the token are no longer known", CHANGES_GONE, headers=headers("Link")
)
BODY = documented(413, "The body is too large", too_large()) | documented(
    415, "The body is not declared as JSON", WRONG_MEDIA_TYPE
)
PATCH_BODY = BODY | documented(
    415,
    "The body is not declared as JSON or a merge patch",
    WRONG_MEDIA_TYPE,
    headers=headers("Accept-Patch"),
)
TASK: Responses = {200: {"headers": headers("Cache-Control", "ETag")}}
HEADER_EXAMPLES = {
    "Content-Location": f"/api/ada/tasks/{TASK_ID}",
    "Link": '</api/ada/tasks?limit=100&cursor=WyJjcmVhdGVk>; rel="next"',
    "Location": f"/api/ada/tasks/{TASK_ID}",
}
DELETED = {"message": "Task deleted successfully"}

MAX_BATCH_BYTES = 3 * 1024 * 1024
"""Enough for 100 of the largest tasks in UTF-8: each has 6,500 characters of up to 4 bytes."""

BATCH_REFUSED = (
    documented(413, "The body is too large", too_large(MAX_BATCH_BYTES))
    | documented(
        404,
        "The user has no such task; `errors` names each operation",
        f"operations.1: {TASK_NOT_FOUND}",
        errors=[
            {"loc": ["body", "operations", 1], "msg": TASK_NOT_FOUND, "type": "not_found"},
        ],
    )
    | documented(
        412,
        "A task does not meet if_match; `errors` names each operation",
        f"operations.1: {TASK_CHANGED}",
        errors=[
            {"loc": ["body", "operations", 1], "msg": TASK_CHANGED, "type": "changed"},
        ],
    )
    | documented(
        422,
        "A value is invalid, or the key was used for another request; `errors` names each",
        "operations.0.task.title: must have 1 to 500 characters",
        errors=[
            {
                "loc": ["body", "operations", 0, "task", "title"],
                "msg": "must have 1 to 500 characters",
                "type": "string_length",
            }
        ],
    )
)


# A list's parameters by the names that others have for them.
DEPRECATED = [
    {
        "name": name,
        "in": "query",
        "deprecated": True,
        "description": f"Means `{other.name}`.",
        "schema": other.schema,
    }
    for name, other in OTHER_NAMES.items()
]


EVENTS = f"""retry: 2345

id: {TOKEN}
data: {{"changes":[],"next":"{TOKEN}","more":false}}

"""

# Of an event's data: of the stream as a whole, typed clients would make `ChangesPage | string`.
OF_AN_EVENT = {"$ref": "#/components/schemas/ChangesPage"}

MOST_SECONDS = 60
"""How long a request may wait for a change."""


def or_not_modified(response: dict[str, Any], **of_200: object) -> Responses:
    known = {"description": "The client already has it"}
    return {200: response | of_200, 304: response | known}


class TaskSegment(StringConvertor):
    """Where a task's id is: any text but the collection's own paths, which have other methods."""

    regex = "(?!(batch|changes)(/|$))[^/]+"


register_url_convertor("task", TaskSegment())

router = APIRouter(
    prefix="/api/{user_id:segment}/tasks",
    tags=["tasks"],
    dependencies=[Security(own_token)],
    responses=ANY,
    route_class=StrictRoute,
)


@router.get(
    "",
    operation_id="listUserTasks",
    response_description="The tasks",
    summary="List a user's tasks",
    response_model=list[TaskPublic],
    responses=WEAK
    | or_not_modified({"headers": headers("Cache-Control", "ETag", "Link", "X-Total-Count")}),
    openapi_extra={"parameters": DEPRECATED},
)
async def list_user_tasks(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    listing: Annotated[TaskListing, Query()],
    prefer: Prefer = None,
    if_match: IfListMatches = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """All of the user's tasks, oldest first, unless the parameters say otherwise."""
    refuse_etags_of_lists(if_match)
    counted = prefer is not None and preferences(prefer).get("count") == "exact"
    page = await task_service.list_tasks(engine, user_id, listing, counted=counted)
    fields = []
    if links := pages_beside(request, listing, page.cursor):
        fields.append((b"link", ", ".join(links).encode()))
    if page.total is not None:
        fields += [(b"x-total-count", b"%d" % page.total), (b"preference-applied", b"count=exact")]
    return conditional(JSONArray(page.rows, fields), if_none_match)


@router.post(
    "",
    operation_id="createTask",
    response_description="The new task",
    summary="Create a task",
    status_code=201,
    response_model=TaskPublic,
    responses=BODY
    | NOT_CREATED
    | LIST_KNOWN
    | {201: {"headers": headers("Cache-Control", "ETag", "Location")}},
)
async def create_task(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    task: TaskCreate,
    idempotency_key: IdempotencyKey = None,
    if_match: IfListMatches = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """`Location` is the new task's path. With an `Idempotency-Key`, the request can be repeated.

    `If-Match` and `If-None-Match` apply to the list that the task is added to.
    """
    refuse_etags_of_lists(if_match)
    if if_none_match is not None:
        page = await task_service.list_tasks(engine, user_id, TaskListing())
        page.rows.close()
        if matches(etag_in(JSONArray(page.rows)), if_none_match):
            raise HTTPException(412, LIST_IS_KNOWN)
    content = await task_service.create_task(engine, user_id, task, idempotency_key)
    return tagged(content, etag(content), 201, [(b"location", path_of_new(request, content))])


@router.post(
    "/batch",
    operation_id="batchTasks",
    response_description="What became of each task, in the order of the operations",
    summary=f"Create, update and delete up to {MAX_OPERATIONS} tasks",
    response_model=BatchResults,
    responses=BODY | BATCH_REFUSED | {200: {"headers": headers("Cache-Control")}},
    max_body_size=MAX_BATCH_BYTES,
)
async def batch_tasks(
    engine: Engine,
    user_id: UserInPath,
    batch: Batch,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """All operations are applied, or none. Each does what its endpoint does.

    With an `Idempotency-Key`, the request can be repeated.
    """
    tasks = await task_service.apply_batch(engine, user_id, batch.operations, idempotency_key)
    results = [
        _result(operation["op"] == "create", task)
        for operation, task in zip(batch.operations, tasks, strict=True)
    ]
    return JSONBytes(b'{"results":[%b]}' % b",".join(results))


def _result(is_new: bool, task: bytes | None) -> bytes:
    if task is None:
        return to_json({"status": 200} | DELETED)
    status = 201 if is_new else 200
    return b'{"status":%d,"etag":"\\"%b\\"","task":%b}' % (status, etag(task).encode(), task)


@router.get(
    "/changes",
    operation_id="listChanges",
    response_description="The newest state of each task that changed",
    summary="What changed since",
    response_model=ChangesPage,
    responses=GONE
    | WEAK
    | or_not_modified(
        {"headers": headers("Cache-Control", "ETag", "Link", "Preference-Applied")},
        content={events.MEDIA_TYPE: {"schema": OF_AN_EVENT, "example": EVENTS}},
    ),
)
async def list_changes(
    request: Request,
    engine: Engine,
    live: LiveChanges,
    user_id: UserInPath,
    asked: Annotated[Since, Query()],
    last_event_id: LastEventId = None,
    prefer: PreferWait = None,
    if_match: IfListMatches = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The tasks that changed, in the order of their last change; nothing is left out.

    Get the current token, then the list, then the changes since the token, and so on with the
    `next` of each answer. With `Accept: text/event-stream`, the answer is a stream: each event has
    the JSON of an answer, and its `next` as its id. An event named `problem` is the last.
    """
    if events.asked_for(request):
        listening = partial(live.stream, user_id, last_event_id or asked.since)
        return EventStream(listening, seconds_left(request), NotAuthenticated(EXPIRED))
    refuse_etags_of_lists(if_match)
    changes = await feed_service.changes(engine, user_id, asked.since, asked.limit)
    seconds = 0 if request.scope["is_head"] else seconds_to_wait(prefer, MOST_SECONDS)
    if seconds and changes.position == asked.since:
        await live.wait(user_id, changes.position, seconds, until_gone(request))
        changes = await feed_service.changes(engine, user_id, asked.since, asked.limit)
    fields = []
    if changes.more:
        token = encode(changes.position)
        fields.append((b"link", page_link(request, "next", "since", token).encode()))
    answer = JSONArray(changes.content, fields)
    answer.raw_headers.append((b"vary", b"Accept"))
    if seconds:
        answer.raw_headers.append((b"preference-applied", b"wait=%d" % seconds))
    return conditional(answer, if_none_match)


@router.get(
    "/{task_id:task}",
    operation_id="getTask",
    response_description="The task",
    summary="Get a task",
    response_model=TaskPublic,
    responses=NOT_FOUND | CHANGED | or_not_modified(TASK[200]),
)
async def get_task(
    engine: Engine,
    user_id: UserInPath,
    task_id: TaskId,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    task = await task_service.get_task(engine, user_id, task_id)
    return conditional(tagged(task, etag(task)), if_none_match, if_match)


@router.put(
    "/{task_id:task}",
    operation_id="updateTask",
    response_description="The task as it is now",
    summary="Update a task (absent fields stay)",
    response_model=TaskPublic,
    responses=BODY
    | NOT_FOUND
    | CHANGED
    | {200: {"headers": headers("Cache-Control", "Content-Location", "ETag")}},
)
async def update_task(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    task_id: TaskId,
    changes: TaskUpdate,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Change the fields that are sent; absent ones stay, and `"description": null` clears it.

    PATCH changes a task in the same way. Only the answer differs: here, `Content-Location` says
    that the ETag belongs to the task in the answer, not to what was sent.
    """
    asked = condition(if_match, if_none_match)
    task = await task_service.update_task(engine, user_id, task_id, changes, asked)
    return tagged(task, etag(task), 200, [(b"content-location", path_of(request).encode())])


@router.patch(
    "/{task_id:task}",
    operation_id="patchTask",
    response_description="The task as it is now",
    summary="Patch a task (merge patch, RFC 7396)",
    response_model=TaskPublic,
    responses=PATCH_BODY | NOT_FOUND | CHANGED | TASK,
)
async def patch_task(
    engine: Engine,
    user_id: UserInPath,
    task_id: TaskId,
    changes: TaskUpdate,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Change the fields that are sent; absent ones stay, and `"description": null` clears it.

    PUT changes a task in the same way. A patch may also be declared as a merge patch (RFC 7396).
    """
    asked = condition(if_match, if_none_match)
    task = await task_service.update_task(engine, user_id, task_id, changes, asked)
    return tagged(task, etag(task))


@router.delete(
    "/{task_id:task}",
    operation_id="deleteTask",
    response_description="The task is gone",
    summary="Delete a task",
    response_model=Message,
    responses=NOT_FOUND
    | CHANGED
    | {200: {"headers": headers("Cache-Control"), "content": example(DELETED)}},
)
async def delete_task(
    engine: Engine,
    user_id: UserInPath,
    task_id: TaskId,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    asked = condition(if_match, if_none_match)
    await task_service.delete_task(engine, user_id, task_id, asked)
    return JSONBytes(to_json(DELETED))


@router.patch(
    "/{task_id:task}/complete",
    operation_id="toggleTaskCompletion",
    response_description="The task as it is now",
    summary="Toggle or set a task's completion",
    response_model=TaskPublic,
    responses=PATCH_BODY | NOT_FOUND | CHANGED | TASK,
)
async def toggle_task_completion(
    engine: Engine,
    user_id: UserInPath,
    task_id: TaskId,
    completion: Annotated[CompletionOrNone, Body()] = None,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Without a body, or with `null` or `{}`, an open task is completed and a completed one opened.

    `{"completed": true}` or `false` sets it instead, so that the request can be repeated.
    """
    asked = condition(if_match, if_none_match)
    if completion is None:
        task = await task_service.toggle_task(engine, user_id, task_id, asked)
    else:
        task = await task_service.update_task(engine, user_id, task_id, completion, asked)
    return tagged(task, etag(task))


def refuse_etags_of_lists(if_match: str | None) -> None:
    """A list always exists, and its ETags are weak, so none matches strongly: RFC 9110 §13.1.1."""
    if if_match not in {None, "*"}:
        raise HTTPException(412, LIST_IS_WEAK)


def pages_beside(request: Request, listing: TaskListing, cursor: str | None) -> list[str]:
    """Link the next page, and for a list that is asked for by number, the one before as well."""
    if not request.scope["query_string"]:
        return []
    sent = request.query_params
    by = next((name for name in ("page", "offset", "skip") if sent.get(name)), None)
    if by is None:
        return [page_link(request, "next", "cursor", cursor)] if cursor is not None else []
    step = 1 if by == "page" else listing.limit or 0
    first, number = int(by == "page"), int(sent[by])
    links = [page_link(request, "next", by, number + step)] if cursor is not None else []
    if number > first:
        links.append(page_link(request, "prev", by, max(first, number - step)))
    return links
