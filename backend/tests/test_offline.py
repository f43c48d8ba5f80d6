"""The offline client of the documents loses nobody's change and does nothing twice."""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.conftest import execute
from tests.serving import BACKEND, NO_TLS
from tests.tasks import Task, create, listed, task_path, tasks_path

GUIDE = BACKEND.parent / "specs/005-changes/offline.md"

Device = dict[str, Any]


def nobody_is_asked(now: Task, edit: Device) -> bool:
    raise AssertionError((now, edit))


def nothing_is_gone(edit: Device) -> None:
    raise AssertionError(edit)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The functions of the document, with a device's file of the test's own."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec("\n".join(blocks), names)
    return SimpleNamespace(**names)


@pytest.fixture
def come_back(client: SimpleNamespace, api: httpx.Client, user: str) -> Callable[..., None]:
    return partial(client.come_back, api, tasks_path(user))


def in_step(device: Device, api: httpx.Client, user: str) -> bool:
    """Whether the device has the same tasks as the service, and no edit to send."""
    known = {task["id"]: task for task in listed(api, user)}
    return bool(device["tasks"] == known and device["edits"] == [])


@pytest.fixture
def device(
    client: SimpleNamespace, come_back: Callable[..., None], api: httpx.Client, user: str
) -> Device:
    """A device with two tasks, that has just lost its network."""
    create(api, user, title="Buy milk")
    create(api, user, title="Buy bread")
    device: Device = client.load()
    come_back(device, nobody_is_asked, nothing_is_gone)
    assert in_step(device, api, user)
    return device


def the(device: Device, title: str) -> Task:
    [task] = [task for task in device["tasks"].values() if task["title"] == title]
    return task  # type: ignore[no-any-return]  # as JSON is


def test_edits_without_a_network_arrive_and_the_changes_of_other_clients_come(
    client: SimpleNamespace,
    come_back: Callable[..., None],
    device: Device,
    api: httpx.Client,
    user: str,
) -> None:
    milk, bread = the(device, "Buy milk"), the(device, "Buy bread")
    client.change(device, milk["id"], {"title": "Buy oat milk"})
    client.change(device, milk["id"], {"completed": True})
    client.create(device, {"title": "Call Ada"})
    [new] = [key for key in client.shown(device) if key not in device["tasks"]]
    client.change(device, new, {"priority": "high"})
    client.change(device, bread["id"], {"title": "Buy rye bread"})
    client.delete(device, bread["id"])
    other = create(api, user, title="Theirs")
    api.patch(task_path(milk), json={"description": "Two litres"})

    assert [task["title"] for task in client.shown(device).values()] == ["Buy oat milk", "Call Ada"]
    come_back(client.load(), nobody_is_asked, nothing_is_gone)

    found = listed(api, user)
    assert in_step(client.load(), api, user)
    assert [task["title"] for task in found] == ["Buy oat milk", "Theirs", "Call Ada"]
    assert (found[0]["completed"], found[0]["description"]) == (True, "Two litres")
    assert found[1] == other
    assert found[2]["priority"] == "high"


@pytest.mark.parametrize("overwrites", [True, False])
@pytest.mark.parametrize("mine", [{"title": "Mine"}, None], ids=["change", "deletion"])
def test_the_user_decides_about_a_field_that_both_sides_changed(
    client: SimpleNamespace,
    come_back: Callable[..., None],
    device: Device,
    api: httpx.Client,
    user: str,
    mine: dict[str, str] | None,
    overwrites: bool,
) -> None:
    milk, bread = the(device, "Buy milk"), the(device, "Buy bread")
    client.change(device, milk["id"], mine)
    theirs = api.patch(task_path(milk), json={"title": "Theirs"}).json()
    asked = []

    def ask(now: Task, edit: Device) -> bool:
        asked.append((now, edit["changes"]))
        return overwrites

    come_back(device, ask, nothing_is_gone)

    assert asked == [(theirs, mine)]
    assert in_step(device, api, user)
    left = [task["title"] for task in device["tasks"].values() if task != bread]
    assert left == (["Theirs"] if not overwrites else ["Mine"] if mine else [])


def meanwhile(api: httpx.Client, method: str, happens: Callable[[], object]) -> httpx.Client:
    """Return a client. `happens` runs just before the client's first request of this method."""
    waiting = [happens]

    def before(request: httpx.Request) -> None:
        if request.method == method and waiting:
            waiting.pop()()

    return httpx.Client(base_url=api.base_url, event_hooks={"request": [before]}, verify=NO_TLS)


@pytest.mark.parametrize(
    ("earlier", "theirs", "asks"),
    [
        ({}, {"description": "Dark"}, 0),
        ({}, {"title": "Rye"}, 1),
        ({"title": "Rye"}, {"description": "Dark"}, 1),
    ],
)
def test_the_client_compares_again_after_a_412(
    client: SimpleNamespace,
    device: Device,
    api: httpx.Client,
    user: str,
    earlier: dict[str, str],
    theirs: dict[str, str],
    asks: int,
) -> None:
    milk = the(device, "Buy milk")
    client.change(device, milk["id"], {"title": "Mine"})
    asked: list[tuple[str, object]] = []
    statuses = []

    def ask(now: Task, edit: Device) -> bool:
        asked.append((now["title"], edit["changes"]))
        return True

    api.patch(task_path(milk), json=earlier)
    with meanwhile(api, "PATCH", lambda: api.patch(task_path(milk), json=theirs)) as slow:
        slow.event_hooks["response"] = [lambda response: statuses.append(response.status_code)]
        client.come_back(slow, tasks_path(user), device, ask, nothing_is_gone)

    assert statuses == [200, 412, 200, 200, 200]
    assert asked == [("Rye", {"title": "Mine"})] * asks
    assert in_step(device, api, user)
    changed = device["tasks"][milk["id"]]
    assert changed["title"] == "Mine"
    assert changed["description"] == theirs.get("description")


@pytest.mark.parametrize("when", ["before", "between"])
def test_an_edit_of_a_deleted_task_can_become_a_new_task(
    client: SimpleNamespace, device: Device, api: httpx.Client, user: str, when: str
) -> None:
    milk, bread = the(device, "Buy milk"), the(device, "Buy bread")
    client.change(device, milk["id"], {"title": "Buy oat milk"})

    def again(edit: Device) -> None:
        client.create(device, edit["seen"] | edit["changes"])

    if when == "before":
        api.delete(task_path(milk))
    with meanwhile(api, "PATCH", lambda: api.delete(task_path(milk))) as slow:
        client.come_back(slow, tasks_path(user), device, nobody_is_asked, again)

    assert in_step(device, api, user)
    [new, kept] = listed(api, user)
    assert kept == bread
    assert new["title"] == "Buy oat milk"
    assert new["id"] != milk["id"]
    assert new["created_at"] == milk["created_at"]


def test_a_deletion_of_a_deleted_task_counts_as_done(
    client: SimpleNamespace,
    come_back: Callable[..., None],
    device: Device,
    api: httpx.Client,
    user: str,
) -> None:
    milk = the(device, "Buy milk")
    client.delete(device, milk["id"])
    api.delete(task_path(milk))

    come_back(device, nobody_is_asked, nothing_is_gone)

    assert in_step(device, api, user)
    assert milk["id"] not in device["tasks"]


class Lost(Exception):
    """An answer that does not arrive."""


@pytest.mark.parametrize("number", range(8))
def test_a_lost_answer_does_no_harm_anywhere(
    client: SimpleNamespace,
    come_back: Callable[..., None],
    device: Device,
    api: httpx.Client,
    user: str,
    number: int,
) -> None:
    milk, bread = the(device, "Buy milk"), the(device, "Buy bread")
    client.change(device, milk["id"], {"title": "a"})
    client.change(device, milk["id"], {"title": "b"})
    client.create(device, {"title": "c"})
    client.delete(device, bread["id"])
    create(api, user, title="d")
    answers = iter(range(100))

    def lose(_: httpx.Response) -> None:
        if next(answers) == number:
            raise Lost

    with httpx.Client(
        base_url=api.base_url, event_hooks={"response": [lose]}, verify=NO_TLS
    ) as losing:
        with pytest.raises(Lost):
            client.come_back(losing, tasks_path(user), device, nobody_is_asked, nothing_is_gone)
        restarted = client.load()
        come_back(restarted, nobody_is_asked, nothing_is_gone)

    assert in_step(restarted, api, user)
    assert sorted(task["title"] for task in listed(api, user)) == ["b", "c", "d"]


def test_a_client_whose_token_is_gone_reads_only_the_list_again(
    client: SimpleNamespace,
    come_back: Callable[..., None],
    device: Device,
    api: httpx.Client,
    user: str,
    postgres: str,
) -> None:
    milk, bread = the(device, "Buy milk"), the(device, "Buy bread")
    client.change(device, milk["id"], {"title": "Buy oat milk"})
    api.delete(task_path(bread))
    asyncio.run(execute(postgres, f"DELETE FROM changes WHERE user_id = '{user}' AND seq < 3"))

    come_back(device, nobody_is_asked, nothing_is_gone)

    assert in_step(device, api, user)
    assert [task["title"] for task in listed(api, user)] == ["Buy oat milk"]
