"""`/api/{user_id}/tasks/batch`: many creates, updates and deletes, all or none."""

from typing import Annotated

from fastapi import APIRouter, Body, Response, Security
from pydantic_core import to_json

from src.dependencies import Engine, KeyInHeader, UserInPath, own_token
from src.framework.sql.etag import etag
from src.framework.web.conditions import condition
from src.framework.web.contract import headers
from src.framework.web.problems import documented, too_large
from src.framework.web.responses import JSONBytes
from src.framework.web.routing import StrictRoute
from src.routers import answers, problems
from src.schemas.batch import BATCH_EXAMPLES, MAX_OPERATIONS, Batch, BatchResults
from src.services import batch_service

MAX_BATCH_BYTES = 3 * 1024 * 1024
"""Enough for 100 of the largest tasks in UTF-8: each has 6,500 characters of up to 4 bytes.

With 16 KiB of further members in each task, the limit is enough for 73 tasks.
"""

DELETED = to_json({"status": 200} | answers.deleted("task"))

_AT = ("body", "operations", 1)

REFUSED = (
    documented(413, "The body is too large", too_large(MAX_BATCH_BYTES))
    | answers.documented_error(
        404, "The user has no such task", _AT, problems.not_found("task"), "not_found"
    )
    | answers.documented_error(
        412, "A task does not meet if_match", _AT, problems.changed("task"), "changed"
    )
    | answers.not_created(["body", "operations", 0, "task", "title"], answers.LENGTH.format(1, 500))
)

router = APIRouter(
    prefix="/api/{user_id:segment}/tasks/batch",
    tags=["tasks"],
    dependencies=[Security(own_token)],
    responses=answers.of_every_request("task"),
    route_class=StrictRoute,
)


@router.post(
    "",
    response_description="What became of each task, in the order of the operations",
    summary=f"Create, update and delete up to {MAX_OPERATIONS} tasks",
    response_model=BatchResults,
    responses=answers.BODY | REFUSED | {200: {"headers": headers("Cache-Control")}},
    max_body_size=MAX_BATCH_BYTES,
)
async def batch_tasks(
    engine: Engine,
    user_id: UserInPath,
    batch: Annotated[Batch, Body(openapi_examples=BATCH_EXAMPLES)],
    idempotency_key: KeyInHeader = None,
) -> Response:
    """Create, update and delete tasks: all operations are applied, or none.

    Each operation does what the endpoint for one task does.
    """
    operations = batch.operations
    conditions = [
        None if operation["op"] == "create" else condition(operation.get("if_match"), None)
        for operation in operations
    ]
    tasks = await batch_service.apply_batch(
        engine, user_id, operations, idempotency_key, conditions
    )
    results = [
        _result(operation["op"] == "create", task)
        for operation, task in zip(operations, tasks, strict=True)
    ]
    return JSONBytes(b'{"results":[%b]}' % b",".join(results))


def _result(is_new: bool, task: bytes | None) -> bytes:
    if task is None:
        return DELETED
    status = 201 if is_new else 200
    return b'{"status":%d,"etag":"\\"%b\\"","task":%b}' % (status, etag(task).encode(), task)
