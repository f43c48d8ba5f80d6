"""Pages that show each change as it happens, with the code of the documents."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from tests.browsing import browsing, published
from tests.conftest import execute
from tests.faults.gate import Gate, gate
from tests.serving import BACKEND, Server, eventually, free_port, serving
from tests.tasks import create, listed, task_path, tasks_path
from tests.test_changes import token as token_of_now
from tests.tokens import SECRET, TokenOfThePath, token

TOP = BACKEND.parent
DOCUMENTS = {"long poll": TOP / "specs/following.md", "stream": TOP / "specs/005-changes/spa.md"}

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
    """The origin of a site that does not belong to the service."""
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
    """The settings of a service without tokens that starts again and again on one port."""
    return {"DATABASE_URL": postgres, "CORS_ORIGINS": frontend, "PORT": str(free_port())}


@pytest.fixture
def api(closed: Server) -> Iterator[httpx.Client]:
    with closed.client() as client:
        yield client


@pytest.fixture
def network(closed: Server) -> Iterator[Gate]:
    """The way from a page to the service."""
    with gate(int(closed.url.rpartition(":")[2])) as network:
        yield network


def lose(page: Page, network: Gate) -> None:
    """Take the page offline, and end its open requests, which the browser would let go on."""
    page.context.set_offline(True)
    network.fall_silent()
    network.cut()


def find(page: Page, network: Gate) -> None:
    network.pass_again()
    page.context.set_offline(False)


@dataclass
class Tabs:
    """Pages of one user, each in a browser of its own, that show the titles of the user's tasks."""

    browser: Browser
    frontend: str
    server: Server
    user: str
    document: Path
    contexts: list[BrowserContext] = field(default_factory=list)
    under_way: dict[Page, set[Request]] = field(default_factory=dict)

    def open(self, port: int | None = None) -> Page:
        """Open a page that reaches the service through this port."""
        context = self.browser.new_context()
        self.contexts.append(context)
        page = context.new_page()
        requests = self.under_way[page] = set()
        page.on("request", lambda request: requests.update({request}))
        for ended in ("requestfinished", "requestfailed"):
            page.on(ended, lambda request: requests.difference_update({request}))
        page.clock.install()
        page.goto(self.frontend)
        sent = json.dumps({"Authorization": f"Bearer {token(self.user)}"})
        url = f"http://127.0.0.1:{port}" if port else self.server.url
        shown = SHOW % (sent, json.dumps(url + tasks_path(self.user)))
        page.evaluate(f"() => {{ {code(self.document)} {shown} }}")
        return page

    def wait_until_idle(self, page: Page, seconds: float = 30) -> None:
        """Wait until the page has an answer to each of its requests."""
        deadline = time.monotonic() + seconds
        while self.under_way[page]:
            assert time.monotonic() < deadline
            page.wait_for_timeout(20)


@pytest.fixture(params=DOCUMENTS)
def tabs(
    request: pytest.FixtureRequest, browser: Browser, frontend: str, closed: Server, user: str
) -> Iterator[Tabs]:
    tabs = Tabs(browser, frontend, closed, user, DOCUMENTS[request.param])
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


def test_a_page_shows_the_changes_of_another_page(
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


def test_a_page_first_shows_the_tasks_from_before_its_start(
    tabs: Tabs, api: httpx.Client, user: str
) -> None:
    create(api, user, title="a")
    create(api, user, title="b")

    page = tabs.open()

    shows(page, "a", "b")


def test_a_page_without_a_network_misses_no_change(
    tabs: Tabs, network: Gate, api: httpx.Client, user: str
) -> None:
    changed, deleted = create(api, user, title="a"), create(api, user, title="b")
    page, other = tabs.open(network.port), tabs.open()
    shows(page, "a", "b")
    lose(page, network)

    api.patch(task_path(changed), json={"title": "z"})
    api.delete(task_path(deleted))
    short = create(api, user, title="c")
    api.delete(task_path(short))
    create(api, user, title="d")
    shows(other, "z", "d")
    shows(page, "a", "b")
    find(page, network)

    shows(page, "z", "d")


@pytest.mark.parametrize("tabs", ["stream"], indirect=True)
def test_a_page_that_gets_no_event_begins_anew(
    tabs: Tabs, network: Gate, api: httpx.Client, user: str
) -> None:
    page = tabs.open(network.port)
    create(api, user, title="a")
    shows(page, "a")
    network.fall_silent()
    create(api, user, title="b")

    with page.expect_request("**/changes?since=*"):
        page.clock.fast_forward(46_000)
    network.pass_again()

    shows(page, "a", "b")


def test_a_page_shows_the_changes_of_an_event_that_arrives_in_pieces(
    tabs: Tabs, api: httpx.Client, user: str
) -> None:
    """An event has at most 128 KiB, and the service writes 32 KiB at once."""
    page = tabs.open()
    create(api, user, title="first")
    shows(page, "first")
    titles = [f"task {number}" for number in range(60)]
    tasks = [{"title": title, "description": "é" * 5000} for title in titles]

    operations = [{"op": "create", "task": task} for task in tasks]
    answer = api.post(f"{tasks_path(user)}/batch", json={"operations": operations})

    assert answer.status_code == 200
    page.wait_for_function(
        "(titles) => document.body.textContent.split(', ').sort().join() === titles.sort().join()",
        arg=["first", *titles],
        timeout=15_000,
    )


def test_a_page_shows_any_text(tabs: Tabs, api: httpx.Client, user: str) -> None:
    page = tabs.open()
    titles = ["first"]
    create(api, user, title="first")
    shows(page, "first")

    for title in ["a\u2028b\u2029c", "\\n\\n", 'data: "x"', "🥛ß" * 100]:
        create(api, user, title=title)
        titles.append(title)

        page.wait_for_function(
            "(titles) => document.body.textContent === titles.join(', ')",
            arg=titles,
            timeout=15_000,
        )


def hidden(page: Page, is_hidden: str) -> None:
    page.evaluate(f"""() => {{
        Object.defineProperty(document, "hidden", {{ value: {is_hidden}, configurable: true }});
        document.dispatchEvent(new Event("visibilitychange"));
    }}""")


def test_a_hidden_page_sends_no_request_and_shows_all_changes_once_visible(
    tabs: Tabs, api: httpx.Client, user: str
) -> None:
    page, other = tabs.open(), tabs.open()
    create(api, user, title="a")
    shows(page, "a")
    hidden(page, "true")
    create(api, user, title="b")
    shows(other, "a", "b")
    tabs.wait_until_idle(page)  # the page may have sent a request before it was hidden
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.fast_forward(6_000)  # longer than any pause
    create(api, user, title="c")
    shows(other, "a", "b", "c")
    assert "c" not in page.locator("body").inner_text()
    assert asked == []

    hidden(page, "false")

    shows(page, "a", "b", "c")


def test_a_page_that_was_sent_away_comes_back_once_visible(
    browser: Browser, frontend: str, postgres: str, api: httpx.Client, user: str, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": postgres, "CORS_ORIGINS": frontend, "LIVE_IDLE_SECONDS": "2"}
    with serving(tmp_path / "log", AUTH_MODE="open", **settings) as server:
        tabs = Tabs(browser, frontend, server, user, DOCUMENTS["stream"])
        page = tabs.open()
        assert eventually(lambda: "GET /api/{user_id}/tasks/changes 200" in server.log)
        tabs.wait_until_idle(page)  # Playwright counts the page's requests only while it waits
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.clock.fast_forward(60_000)
        create(api, user, title="a")
        hidden(page, "true")
        assert asked == []

        hidden(page, "false")

        shows(page, "a")
        page.context.close()


def forget(postgres: str, user: str) -> None:
    """Delete all changes but the last, as the service does when they are old."""
    old = f"""
        DELETE FROM changes AS old USING feeds
        WHERE old.user_id = '{user}' AND feeds.user_id = old.user_id AND old.seq < feeds.seq
    """
    with start_blocking_portal() as portal:  # this thread runs the browser's event loop
        portal.call(execute, postgres, old)


def test_a_page_whose_token_is_gone_begins_with_the_list(
    tabs: Tabs, network: Gate, api: httpx.Client, postgres: str, user: str
) -> None:
    deleted = create(api, user, title="a")
    page = tabs.open(network.port)
    shows(page, "a")
    lose(page, network)

    api.delete(task_path(deleted))
    create(api, user, title="b")
    forget(postgres, user)
    find(page, network)

    shows(page, "b")


LISTEN = """
() => {
    %s
    window.heard = [];
    const hear = ({ changes }) => heard.push(...changes.map(({ title }) => title));
    const startOver = (problem) => { window.over = problem?.status ?? "closed"; };
    window.source = listen(%s, %s, hear, startOver);
}
"""


def listening(browser: Browser, frontend: str, server: Server, user: str, since: str) -> Page:
    page = browser.new_context().new_page()
    page.goto(frontend)
    blocks = code(DOCUMENTS["stream"])
    page.evaluate(LISTEN % (blocks, json.dumps(server.url + tasks_path(user)), json.dumps(since)))
    return page


def titles_heard(page: Page) -> list[str]:
    heard: list[str] = page.evaluate("heard")
    return heard


def test_an_event_source_misses_no_change_when_the_service_restarts(
    browser: Browser,
    frontend: str,
    restarting: dict[str, str],
    api: httpx.Client,
    user: str,
    tmp_path: Path,
) -> None:
    since = token_of_now(api, user)
    with serving(tmp_path / "first", **restarting) as server:
        page = listening(browser, frontend, server, user, since)
        create(api, user, title="a")
        assert eventually(lambda: titles_heard(page) == ["a"])
    create(api, user, title="b")

    with serving(tmp_path / "second", **restarting):
        assert eventually(lambda: titles_heard(page) == ["a", "b"], seconds=20)
        create(api, user, title="c")
        assert eventually(lambda: titles_heard(page) == ["a", "b", "c"])
        page.context.close()


def test_an_event_source_gets_the_problem_of_a_position_that_is_gone(
    browser: Browser,
    frontend: str,
    restarting: dict[str, str],
    api: httpx.Client,
    user: str,
    postgres: str,
    tmp_path: Path,
) -> None:
    create(api, user)
    since = token_of_now(api, user)
    create(api, user)
    forget(postgres, user)

    with serving(tmp_path / "log", **restarting) as server:
        page = listening(browser, frontend, server, user, since)
        page.wait_for_function("() => window.over")

        assert page.evaluate("over") == 410
        assert page.evaluate("source.readyState === EventSource.CLOSED")
        page.context.close()


def test_an_event_source_cannot_send_a_token_and_is_closed_for_good(
    browser: Browser, frontend: str, closed: Server, api: httpx.Client, user: str
) -> None:
    page = listening(browser, frontend, closed, user, token_of_now(api, user))

    page.wait_for_function("() => window.over")

    assert page.evaluate("over") == "closed"
    assert page.evaluate("source.readyState === EventSource.CLOSED")
    page.context.close()
