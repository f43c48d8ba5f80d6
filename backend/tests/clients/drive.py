"""Calls every operation with the client that openapi-python-client made from the contract."""

import os
import re
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from task_api_client import AuthenticatedClient, Client
from task_api_client.api.health import is_alive, is_ready
from task_api_client.api.tasks import (
    batch_tasks,
    create_task,
    delete_task,
    get_task,
    list_changes,
    list_user_tasks,
    patch_task,
    toggle_task_completion,
    update_task,
)
from task_api_client.api.tokens import create_token, end_token, get_token, list_tokens
from task_api_client.models import (
    Batch,
    BatchResults,
    ChangesPage,
    Completion,
    CreateOperation,
    CreateOperationOp,
    DeletedTask,
    DeleteOperation,
    DeleteOperationOp,
    DeleteResult,
    ListUserTasksSort,
    Message,
    NewPersonalToken,
    PersonalTokenCreate,
    PersonalTokenCreateScope,
    PersonalTokenPublic,
    Problem,
    TaskCreate,
    TaskPublic,
    TaskResult,
    TaskUpdate,
    UpdateOperation,
    UpdateOperationOp,
)
from task_api_client.types import UNSET, Response, Unset

Parsed = TypeVar("Parsed")

BASE_URL, USER = os.environ["BASE_URL"], os.environ["USER_ID"]
API = AuthenticatedClient(BASE_URL, os.environ["TOKEN"], raise_on_unexpected_status=True)
STRANGER = Client(BASE_URL, raise_on_unexpected_status=True)


def given(
    kind: type[Parsed], answer: Response[Parsed | Problem], status: int = HTTPStatus.OK
) -> Parsed:
    assert answer.status_code == status, answer.content
    assert isinstance(answer.parsed, kind)
    return answer.parsed


def refused(answer: Response[Parsed | Problem], status: int) -> Problem:
    assert answer.status_code == status, answer.content
    assert isinstance(answer.parsed, Problem)
    return answer.parsed


def create(title: str) -> TaskPublic:
    answer = create_task.sync_detailed(USER, client=API, body=TaskCreate(title))
    return given(TaskPublic, answer, HTTPStatus.CREATED)


def changes(since: str | Unset = UNSET) -> ChangesPage:
    page: ChangesPage = given(
        ChangesPage, list_changes.sync_detailed(USER, client=API, since=since)
    )
    return page


def nothing_that_changes_is_missed() -> None:
    before = changes()
    task = create("Hear of it")
    created = changes(before.next_)
    delete_task.sync_detailed(USER, task.id, client=API)
    deleted = changes(created.next_)

    assert before.changes == []
    assert created.changes == [task]
    assert deleted.changes == [DeletedTask(task.id, True)]
    assert not deleted.more
    assert refused(list_changes.sync_detailed(USER, client=API, since="x"), 422).errors


def the_service_is_up() -> None:
    assert given(Message, is_alive.sync_detailed(client=STRANGER)).message == "alive"
    assert given(Message, is_ready.sync_detailed(client=STRANGER)).message == "ready"


def a_key_makes_one_task() -> None:
    body, key = TaskCreate("Buy milk", description=None), str(uuid4())
    first, second = (
        create_task.sync_detailed(USER, client=API, body=body, idempotency_key=key)
        for _ in range(2)
    )

    task = given(TaskPublic, first, HTTPStatus.CREATED)
    assert given(TaskPublic, second, HTTPStatus.CREATED) == task
    assert (task.user_id, task.description) == (USER, None)
    assert task.created_at.tzinfo is not None
    assert first.headers["Location"].endswith(f"/{task.id}")


def an_etag_saves_an_answer() -> None:
    task = create("Read it")
    got = get_task.sync_detailed(USER, task.id, client=API)
    again = get_task.sync_detailed(USER, task.id, client=API, if_none_match=got.headers["ETag"])

    assert got.parsed == task
    assert again.status_code == HTTPStatus.NOT_MODIFIED
    assert again.parsed is None


def an_etag_keeps_a_change() -> None:
    task = create("Change it")
    etag = get_task.sync_detailed(USER, task.id, client=API).headers["ETag"]
    patch, change = TaskUpdate(description="Two litres"), TaskUpdate(title="Another")
    patched = patch_task.sync_detailed(USER, task.id, client=API, body=patch, if_match=etag)
    lost = update_task.sync_detailed(USER, task.id, client=API, body=change, if_match=etag)
    clear = TaskUpdate(description=None)
    put = update_task.sync_detailed(USER, task.id, client=API, body=clear)

    assert given(TaskPublic, patched).description == "Two litres"
    problem = refused(lost, HTTPStatus.PRECONDITION_FAILED)
    assert problem.detail == "The task has changed since you read it; get it again"
    assert given(TaskPublic, put).title == "Change it"
    assert given(TaskPublic, put).description is None


def a_task_is_completed_and_deleted() -> None:
    task_id = create("Complete it").id
    toggled = toggle_task_completion.sync_detailed(USER, task_id, client=API)
    opened = toggle_task_completion.sync_detailed(USER, task_id, client=API, body=Completion())
    set_anew = toggle_task_completion.sync_detailed(
        USER, task_id, client=API, body=Completion(completed=True)
    )
    deleted = delete_task.sync_detailed(USER, task_id, client=API)
    gone = get_task.sync_detailed(USER, task_id, client=API)

    assert given(TaskPublic, toggled).completed
    assert not given(TaskPublic, opened).completed
    assert given(TaskPublic, set_anew).completed
    assert given(Message, deleted).message == "Task deleted successfully"
    assert gone.status_code == HTTPStatus.NOT_FOUND
    assert isinstance(gone.parsed, Problem)


def a_batch_is_applied_whole() -> None:
    first, second = create("Change it"), create("Delete it")
    change = TaskUpdate(completed=True)
    body = Batch(
        [
            CreateOperation(CreateOperationOp.CREATE, TaskCreate("Buy milk")),
            UpdateOperation(UpdateOperationOp.UPDATE, first.id, change),
            DeleteOperation(DeleteOperationOp.DELETE, second.id),
        ]
    )
    applied = given(BatchResults, batch_tasks.sync_detailed(USER, client=API, body=body))
    refused_one = batch_tasks.sync_detailed(USER, client=API, body=body)
    new, changed, deleted = applied.results

    assert isinstance(new, TaskResult)
    assert (new.status.value, new.task.title) == (HTTPStatus.CREATED, "Buy milk")
    assert isinstance(changed, TaskResult)
    assert changed.task.completed
    assert isinstance(deleted, DeleteResult)
    assert deleted.message == "Task deleted successfully"
    once = DeleteOperation(DeleteOperationOp.DELETE, changed.task.id, if_match=new.etag)
    lost = batch_tasks.sync_detailed(USER, client=API, body=Batch([once]))
    errors = refused(refused_one, HTTPStatus.NOT_FOUND).errors
    assert errors
    assert errors[0].loc == ["body", "operations", 2]
    assert refused(lost, HTTPStatus.PRECONDITION_FAILED).errors


def further_members_are_kept() -> None:
    body = TaskCreate("Water plants")
    body["recurrence"] = {"every": "week"}
    task = given(TaskPublic, create_task.sync_detailed(USER, client=API, body=body), 201)
    change = TaskUpdate(completed=True)
    change["recurrence"] = {"on": ["monday"]}
    changed = patch_task.sync_detailed(USER, task.id, client=API, body=change)
    patched = given(TaskPublic, changed)

    assert task["recurrence"] == {"every": "week"}
    assert patched.additional_properties == {"recurrence": {"every": "week", "on": ["monday"]}}


def links_lead_through_all_pages() -> None:
    for title in ("page 3", "page 1", "page 2"):
        create(title)
    titles: list[str] = []
    cursor: str | Unset | None = UNSET
    while cursor is not None:
        page = list_user_tasks.sync_detailed(
            USER, client=API, q="PAGE", sort=ListUserTasksSort.TITLE, limit=2, cursor=cursor
        )
        assert isinstance(page.parsed, list)
        titles += [task.title for task in page.parsed]
        link = re.search('<([^>]*)>; rel="next"', page.headers.get("Link", ""))
        cursor = parse_qs(urlsplit(link[1]).query)["cursor"][0] if link else None

    assert titles == ["page 1", "page 2", "page 3"]


def errors_say_what_is_wrong() -> None:
    empty = create_task.sync_detailed(USER, client=API, body=TaskCreate(""))
    nobody = AuthenticatedClient(BASE_URL, "no token")
    unknown = delete_task.sync_detailed(USER, uuid4(), client=nobody)
    another = delete_task.sync_detailed("another", uuid4(), client=API)

    errors = refused(empty, HTTPStatus.UNPROCESSABLE_ENTITY).errors
    assert errors
    assert errors[0].loc == ["body", "title"]
    assert refused(unknown, HTTPStatus.UNAUTHORIZED).title == "Unauthorized"
    assert unknown.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
    assert refused(another, HTTPStatus.FORBIDDEN).title == "Forbidden"


def a_script_gets_a_token_that_can_be_ended() -> None:
    body = PersonalTokenCreate("Nightly export", scope=PersonalTokenCreateScope.READ)
    made = create_token.sync_detailed(USER, client=API, body=body)
    new = given(NewPersonalToken, made, HTTPStatus.CREATED)
    script = AuthenticatedClient(BASE_URL, new.token)
    listed = list_tokens.sync_detailed(USER, client=API)
    got = given(PersonalTokenPublic, get_token.sync_detailed(USER, new.id, client=API))
    read = list_user_tasks.sync_detailed(USER, client=script)
    written = create_task.sync_detailed(USER, client=script, body=TaskCreate("Buy milk"))
    ended = end_token.sync_detailed(USER, new.id, client=API)
    late = list_user_tasks.sync_detailed(USER, client=script)

    assert isinstance(listed.parsed, list)
    assert [each.id for each in listed.parsed] == [got.id] == [new.id]
    assert read.status_code == HTTPStatus.OK
    assert refused(written, HTTPStatus.FORBIDDEN).detail.startswith("This token may only read")
    assert given(Message, ended).message == "Token deleted successfully"
    assert late.status_code == HTTPStatus.UNAUTHORIZED


def these_do_not_pass_mypy(task: TaskPublic) -> str:
    TaskCreate(name="Buy milk")  # type: ignore[call-arg]  # a task has a title, not a name
    Completion(complete=True)  # type: ignore[call-arg]  # it is completed, not complete
    list_user_tasks.sync(USER, client=API, sort="title")  # type: ignore[arg-type]  # an enum
    get_task.sync(USER, "7", client=API)  # type: ignore[arg-type]  # an id is a UUID
    delete_task.sync(USER, task.id, client=STRANGER)  # type: ignore[arg-type]  # needs a token
    return task.description  # type: ignore[return-value]  # it may have none


the_service_is_up()
nothing_that_changes_is_missed()
a_key_makes_one_task()
an_etag_saves_an_answer()
an_etag_keeps_a_change()
a_task_is_completed_and_deleted()
a_batch_is_applied_whole()
further_members_are_kept()
links_lead_through_all_pages()
errors_say_what_is_wrong()
a_script_gets_a_token_that_can_be_ended()
