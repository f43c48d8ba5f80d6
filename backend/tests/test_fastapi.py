"""Everything that FastAPI's users expect of an application works here, too."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from math import inf
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, StreamingResponse

from src.config import Settings
from src.dependencies import get_engine
from src.framework.sql.exceptions import NotFound
from src.main import TaskAPI, create_app
from src.services.listeners import Listeners
from tests.tasks import assert_problem, tasks_path, unknown_path


@pytest.fixture
def app(engine: AsyncEngine) -> TaskAPI:
    made = create_app(Settings(auth_mode="open", log_level="warning"))
    made.engine = engine
    return made


@asynccontextmanager
async def calling(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        asyncio.timeout(10),  # httpx has no time limit for an application
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


class Greeting(BaseModel):
    text: str


@pytest.mark.anyio
async def test_an_application_may_add_a_plain_endpoint_at_any_time(app: TaskAPI) -> None:
    @app.get("/hello/{name}", response_model=Greeting)
    async def hello(name: str, loud: bool = False) -> dict[str, str]:
        return {"text": name.upper() if loud else name, "secret": "left out"}

    async with calling(app) as api:
        assert (await api.get("/hello/ada?loud=1")).json() == {"text": "ADA"}

        @app.get("/late")
        def late() -> str:
            return "in a thread"

        assert (await api.get("/late")).json() == "in a thread"
        assert (await api.get("/hello/ada?loud=maybe")).status_code == 422
        assert (await api.get(tasks_path("ada"))).json() == []


@pytest.mark.anyio
async def test_a_dependency_that_yields_and_background_tasks_work(app: TaskAPI) -> None:
    happened: list[str] = []

    async def session() -> AsyncIterator[str]:
        yield "session"
        happened.append("closed")

    @app.post("/jobs")
    async def start(name: Annotated[str, Depends(session)], tasks: BackgroundTasks) -> str:
        tasks.add_task(happened.append, "done")
        return name

    async with calling(app) as api:
        assert (await api.post("/jobs")).json() == "session"

    assert sorted(happened) == ["closed", "done"]


@pytest.mark.anyio
async def test_a_plain_endpoint_gets_no_longer_body_than_the_application_takes(
    app: TaskAPI,
) -> None:
    app.max_body_size = 10

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    async with calling(app) as api:
        assert (await api.post("/length", content=b"x" * 10)).json() == 10
        assert (await api.post("/length", content=b"x" * 11)).status_code == 413


@pytest.mark.anyio
async def test_an_included_router_and_a_mounted_application_work(app: TaskAPI) -> None:
    router = APIRouter(prefix="/more")
    sub = FastAPI()

    @router.get("/here")
    async def here() -> str:
        return "router"

    @sub.get("/there")
    async def there() -> str:
        return "application"

    app.include_router(router)
    app.mount("/sub", sub)

    async with calling(app) as api:
        assert (await api.get("/more/here")).json() == "router"
        assert (await api.get("/sub/there")).json() == "application"
        assert (await api.get("/sub")).status_code == 404
        assert (await api.get(tasks_path("ada"))).json() == []


@pytest.mark.anyio
async def test_added_middleware_sees_every_answer(app: TaskAPI) -> None:
    @app.middleware("http")
    async def mark(request: Request, call_next: Any) -> Response:  # noqa: ANN401 - Starlette's
        response: Response = await call_next(request)
        response.headers["X-Mark"] = str(response.status_code)
        if "endpoint" in request.scope:
            response.headers["X-Endpoint"] = request.scope["endpoint"].__name__
        return response

    app.add_middleware(GZipMiddleware, minimum_size=1)

    async with calling(app) as api:
        made = await api.post(tasks_path("ada"), json={"title": "Buy milk"})
        missing = await api.get(unknown_path("ada"))
        nowhere = await api.get("/nowhere")

    assert [each.headers["x-mark"] for each in (made, missing, nowhere)] == ["201", "404", "404"]
    assert made.headers["x-endpoint"] == "create_task"
    assert missing.headers["x-endpoint"] == "get_task"
    assert "x-endpoint" not in nowhere.headers
    assert missing.headers["content-encoding"] == "gzip"
    assert_problem(missing, 404, "Task not found")


@pytest.mark.anyio
async def test_a_replaced_handler_answers_our_errors(app: TaskAPI) -> None:
    @app.exception_handler(NotFound)
    def gone(_request: Request, _error: Exception) -> Response:
        return JSONResponse("gone", 410)

    @app.exception_handler(405)
    async def no(_request: Request, _error: Exception) -> Response:
        return JSONResponse("no", 405)

    async with calling(app) as api:
        assert (await api.get(unknown_path("ada"))).status_code == 410
        assert (await api.delete(tasks_path("ada"))).json() == "no"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Exception, 500, ZeroDivisionError])
async def test_a_handler_of_unexpected_errors_is_called(
    app: TaskAPI, kind: type[Exception] | int
) -> None:
    @app.exception_handler(kind)
    async def sorry(_request: Request, _error: Exception) -> Response:
        return JSONResponse("sorry", 500)

    @app.get("/fails")
    async def fails() -> float:
        return 1 / 0

    async with calling(app) as api:
        assert (await api.get("/fails")).json() == "sorry"


@pytest.mark.anyio
async def test_an_unhandled_error_is_our_500(app: TaskAPI) -> None:
    @app.get("/fails")
    async def fails() -> float:
        return 1 / 0

    async with calling(app) as api:
        response = await api.get("/fails")

    assert_problem(
        response,
        500,
        "An unexpected error ended the request; "
        "find this answer's X-Request-ID in the service's log",
    )


@pytest.mark.anyio
async def test_an_error_in_the_middle_of_an_answer_causes_no_second_answer(app: TaskAPI) -> None:
    async def numbers() -> AsyncIterator[bytes]:
        yield b"1"
        raise ZeroDivisionError

    @app.get("/breaks-off")
    async def breaks_off() -> Response:
        return StreamingResponse(numbers())

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as api:
        with pytest.raises(ZeroDivisionError):
            await api.get("/breaks-off")


@pytest.mark.anyio
async def test_a_dependency_of_another_kind_can_override_a_dependency(
    app: TaskAPI, engine: AsyncEngine
) -> None:
    used: list[str] = []

    def other_engine() -> Iterator[AsyncEngine]:
        used.append("other")
        yield engine

    del app.engine
    app.dependency_overrides[get_engine] = other_engine

    async with calling(app) as api:
        made = await api.post(tasks_path("ada"), json={"title": "Buy milk"})
        listed = await api.get(tasks_path("ada"))
        wrong = await api.post(tasks_path("ada"), json={"title": ""})

    assert listed.json() == [made.json()]
    assert wrong.status_code == 422
    assert used == ["other"] * 3


ODD_REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "", {"content": b'{"title": "%b"}' % (b"x" * 200_000)}),
    ("POST", "", {"content": b'{"title": "Buy milk", "description": NaN}'}),
    ("POST", "", {"content": b'{"title": "\xff"}'}),
    ("POST", "", {"content": b'{"title": "\\ud800"}'}),
    ("POST", "", {"content": b"[" * 1000}),
    ("POST", "", {"content": b"{}", "headers": {"Content-Encoding": "gzip"}}),
    ("POST", "", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
    ("POST", "", {"content": b'{"title": 7}'}),
    ("POST", "", {"content": b'{"title": %b}' % (b"7" * 5000)}),
    ("POST", "", {"content": b'{"title": "Buy milk", "it": %b}' % (b"7" * 20_000)}),
    ("POST", "", {"content": b"7" * 5000}),
    ("GET", "?q=%FF", {}),
    ("GET", "?limit=0&sort=colour", {}),
    ("GET", "", {"headers": [("If-None-Match", '"a"'), ("If-None-Match", "b")]}),
    ("GET", "/changes?since=", {}),
    ("GET", "/changes?since=x", {}),
    ("GET", "/7", {}),
    ("PATCH", "/7", {"content": b"{}", "headers": {"Content-Type": "application/json-patch+json"}}),
    ("PUT", "", {}),
    ("OPTIONS", "", {}),
]


@pytest.mark.anyio
async def test_an_override_and_the_fast_path_change_no_limit_and_no_sentence(
    engine: AsyncEngine,
) -> None:
    """All requests go to the same three applications: to make an application takes long."""
    answers: list[dict[str, tuple[int, bytes, str | None]]] = []
    for is_fast, overrides in [(True, {}), (True, {get_engine: lambda: engine}), (False, {})]:
        app = create_app(Settings(auth_mode="open", log_level="warning"), is_fast=is_fast)
        app.engine = engine
        app.listeners = Listeners(engine, app.stopping, inf, 100)
        app.dependency_overrides.update(overrides)
        said = {}
        async with calling(app) as api:
            for method, path, own in ODD_REQUESTS:
                options = {"headers": {"Content-Type": "application/json"}} | own
                answer = await api.request(method, tasks_path("ada") + path, **options)
                allowed = answer.headers.get("allow")
                said[f"{method} {path} {own}"] = (answer.status_code, answer.content, allowed)
        answers.append(said)
    fast, overridden, slow = answers

    assert len(fast) == len(ODD_REQUESTS)
    assert overridden == fast
    assert slow == fast
    assert [name for name, (status, _, _) in fast.items() if status >= 500] == []


@pytest.mark.anyio
@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_long_number_is_kept_with_and_without_the_fast_path(
    engine: AsyncEngine, is_fast: bool
) -> None:
    app = create_app(Settings(auth_mode="open", log_level="warning"), is_fast=is_fast)
    app.engine = engine
    number = "7" * 5000

    async with calling(app) as api:
        body = f'{{"title": "Buy milk", "it": {number}}}'
        headers = {"Content-Type": "application/json"}
        made = await api.post(tasks_path("ada"), content=body, headers=headers)
        patched = await api.patch(
            made.headers["location"], content=f'{{"it": [-{number}]}}', headers=headers
        )

    assert made.text.endswith(f'"it": {number}}}')
    assert patched.text.endswith(f'"it": [-{number}]}}')
