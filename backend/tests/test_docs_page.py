"""The first hour in `/docs`, in a browser: the first task, every example, a long list, a phone."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, Error, Locator, Page, Request, Route, expect

from tests.browsing import at, browsing
from tests.serving import Server
from tests.tasks import listed, tasks_path
from tests.tokens import token

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


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Page:
    """All tests share a tab: a new tab would compile the scripts of the documentation again.

    The tab ignores the page's own policy, so that the tests see what the policy would block.
    """
    return browser.new_page(bypass_csp=True)


@pytest.fixture
def page(tab: Page, server: Server) -> Iterator[Page]:
    """The page, opened for the first time on a laptop that reaches only the service."""
    elsewhere, errors = list[str](), list[str]()

    def note(error: Error) -> None:
        errors.append(str(error))

    def decide(route: Route, request: Request) -> None:
        if request.url.startswith(at(server, "/")):
            route.continue_()
        else:
            elsewhere.append(request.url)
            route.abort()

    tab.route("**/*", decide)
    tab.on("pageerror", note)
    tab.set_viewport_size({"width": 1366, "height": 768})
    tab.goto(at(server, "/docs"))
    yield tab
    tab.evaluate("localStorage.clear(), sessionStorage.clear()")
    tab.goto("about:blank")
    tab.remove_listener("pageerror", note)
    tab.unroute_all()
    assert elsewhere == []
    assert errors == []


def opened(page: Page, name: str) -> Locator:
    operation = page.locator(f"#operations-tasks-{name}")
    operation.locator(".opblock-summary").click()
    return operation


def closed(operation: Locator) -> None:
    """Close an operation: at each answer, the page draws every open operation again."""
    operation.locator(".opblock-summary").click()
    expect(operation.get_by_role("button", name="Execute")).to_have_count(0)


def user_of(operation: Locator) -> Locator:
    return operation.locator("[placeholder=user_id]")


def executed(operation: Locator) -> Locator:
    """Execute an operation, and return its answer."""
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

    expect(page.locator(".opblock")).to_have_count(15)
    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill(token(user))
    page.locator(".auth-btn-wrapper .authorize").click()
    create = opened(page, "createTask")
    expect(user_of(create)).to_have_value(user)
    expect(status_of(executed(create))).to_have_text(re.compile("201"))

    assert clicks.evaluate("clicks => clicks.length") == 4
    with server.client() as api:
        assert [task["title"] for task in listed(api, user)] == ["Buy milk"]

    user_of(create).fill("bob")
    create.get_by_role("button", name="Execute").click()
    expect(status_of(create.locator(".live-responses-table"))).to_have_text(re.compile("403"))


@CLOSED
def test_a_token_that_names_no_user_does_not_change_the_field(page: Page) -> None:
    for other in ["", "a.b.c", "a.e30.c"]:
        assert page.evaluate("other => userOf(other) ?? null", other) is None

    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill("taskapi_personal")
    page.locator(".auth-btn-wrapper .authorize").click()
    expect(user_of(opened(page, "createTask"))).to_have_value("ada")


@OPEN
def test_every_example_works_unchanged_and_in_order(page: Page, server: Server, user: str) -> None:
    user = f"{user} / 😀"
    expect(page.locator(".opblock")).to_have_count(11)
    expect(page.get_by_role("button", name="Authorize")).to_have_count(0)

    create = opened(page, "createTask")
    user_of(create).fill(user)
    answer = executed(create)
    expect(status_of(answer)).to_have_text(re.compile("201"))
    expect(answer).to_contain_text('"title": "Buy milk"')
    expect(answer).to_contain_text(f'"user_id": "{user}"')

    closed(create)

    for name, status in [*IN_ORDER.items()][1:]:
        operation = opened(page, name)
        expect(status_of(executed(operation))).to_have_text(re.compile(status))
        closed(operation)

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

    expect(answer).to_contain_text("characters more: Download has all", timeout=5_000)
    assert page.locator("*").count() < 20_000


@OPEN
def test_the_docs_page_says_that_an_answer_is_a_stream_and_leaves_the_stream(
    page: Page, user: str
) -> None:
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
def test_an_operation_shows_no_answer_that_all_operations_share(page: Page) -> None:
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


@OPEN
def test_the_page_keeps_the_typed_user_for_every_operation(page: Page) -> None:
    got = opened(page, "getTask")
    user_of(opened(page, "createTask")).fill("grace / 😀")
    for operation in [got, *(opened(page, name) for name in ["listUserTasks", "deleteTask"])]:
        expect(user_of(operation)).to_have_value("grace / 😀")

    user_of(got).fill("")
    user_of(got).blur()

    page.reload()
    expect(user_of(opened(page, "patchTask"))).to_have_value("grace / 😀")


@OPEN
def test_the_operation_in_the_link_is_open(page: Page, server: Server) -> None:
    page.goto("about:blank")
    page.goto(at(server, "/docs#/tasks/toggleTaskCompletion"))

    toggle = page.locator("#operations-tasks-toggleTaskCompletion")
    expect(user_of(toggle)).to_have_value("ada")
    expect(toggle.locator(".opblock-summary")).to_be_in_viewport(ratio=1)


@pytest.fixture(scope="module")
def docs(browser: Browser, server: Server) -> Iterator[Page]:
    """The documentation on one screen, which takes a second to load."""
    context = browser.new_context(bypass_csp=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(at(server, "/docs"))
    yield page
    context.close()


@contextmanager
def open_in(page: Page, name: str) -> Iterator[Locator]:
    """Open an operation, and close it after the block."""
    operation = opened(page, name)
    yield operation
    closed(operation)


@OPEN
@pytest.mark.parametrize("name", sorted(IN_ORDER.keys() - {"batchTasks", "listChanges"}))
def test_an_operation_is_on_one_screen_from_its_path_to_execute(docs: Page, name: str) -> None:
    with open_in(docs, name) as operation:
        expect(operation.get_by_role("button", name="Execute")).to_be_in_viewport(ratio=1)
        expect(operation.locator(".opblock-summary")).to_be_in_viewport(ratio=1)
        expect(operation.locator("tr[data-param-name=X-Request-ID]")).to_have_count(0)
        expect(operation.locator(".parameters").first).not_to_contain_text("pattern")


@OPEN
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("createTask", "title"),
        ("updateTask", "title"),
        ("patchTask", "title"),
        ("toggleTaskCompletion", "completed"),
    ],
)
def test_an_example_begins_with_its_main_fields(docs: Page, name: str, first: str) -> None:
    with open_in(docs, name) as operation:
        expect(operation.locator("textarea")).to_have_value(re.compile(rf'^{{\s*"{first}"'))
