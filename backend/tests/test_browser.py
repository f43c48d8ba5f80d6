"""A browser without internet shows our pages. A page of the frontend may use the service."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.browsing import HOSTS, at, browsing, published
from tests.serving import BACKEND, Server, serving
from tests.tasks import listed
from tests.test_http import ADDED_HEADERS
from tests.tokens import SECRET, TokenOfThePath, token

GUIDE = BACKEND.parent / "specs/003-spa-features/spa.md"

OPEN = pytest.mark.parametrize("server", ["open"], indirect=True)
CLOSED = pytest.mark.parametrize("server", ["jwt"], indirect=True)


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with browsing(chromium) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    # Without the pages' own policy: the test has to see requests that the policy would block.
    context = browser.new_context(bypass_csp=True)
    yield context.new_page()
    context.close()


@pytest.fixture
def refused(page: Page, server: Server) -> list[str]:
    """Block all hosts but the service, and collect the page's requests to blocked hosts."""
    refused: list[str] = []

    def decide(route: Route, request: Request) -> None:
        if request.url.startswith(at(server, "/")):
            route.continue_()
        else:
            refused.append(request.url)
            route.abort()

    page.route("**/*", decide)
    return refused


def errors_of(page: Page) -> list[str]:
    """Return a list, to which the page's later errors are added."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    return errors


@CLOSED
def test_redoc_works_with_no_internet(page: Page, server: Server, refused: list[str]) -> None:
    errors = errors_of(page)

    page.goto(at(server, "/redoc"))

    expect(page.get_by_role("heading", name="Create a task")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert refused == []
    assert errors == []


SPA = """
async (api) => {
    const tasks = `${api}/api/ada%20%2F%20${crypto.randomUUID?.() ?? Math.random()}/tasks`;
    const call = async (method, url, body) => {
        const answer = await fetch(url, {
            method,
            credentials: "include",
            headers: { "Content-Type": "application/json" },
            body: body && JSON.stringify(body),
        });
        return [answer.status, await answer.json(), answer.headers];
    };
    const [created, task, headers] = await call("POST", tasks, { title: "Buy milk" });
    const one = api + headers.get("Location");
    const [listed, all] = await call("GET", tasks);
    const [got, same] = await call("GET", one);
    const [updated, renamed] = await call("PUT", one, { title: "Buy bread" });
    const [toggled, done] = await call("PATCH", `${one}/complete`);
    const [deleted, message] = await call("DELETE", one);
    const [missing, problem, missingHeaders] = await call("GET", one);
    return {
        statuses: [created, listed, got, updated, toggled, deleted, missing],
        all: all.map(({ id }) => id === task.id),
        same: same.id === task.id,
        title: renamed.title,
        done: done.completed,
        message: message.message,
        detail: problem.detail,
        requestId: missingHeaders.get("X-Request-ID") !== null,
        age: Math.abs(Date.now() - new Date(task.created_at)) < 60000,
    };
}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the frontend's page, which is not a page of the service."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def frontend(site: Path) -> Iterator[str]:
    """The origin of the frontend's page."""
    with published(site) as origin:
        yield origin


@pytest.fixture(scope="module")
def services(
    frontend: str, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Server]]:
    """Two services that let the frontend in: one with tokens, one without."""
    folder = tmp_path_factory.mktemp("services")
    both = {"DATABASE_URL": postgres, "CORS_ORIGINS": frontend}
    with (
        serving(folder / "open", **both) as without_tokens,
        serving(folder / "jwt", AUTH_MODE="jwt", AUTH_SECRET=SECRET, **both) as with_tokens,
    ):
        with_tokens.auth = TokenOfThePath()
        yield {"open": without_tokens, "jwt": with_tokens}


def test_a_page_of_the_frontends_origin_calls_all_six_endpoints(
    page: Page, frontend: str, services: dict[str, Server]
) -> None:
    page.goto(frontend)
    result = page.evaluate(SPA, services["open"].url)

    assert result == {
        "statuses": [201, 200, 200, 200, 200, 200, 404],
        "all": [True],
        "same": True,
        "title": "Buy bread",
        "done": True,
        "message": "Task deleted successfully",
        "detail": "Task not found",
        "requestId": True,
        "age": True,
    }


NEWER_FEATURES = """
async ([api, user, token]) => {
    const tasks = `${api}/api/${user}/tasks`;
    const call = async (method, url, { body, ...headers } = {}) => {
        const answer = await fetch(url, {
            method,
            credentials: "include",
            headers: { Authorization: `Bearer ${token}`, ...headers },
            body: body && JSON.stringify(body),
        });
        return { status: answer.status, headers: answer.headers, text: await answer.text() };
    };
    const json = { "Content-Type": "application/json" };
    const once = { ...json, "Idempotency-Key": '"one"', body: { title: "Buy milk" } };
    const [first, again] = [await call("POST", tasks, once), await call("POST", tasks, once)];
    const one = api + first.headers.get("Location");
    const etag = first.headers.get("ETag");
    await call("POST", tasks, { ...json, body: { title: "Buy bread" } });
    const merge = { "Content-Type": "application/merge-patch+json", "If-Match": etag };
    const patched = await call("PATCH", one, { ...merge, body: { title: "Buy oat milk" } });
    const late = await call("PATCH", one, { ...merge, body: { title: "Buy soy milk" } });
    const known = {
        "If-None-Match": patched.headers.get("ETag"),
        "Cache-Control": "no-cache",
        Pragma: "no-cache",
        Prefer: "return=representation",
        "X-Requested-With": "XMLHttpRequest",
        "Last-Event-ID": "1",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate: "a=1",
        baggage: "b=1",
    };
    const notModified = await call("GET", one, known);
    const page = await call("GET", `${tasks}?limit=1`);
    const next = page.headers.get("Link").match(/<(.*)>; rel="next"/)[1];
    const last = await call("GET", api + next);
    const stranger = await call("GET", `${api}/api/bob/tasks`);
    const nobody = await fetch(tasks, { credentials: "include" });
    return {
        statuses: [first, again, patched, late, notModified, stranger].map(({ status }) => status),
        same: first.text === again.text,
        pages: [page, last].map(({ text }) => JSON.parse(text).map(({ title }) => title)),
        end: last.headers.get("Link"),
        challenge: [nobody.status, nobody.headers.get("WWW-Authenticate")],
    };
}
"""


def test_a_page_of_the_frontends_origin_sends_and_reads_every_header(
    page: Page, frontend: str, services: dict[str, Server], user: str
) -> None:
    page.goto(frontend)
    result = page.evaluate(NEWER_FEATURES, [services["jwt"].url, user, token(user)])

    assert result == {
        "statuses": [201, 201, 200, 412, 304, 403],
        "same": True,
        "pages": [["Buy oat milk"], ["Buy bread"]],
        "end": None,
        "challenge": [401, "Bearer"],
    }


@dataclass
class Guide:
    """A page of the frontend, and a service that lets the page in.

    The page runs the code blocks of spa.md.
    """

    page: Page
    server: Server
    user: str

    def run(self, script: str) -> Any:  # noqa: ANN401 - what the page makes of it
        """Run the code blocks, and then this script."""
        blocks = re.findall(r"^```js\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
        without_tokens, with_tokens, *others = blocks
        first = with_tokens if self.server.auth else without_tokens
        here = first.replace("http://127.0.0.1:8000", self.server.url)
        here = "\n".join([here.replace('"ada"', f'"{self.user}"'), *others, script])
        return self.page.evaluate(f"async () => {{ {here} }}")

    def titles(self) -> list[str]:
        with self.server.client() as api:
            return [task["title"] for task in listed(api, self.user)]


@pytest.fixture
def guide(
    request: pytest.FixtureRequest,
    page: Page,
    site: Path,
    frontend: str,
    services: dict[str, Server],
    user: str,
) -> Guide:
    sign_in = site / "api" / "auth"
    sign_in.mkdir(parents=True, exist_ok=True)
    (sign_in / "token").write_text(f'{{"token": "{token(user)}"}}')
    page.goto(frontend)
    return Guide(page, services[getattr(request, "param", "open")], user)


@pytest.mark.parametrize("guide", ["open", "jwt"], indirect=True)
def test_the_code_of_the_guide_for_pages_works(guide: Guide) -> None:
    result = guide.run("""
        await create({ title: "Buy bread" }, crypto.randomUUID());
        const pages = [];
        for await (const { title } of list("limit=1")) pages.push(title);
        const wrong = await create({ title: "" }, crypto.randomUUID()).catch(String);
        return { pages, saved: saved.task.title, wrong };
    """)

    assert result == {
        "pages": ["Buy oat milk", "Buy bread"],
        "saved": "Buy oat milk",
        "wrong": "Error: title: must have 1 to 500 characters",
    }
    assert guide.titles() == ["Buy oat milk", "Buy bread"]


def test_the_guides_create_makes_one_task_after_a_lost_answer_and_two_clicks(
    guide: Guide,
) -> None:
    guide.run("""
        const real = window.fetch;
        window.fetch = async (...request) => {
            await real(...request);
            window.fetch = real;
            throw new TypeError("Failed to fetch");
        };
        const form = crypto.randomUUID();
        const bread = { title: "Buy bread" };
        await Promise.all([create(bread, form), create(bread, form)]);
    """)

    assert guide.titles() == ["Buy oat milk", "Buy bread"]


@pytest.mark.parametrize(
    ("theirs", "overwrite", "asked", "title", "description"),
    [
        ({"description": "Rye"}, "false", [], "Mine", "Rye"),
        ({"title": "Mine"}, "false", [], "Mine", None),
        ({"title": "Theirs"}, "false", [["Theirs", "title"]], "Theirs", None),
        ({"title": "Theirs"}, "true", [["Theirs", "title"]], "Mine", None),
    ],
    ids=["merges", "knows its own change", "asks and keeps", "asks and overwrites"],
)
def test_the_guides_save_loses_nobodys_change(
    guide: Guide,
    theirs: dict[str, str],
    overwrite: str,
    asked: list[list[str]],
    title: str,
    description: str | None,
) -> None:
    result = guide.run(f"""
        const before = await get(id);
        await save(before, {theirs}, () => {{ throw new Error("nobody else changed it"); }});
        const asked = [];
        const {{ task, etag }} = await save(before, {{ title: "Mine" }}, async (now, names) => {{
            asked.push([now.title, ...names]);
            return {overwrite};
        }});
        return {{ task, asked, isCurrent: etag === (await get(id)).etag }};
    """)

    assert (result["task"]["title"], result["task"]["description"]) == (title, description)
    assert result["asked"] == asked
    assert result["isCurrent"]
    assert guide.titles() == [title]


CALL = """
async (url, headers) => {
    try {
        return (await fetch(url, { method: "PUT", headers })).status;
    } catch (error) {
        return String(error);
    }
}
"""


@OPEN
def test_with_the_embedded_database_only_loopback_pages_are_admitted(
    page: Page, frontend: str, server: Server
) -> None:
    url, port = f"{server.url}/api/ada/tasks", urlsplit(frontend).port
    for host, outcome in [
        ("localhost", 405),
        ("127.0.0.1", 405),
        ("app.localhost", 405),
        (HOSTS["jwt"], "TypeError: Failed to fetch"),
    ]:
        page.goto(f"http://{host}:{port}")
        assert page.evaluate(f"(url) => ({CALL})(url, {{}})", url) == outcome, host


@pytest.mark.parametrize("mode", ["open", "jwt"])
def test_a_page_of_the_frontends_origin_may_add_any_header(
    page: Page, frontend: str, services: dict[str, Server], user: str, mode: str
) -> None:
    added = dict.fromkeys(ADDED_HEADERS, "1") | {"Authorization": f"Bearer {token(user)}"}
    url = f"{services[mode].url}/api/{user}/tasks"
    page.goto(frontend)

    for headers in [added, *({name: "1"} for name in ADDED_HEADERS)]:
        sent = headers | {"Authorization": added["Authorization"]}
        assert page.evaluate(f"([url, sent]) => ({CALL})(url, sent)", [url, sent]) == 405


def test_a_page_of_an_origin_that_was_not_named_cannot_call_the_api(
    page: Page, frontend: str, services: dict[str, Server]
) -> None:
    page.goto(frontend.replace("localhost", "127.0.0.1"))

    outcome = page.evaluate(
        "(url) => fetch(url).then(() => 'read', () => 'refused')",
        f"{services['open'].url}/api/ada/tasks",
    )

    assert outcome == "refused"


@OPEN
def test_a_page_cannot_reach_a_service_without_tokens_under_the_pages_name(
    page: Page, server: Server
) -> None:
    """DNS rebinding: the page's name resolves to loopback, so page and service have one origin."""
    rebound = f"http://{HOSTS['jwt']}:{urlsplit(server.url).port}"

    answer = page.goto(f"{rebound}/health/live")
    assert answer is not None
    assert answer.status == 421
    assert page.evaluate("fetch('/api/ada/tasks').then(({ status }) => status)") == 421
