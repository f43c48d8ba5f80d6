"""What a browser with no internet sees, and what a page of the frontend may do."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect, sync_playwright

from tests.serving import Server, serving

# Not localhost: some pages leave their calls to other hosts out there.
HOST = "tasks.example"


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--host-resolver-rules=MAP {HOST} 127.0.0.1",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    # What the pages' own policy would refuse is to be seen here.
    context = browser.new_context(bypass_csp=True)
    yield context.new_page()
    context.close()


@pytest.fixture
def refused(page: Page, server: Server) -> list[str]:
    """Refuse the page everything but the service, and note what it asked for."""
    refused: list[str] = []

    def decide(route: Route, request: Request) -> None:
        if urlsplit(request.url).netloc == f"{HOST}:{urlsplit(server.url).port}":
            route.continue_()
        else:
            refused.append(request.url)
            route.abort()

    page.route("**/*", decide)
    return refused


def at(server: Server, path: str) -> str:
    return f"http://{HOST}:{urlsplit(server.url).port}{path}"


def errors_of(page: Page) -> list[str]:
    """All that the page complains of from now on."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    return errors


def test_docs_work_with_no_internet_and_try_an_operation_out(
    page: Page, server: Server, refused: list[str]
) -> None:
    errors = errors_of(page)

    page.goto(at(server, "/docs"))
    expect(page.locator(".opblock")).to_have_count(8)
    create = page.locator("#operations-tasks-createTask")
    create.locator(".opblock-summary").click()
    create.locator("[placeholder=user_id]").fill("ada / 😀")
    create.get_by_role("button", name="Execute").click()

    answer = create.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("201")
    expect(answer).to_contain_text('"title": "Buy milk"')
    expect(answer).to_contain_text('"user_id": "ada / 😀"')
    assert refused == []
    assert errors == []


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


@pytest.fixture
def frontend(tmp_path: Path) -> Iterator[str]:
    """The origin of a page that is not the service's."""
    (tmp_path / "index.html").write_text("<!doctype html><title>Frontend</title>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path)) as httpd:
        thread = Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://localhost:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_a_page_of_the_frontends_origin_calls_all_six_endpoints(
    page: Page, frontend: str, postgres: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres, CORS_ORIGINS=frontend) as server:
        page.goto(frontend)
        result = page.evaluate(SPA, server.url)

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


def test_a_page_of_any_other_origin_may_not(page: Page, frontend: str, server: Server) -> None:
    page.goto(frontend)

    outcome = page.evaluate(
        "(url) => fetch(url).then(() => 'read', () => 'refused')", f"{server.url}/api/ada/tasks"
    )

    assert outcome == "refused"
