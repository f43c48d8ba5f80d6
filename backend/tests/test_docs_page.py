"""The first hour in `/docs`, in a browser: the first task, every example, a long list, a phone."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browsing import browsing
from tests.serving import Server
from tests.tasks import listed, tasks_path
from tests.tokens import bearer, token

OPEN = pytest.mark.parametrize("server", ["open"], indirect=True)
CLOSED = pytest.mark.parametrize("server", ["jwt"], indirect=True)

IN_ORDER = {
    "createTask": "201",
    "listUserTasks": "200",
    "getTask": "200",
    "updateTask": "200",
    "patchTask": "200",
    "toggleTaskCompletion": "200",
    "batchTasks": "200",
    "listChanges": "200",
    "deleteTask": "200",
}


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with browsing(chromium) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """The page as it is opened for the first time, on a laptop."""
    context = browser.new_context(viewport={"width": 1366, "height": 768})
    page = context.new_page()
    page.goto(f"{server.url}/docs")
    yield page
    context.close()


def opened(page: Page, name: str) -> Locator:
    operation = page.locator(f"#operations-tasks-{name}")
    operation.locator(".opblock-summary").click()
    return operation


def user_of(operation: Locator) -> Locator:
    return operation.locator("[placeholder=user_id]")


def executed(operation: Locator) -> Locator:
    """Execute it, and return its answer."""
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer).to_be_visible()
    return answer


def status_of(answer: Locator) -> Locator:
    return answer.locator(".response-col_status").last


@CLOSED
def test_the_first_task_takes_four_clicks_and_one_paste_with_a_token(
    page: Page, server: Server
) -> None:
    user = f"Wq8dF4kZbN1xY{uuid4().hex[:19]}"  # 32 letters and digits, as Better Auth makes them
    clicks = page.evaluate_handle(
        "clicks => { addEventListener('click', () => clicks.push(0)); return clicks }", []
    )

    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill(token(user))
    page.locator(".auth-btn-wrapper .authorize").click()
    create = opened(page, "createTask")
    expect(user_of(create)).to_have_value(user)
    expect(status_of(executed(create))).to_have_text(re.compile("201"))

    assert clicks.evaluate("clicks => clicks.length") == 4
    with httpx.Client(base_url=server.url, headers=bearer(token(user))) as api:
        assert [task["title"] for task in listed(api, user)] == ["Buy milk"]


@CLOSED
def test_a_token_that_names_no_user_leaves_the_field_as_it_is(page: Page) -> None:
    for other in ["", "a.b.c", "a.e30.c"]:
        assert page.evaluate("other => userOf(other) ?? null", other) is None

    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill("taskapi_personal")
    page.locator(".auth-btn-wrapper .authorize").click()
    expect(user_of(opened(page, "createTask"))).to_have_value("ada")


@OPEN
def test_every_example_works_as_it_stands_and_in_order(
    page: Page, server: Server, user: str
) -> None:
    create = opened(page, "createTask")
    user_of(create).fill(user)
    expect(status_of(executed(create))).to_have_text(re.compile("201"))

    for name, status in [*IN_ORDER.items()][1:]:
        expect(status_of(executed(opened(page, name)))).to_have_text(re.compile(status))

    with server.client() as api:
        assert [task["title"] for task in listed(api, user)] == ["Buy milk", "Buy bread"]


@OPEN
def test_a_list_of_5000_tasks_does_not_freeze_the_page(
    page: Page, server: Server, user: str
) -> None:
    operations = [{"op": "create", "task": {"title": "Buy milk", "tags": ["home"]}}] * 100
    with server.client(60) as api, ThreadPoolExecutor(4) as pool:
        batch = {"operations": operations}
        made = pool.map(lambda _: api.post(f"{tasks_path(user)}/batch", json=batch), range(50))
        assert {each.status_code for each in made} == {200}
    tasks = opened(page, "listUserTasks")
    expect(tasks.locator("[placeholder=limit]")).to_have_value("20")
    user_of(tasks).fill(user)
    tasks.locator("[placeholder=limit]").fill("")

    answer = executed(tasks)

    expect(answer).to_contain_text("characters more: Download has all")
    assert page.locator("*").count() < 20_000


@OPEN
def test_a_stream_says_that_it_is_one_and_is_left(page: Page, user: str) -> None:
    changes = opened(page, "listChanges")
    user_of(changes).fill(user)
    changes.locator(".response-control-media-type select").first.select_option("text/event-stream")

    answer = executed(changes)

    expect(answer).to_contain_text(
        "This is a stream without end. This page left it after 3 seconds"
    )
    expect(answer).to_contain_text("retry: ")
    expect(changes.get_by_role("button", name="Execute")).to_be_enabled()


@OPEN
def test_an_operation_shows_what_its_user_needs(page: Page) -> None:
    introduction = page.locator(".info .description")
    for shared in ["414: The path", "500: An unexpected error", "503: The database"]:
        expect(introduction).to_contain_text(shared)

    create = opened(page, "createTask")
    expect(create.locator(".opblock-summary")).to_be_in_viewport(ratio=1)
    expect(create.get_by_role("button", name="Execute")).to_be_in_viewport(ratio=1)
    for hidden in ["An unexpected error", "X-Request-ID"]:
        expect(create).not_to_contain_text(hidden)
    expect(create.locator("tr[data-param-name]")).to_have_count(2)
    expect(create.locator(".response-col_links").first).to_be_hidden()
    assert len(create.inner_text().split()) < 350


@OPEN
def test_colours_follow_the_system(page: Page) -> None:
    title = page.locator(".info .title")

    page.emulate_media(color_scheme="dark")
    expect(title).to_have_css("color", "rgb(210, 214, 215)")
    page.emulate_media(color_scheme="light")
    expect(title).to_have_css("color", "rgb(59, 65, 81)")


@OPEN
def test_nothing_is_cut_off_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for name in [*IN_ORDER]:
        operation = opened(page, name)
        expect(operation.get_by_role("button", name="Execute")).to_be_visible()
        code = operation.locator(".response-col_status").first.bounding_box()
        assert code is not None
        assert code["width"] > 40, name
        outside = operation.locator(
            ".opblock-summary, .parameters td, .parameters input, .parameters select, textarea, "
            ".execute, .responses-table td"
        ).evaluate_all(
            "all => all.map(each => each.getBoundingClientRect()).filter(({right}) => right > 390)"
        )
        operation.locator(".opblock-summary").click()

        assert outside == [], name
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
