"""`specs/architecture.md` says how each stage refuses a PUT. The service does the same."""

import re
from collections.abc import Callable

import httpx
import pytest

from tests.serving import BACKEND
from tests.tasks import create, task_path, unknown_path
from tests.tokens import token

PAGE = (BACKEND.parent / "specs" / "architecture.md").read_text()
STAGES = re.findall(r"^\| [^|]+ \| `(\S+\.py)` \| [^|]+ \| ([\d, ]*)\|$", PAGE, re.M)
TITLE = {"title": "Buy milk"}

REFUSED: dict[int, Callable[[httpx.Client, str, str], httpx.Response]] = {
    431: lambda api, task, _: api.put(task, json=TITLE, headers={"X": "a" * 70_000}),
    400: lambda api, task, _: api.put(f"{task}%", json=TITLE),
    414: lambda api, task, _: api.put(task + "a" * 10_000, json=TITLE),
    405: lambda api, task, _: api.post(task, json=TITLE),
    401: lambda api, task, _: api.put(task, json=TITLE, headers={"Authorization": "Bearer a"}),
    403: lambda api, task, user: api.put(
        task.replace(user, "eve"), json=TITLE, headers={"Authorization": f"Bearer {token(user)}"}
    ),
    413: lambda api, task, _: api.put(task, json={"title": "a" * 200_000}),
    415: lambda api, task, _: api.put(task, content="title=Buy milk"),
    422: lambda api, task, _: api.put(task, json={"title": ""}),
    404: lambda api, _, user: api.put(unknown_path(user), json=TITLE),
    412: lambda api, task, _: api.put(task, json=TITLE, headers={"If-Match": '"a"'}),
}


def test_the_page_names_the_file_of_each_stage_and_is_short() -> None:
    assert len(STAGES) == 12
    for file, _ in STAGES:
        assert (BACKEND / "src" / file).is_file(), file
    assert 2_000 < len(PAGE.encode()) < 3_100


def test_the_page_names_each_refusal_that_a_test_shows() -> None:
    named = {int(status) for _, statuses in STAGES for status in re.findall(r"\d+", statuses)}

    # test_open_mode.py shows the 421, and test_connections.py shows the 503.
    assert named == REFUSED.keys() | {421, 503}


@pytest.mark.parametrize("server", ["jwt"], indirect=True)
@pytest.mark.parametrize("status", REFUSED)
def test_the_service_refuses_a_put(api: httpx.Client, user: str, status: int) -> None:
    task = task_path(create(api, user))

    assert REFUSED[status](api, task, user).status_code == status
