"""Changes to the requests that Schemathesis generates.

Schemathesis calls `before_call` before each request.
"""

import json
from contextlib import suppress
from typing import Any
from uuid import uuid4

import schemathesis
from pydantic import ValidationError
from schemathesis import Case, GenerationMode, HookContext

from src.schemas.changes import TOKEN
from src.schemas.fields import is_etag_list
from src.schemas.further import LONGEST_NAME
from src.schemas.other_names import PRIORITY_WORDS, several
from src.schemas.paging import cursor_text
from src.schemas.task_listing import TaskListing

NO_TASKS_ETAG = '"5d41402abc4b2a76"'
ENDS_OF_TIME = ("0001-01-01", "9999-12-31")
"""The first and the last day. In some time zones, part of these days is outside Python's times."""
FITTING = {"If-Match": "*", "If-None-Match": '"another"'}


def operations_of(body: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - whatever was generated
    operations = body.get("operations") if isinstance(body, dict) else None
    found = operations if isinstance(operations, list) else []
    return [operation for operation in found if isinstance(operation, dict)]


def have_more_than_white_space(body: Any) -> None:  # noqa: ANN401 - whatever was generated
    for task in [body, *(operation.get("task") for operation in operations_of(body))]:
        if isinstance(task, dict):
            for name in task.keys() & {"name", "title"}:
                task[name] = task[name].strip() or "Buy milk"
            if isinstance(task.get("tags"), list):
                task["tags"] = [tag for tag in task["tags"] if tag.strip()]


def keep_within_names(body: Any) -> None:  # noqa: ANN401 - whatever was generated
    """Drop further members whose names are empty or too long.

    The schema leaves out the limits of names, because an agent's tool would be too long with them.
    """
    for task in [body, *(operation.get("task") for operation in operations_of(body))]:
        for name in [*task] if isinstance(task, dict) else []:
            if not 1 <= len(name) <= LONGEST_NAME:
                del task[name]


def keep_off_the_ends_of_time(case: Case[Any]) -> None:
    tasks = [operation.get("task") for operation in operations_of(case.body)]
    values: Any
    for values in [case.query, case.body, *tasks]:
        for name, value in values.items() if isinstance(values, dict) else []:
            if isinstance(value, str) and value.startswith(ENDS_OF_TIME):
                values[name] = "2026-12-24"


def keep_wrong(case: Case[Any]) -> None:
    """Replace a value that the contract forbids and that the service understands all the same."""
    for name in {"completed", "has_due_date", "overdue", "sort"} & case.query.keys():
        with suppress(ValidationError):
            text = str(several(case.query[name])[-1])
            listing = TaskListing.model_validate({name: text})
            if text not in {str(getattr(listing, name)).lower(), ""}:
                case.query[name] = "?"
    tasks = [case.body, *(operation.get("task") for operation in operations_of(case.body))]
    for task in tasks:
        if isinstance(task, dict) and str(task.get("priority")) in PRIORITY_WORDS:
            task["priority"] = "?"
    if case.path.endswith("/complete") and case.body is None:
        case.body = []  # null would mean that there is no body


def keep_days(case: Case[Any]) -> str:
    """Put days beside `all_day`, and a time zone that exists. Return the zone, or an empty text."""
    for task in [case.body, *(each.get("task") for each in operations_of(case.body))]:
        if isinstance(task, dict) and task.get("all_day"):
            task["due_date"] = "2026-12-24"
    if not case.query.get("time_zone"):
        return ""
    case.query["time_zone"] = "America/New_York"
    return "America/New_York"


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    """Make a case follow the rules that the schema cannot express, if the case has to be valid."""
    if case.meta is None:
        return
    if case.meta.generation.mode is GenerationMode.NEGATIVE:
        keep_wrong(case)
        return
    zone = keep_days(case)
    if "cursor" in case.query:
        case.query.pop("offset", None)
        last = {"id": str(uuid4()), "title": "Buy milk", "priority": "high", "name": "cron"}
        times = ["created_at", "updated_at", "due_date", "completed_at"]
        last |= dict.fromkeys(times, "2026-11-21T09:30:00+00:00")
        sort = case.query.get("sort", "created_at")
        order = f"{sort} {zone}" if zone and "due_date" in sort else sort
        case.query["cursor"] = cursor_text(order, json.dumps(last).encode())
    if "since" in case.query:
        case.query["since"] = TOKEN
    if "Last-Event-ID" in case.headers:
        case.headers["Last-Event-ID"] = TOKEN
    keep_off_the_ends_of_time(case)
    if isinstance(case.body, dict) and "expires_at" in case.body:
        case.body["expires_at"] = ""  # a valid time has to be within a year
    have_more_than_white_space(case.body)
    keep_within_names(case.body)
    if case.path.endswith("/complete") and isinstance(case.body, dict) and case.body:
        case.body.setdefault("completed", True)  # the service needs this member, or an empty body
    for operation in operations_of(case.body):
        if operation["op"] != "create":
            operation["id"] = str(uuid4())  # a batch may name each task only once
    if len(case.headers.get("Idempotency-Key", "")) in range(1, 200):
        key = case.headers["Idempotency-Key"]
        case.headers["Idempotency-Key"] = key[0] + uuid4().hex + key[1:]
    for name in FITTING.keys() & case.headers.keys():
        # Schemathesis generates no value in quotes, except the example, which matches no task.
        if case.headers[name] == NO_TASKS_ETAG or not is_etag_list(case.headers[name]):
            case.headers[name] = FITTING[name]
