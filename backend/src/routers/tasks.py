"""`/api/{user_id}/tasks`: the six endpoints, and PATCH.

Each endpoint takes what the request brings (see `dependencies.py`), calls one function of the
service, and answers the JSON that PostgreSQL wrote. `response_model` documents the answer; nothing
validates it again. Nothing loads a task before the endpoint: the service's one statement checks the
owner.
"""

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response, Security
from starlette.convertors import StringConvertor, register_url_convertor

from src.dependencies import (
    Engine,
    IdInPath,
    IfListHasNone,
    IfListMatches,
    IfMatch,
    IfNoneMatch,
    KeyInHeader,
    Prefer,
    UserInPath,
    own_token,
)
from src.framework.web.conditions import condition
from src.framework.web.routing import StrictRoute
from src.routers import answers
from src.schemas.fields import EXAMPLE_ID, Message
from src.schemas.task import SentCompletion, SentUpdate, TaskCreate, TaskPublic
from src.schemas.task_listing import TaskListing
from src.services import task_service

HEADER_EXAMPLES = {
    "Content-Location": f"/api/ada/tasks/{EXAMPLE_ID}",
    "Link": '</api/ada/tasks?limit=100&cursor=WyJjcmVhdGVk>; rel="next"',
    "Location": f"/api/ada/tasks/{EXAMPLE_ID}",
}
NOT_CREATED = answers.not_created(["body", "title"], answers.LENGTH.format(1, 500))
OF_ONE = answers.of_one("task")


class TaskSegment(StringConvertor):
    """A segment for a task's id: any text but the collection's own paths, with other methods."""

    regex = "(?!(batch|changes)(/|$))[^/]+"


register_url_convertor("task", TaskSegment())

router = APIRouter(
    prefix="/api/{user_id:segment}/tasks",
    tags=["tasks"],
    dependencies=[Security(own_token)],
    responses=answers.of_every_request("task"),
    route_class=StrictRoute,
)


@router.get(
    "",
    response_description="The tasks",
    summary="List a user's tasks",
    response_model=list[TaskPublic],
    responses=answers.LIST,
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
    """List the user's tasks: all of them, oldest first, unless the parameters say otherwise."""
    answers.refuse_etags_of_lists(if_match)
    is_counted = answers.wants_count(listing, prefer)
    page = await task_service.list_tasks(engine, user_id, listing, counted=is_counted)
    return answers.page_of(request, listing, page, if_none_match)


@router.post(
    "",
    response_description="The new task",
    summary="Create a task",
    status_code=201,
    response_model=TaskPublic,
    responses=answers.BODY | NOT_CREATED | answers.CREATED,
)
async def create_task(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    task: TaskCreate,
    idempotency_key: KeyInHeader = None,
    if_match: IfListMatches = None,
    if_none_match: IfListHasNone = None,
) -> Response:
    """Create a task. Only the title is required."""
    answers.refuse_etags_of_lists(if_match)
    if if_none_match is not None:
        page = await task_service.list_tasks(engine, user_id, TaskListing())
        answers.refuse_known_list(page, if_none_match)
    created = await task_service.create_task(engine, user_id, task, idempotency_key)
    return answers.new_row(request, created)


@router.get(
    "/{task_id:task}",
    response_description="The task",
    summary="Get a task",
    response_model=TaskPublic,
    responses=OF_ONE | answers.or_not_modified(answers.ONE),
)
async def get_task(
    engine: Engine,
    user_id: UserInPath,
    task_id: IdInPath,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    task = await task_service.get_task(engine, user_id, task_id)
    return answers.row_unless_known(task, if_match, if_none_match)


@router.put(
    "/{task_id:task}",
    response_description="The task as it is now",
    summary="Update a task (absent fields stay)",
    response_model=TaskPublic,
    responses=answers.BODY | OF_ONE | answers.UPDATED,
)
async def update_task(
    request: Request,
    engine: Engine,
    user_id: UserInPath,
    task_id: IdInPath,
    edits: SentUpdate,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Change the fields in the body, as PATCH does. Absent fields stay; `null` clears a field."""
    wanted = condition(if_match, if_none_match)
    task = await task_service.update_task(engine, user_id, task_id, edits, wanted, replaces=True)
    return answers.updated_row(request, task)


@router.patch(
    "/{task_id:task}",
    response_description="The task as it is now",
    summary="Patch a task (merge patch, RFC 7396)",
    response_model=TaskPublic,
    responses=answers.PATCH_BODY | OF_ONE | answers.ONE,
)
async def patch_task(
    engine: Engine,
    user_id: UserInPath,
    task_id: IdInPath,
    edits: SentUpdate,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Change the fields in the body, which is a merge patch (RFC 7396). Absent fields stay."""
    wanted = condition(if_match, if_none_match)
    task = await task_service.update_task(engine, user_id, task_id, edits, wanted)
    return answers.row(task)


@router.delete(
    "/{task_id:task}",
    response_description="The task is gone",
    summary="Delete a task",
    response_model=Message,
    responses=answers.of_deleted("task"),
)
async def delete_task(
    engine: Engine,
    user_id: UserInPath,
    task_id: IdInPath,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    wanted = condition(if_match, if_none_match)
    await task_service.delete_task(engine, user_id, task_id, wanted)
    return answers.message(answers.deleted("task"))


@router.patch(
    "/{task_id:task}/complete",
    response_description="The task as it is now",
    summary="Toggle or set a task's completion",
    response_model=TaskPublic,
    responses=answers.PATCH_BODY | OF_ONE | answers.ONE,
)
async def toggle_task_completion(
    engine: Engine,
    user_id: UserInPath,
    task_id: IdInPath,
    completion: Annotated[SentCompletion, Body()] = None,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Complete a task with `{"completed": true}`, open it with `false`, toggle it with no body."""
    wanted = condition(if_match, if_none_match)
    if not completion:
        task = await task_service.toggle_task(engine, user_id, task_id, wanted)
    else:
        task = await task_service.update_task(engine, user_id, task_id, completion, wanted)
    return answers.row(task)
