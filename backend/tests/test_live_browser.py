"""Pages that show each change as it happens, with the code of the documents."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browsing import browsing, published
from tests.conftest import execute
from tests.serving import BACKEND, Server, free_port, serving, started, wait_until_ready
from tests.tasks import create, listed, task_path, tasks_path
from tests.test_changes import token as token_of_now
from tests.tokens import SECRET, TokenOfThePath, token

TOP = BACKEND.parent
DOCUMENTS = {"long poll": TOP / "README.md", "stream": TOP / "specs/005-changes/spa.md"}

SHOW = """
    const headers = async () => (%s);
    const show = async () => {
        for await (const known of follow(%s, headers)) {
            document.body.textContent = [...known.values()].map(({ title }) => title).join(", ");
        }
    };
    show().catch((error) => { document.body.textContent = `Stopped: ${error}`; });
"""


def code(document: Path) -> str:
    blocks = re.findall(r"^```js\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return "\n".join(blocks)


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with browsing(chromium) as browser:
        yield browser


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The origin of a site that is not the service's."""
    with published(tmp_path_factory.mktemp("site")) as origin:
        yield origin


@pytest.fixture(scope="module")
def closed(
    frontend: str, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A service that wants tokens, and lets the frontend in."""
    log = tmp_path_factory.mktemp("closed") / "log"
    settings = {"DATABASE_URL": postgres, "AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}
    with serving(log, CORS_ORIGINS=frontend, **settings) as server:
        server.auth = TokenOfThePath()
        yield server


@pytest.fixture(scope="module")
def restarting(frontend: str, postgres: str) -> dict[str, str]:
    """Start a service without tokens again and again, always on one port."""
    return {"DATABASE_URL": postgres, "CORS_ORIGINS": frontend, "PORT": str(free_port())}


@pytest.fixture
def api(closed: Server) -> Iterator[httpx.Client]:
    with closed.client() as client:
        yield client


@dataclass
class Tabs:
    """Pages of one user, each in a browser of its own, that show the titles of his tasks."""

    browser: Browser
    frontend: str
    script: str
    contexts: list[BrowserContext]

    def open(self) -> Page:
        context = self.browser.new_context()
        self.contexts.append(context)
        page = context.new_page()
        page.goto(self.frontend)
        page.evaluate(f"() => {{ {self.script} }}")
        return page


@pytest.fixture(params=DOCUMENTS)
def tabs(
    request: pytest.FixtureRequest, browser: Browser, frontend: str, closed: Server, user: str
) -> Iterator[Tabs]:
    sent = json.dumps({"Authorization": f"Bearer {token(user)}"})
    shown = SHOW % (sent, json.dumps(closed.url + tasks_path(user)))
    tabs = Tabs(browser, frontend, code(DOCUMENTS[request.param]) + shown, [])
    yield tabs
    for context in tabs.contexts:
        context.close()


def shows(page: Page, *titles: str) -> None:
    expect(page.locator("body")).to_have_text(", ".join(titles), timeout=15_000)


WRITE = """
async ([tasks, token]) => {
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    await fetch(tasks, { method: "POST", headers, body: JSON.stringify({ title: "Buy milk" }) });
}
"""


def test_what_one_page_writes_the_other_shows(
    tabs: Tabs, closed: Server, api: httpx.Client, user: str
) -> None:
    writer, reader = tabs.open(), tabs.open()
    for page in [writer, reader]:
        page.evaluate("() => { window.wasNotLoadedAgain = true; }")

    writer.evaluate(WRITE, [closed.url + tasks_path(user), token(user)])
    for page in [writer, reader]:
        shows(page, "Buy milk")

    [task] = listed(api, user)
    api.patch(task_path(task), json={"title": "Buy bread"})
    for page in [writer, reader]:
        shows(page, "Buy bread")

    api.delete(task_path(task))
    for page in [writer, reader]:
        shows(page)
        assert page.evaluate("window.wasNotLoadedAgain")


def test_a_page_shows_first_what_was_there_before_it(
    tabs: Tabs, api: httpx.Client, user: str
) -> None:
    create(api, user, title="a")
    create(api, user, title="b")

    page = tabs.open()

    shows(page, "a", "b")


def test_a_page_that_had_no_network_has_missed_nothing(
    tabs: Tabs, api: httpx.Client, user: str
) -> None:
    changed, deleted = create(api, user, title="a"), create(api, user, title="b")
    page, other = tabs.open(), tabs.open()
    shows(page, "a", "b")
    page.context.set_offline(True)

    api.patch(task_path(changed), json={"title": "z"})
    api.delete(task_path(deleted))
    short = create(api, user, title="c")
    api.delete(task_path(short))
    create(api, user, title="d")
    shows(other, "z", "d")
    expect(page.locator("body")).to_have_text("a, b")
    page.context.set_offline(False)

    shows(page, "z", "d")


@pytest.mark.parametrize("title", ["a\u2028b\u2029c", "\\n\\n", 'data: "x"', "🥛ß" * 100])
def test_a_page_shows_any_text(tabs: Tabs, api: httpx.Client, user: str, title: str) -> None:
    page = tabs.open()
    create(api, user, title="first")
    shows(page, "first")

    create(api, user, title=title)

    page.wait_for_function(
        "(title) => document.body.textContent === `first, ${title}`", arg=title, timeout=15_000
    )


async def forgotten(postgres: str, user: str) -> None:
    await execute(
        postgres,
        "DELETE FROM changes AS old USING feeds "  # noqa: S608 - a user of this test
        f"WHERE old.user_id = '{user}' AND feeds.user_id = old.user_id AND old.seq < feeds.seq",
    )
