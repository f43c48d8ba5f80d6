"""Helpers for tests of tasks."""

from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

Task = dict[str, Any]

FIELDS = [
    "id",
    "user_id",
    "title",
    "description",
    "completed",
    "priority",
    "tags",
    "all_day",
    "completed_at",
    "due_date",
    "created_at",
    "updated_at",
]

# Changes to a task that is not completed and has a description.
CHANGES: list[dict[str, object]] = [
    {"title": "Buy bread"},
    {"description": "Whole grain"},
    {"description": ""},
    {"description": None},
    {"completed": True},
    {"title": "Buy bread", "description": "Whole grain"},
    {"title": "Buy bread", "completed": True},
    {"description": None, "completed": True},
    {"title": "Buy bread", "description": "Whole grain", "completed": True},
]


def tasks_path(user: str) -> str:
    return f"/api/{quote(user, safe='')}/tasks"


def task_path(task: Task) -> str:
    return f"{tasks_path(task['user_id'])}/{task['id']}"


def unknown_path(user: str) -> str:
    return f"{tasks_path(user)}/{uuid4()}"


def create(api: httpx.Client, user: str, **fields: object) -> Task:
    response = api.post(tasks_path(user), json={"title": "Buy milk"} | fields)
    assert response.status_code == 201, response.text
    task: Task = response.json()
    return task


def listed(api: httpx.Client, user: str) -> list[Task]:
    response = api.get(tasks_path(user))
    assert response.status_code == 200, response.text
    tasks: list[Task] = response.json()
    return tasks


def assert_problem(response: httpx.Response, status: int, detail: str | None = None) -> None:
    """Check an error: every error has the format of RFC 9457."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    members = ["type", "title", "status", "detail"]
    names_errors = status == 422 or (response.url.path.endswith("/batch") and status in {404, 412})
    assert list(problem) == ([*members, "errors"] if names_errors else members)
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["status"] == status
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    for error in problem.get("errors", []):
        assert list(error) == ["loc", "msg", "type"]
    if detail is not None:
        assert problem["detail"] == detail


def task_after(task: Task, changes: Task, answer: Task) -> Task:
    """Return the task after these changes, with the times that the answer has to have."""
    now, is_done = answer["updated_at"], changes.get("completed", task["completed"])
    done_at = (task["completed_at"] if task["completed"] else now) if is_done else None
    return task | changes | {"completed_at": done_at, "updated_at": now}


def updated_at(task: Task) -> datetime:
    return datetime.fromisoformat(task["updated_at"])
