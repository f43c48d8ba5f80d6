"""DirectRoute reads a request like FastAPI's own route, or raises TypeError."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Annotated

import httpx
import pytest
from fastapi import (
    APIRouter,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
    Response,
)
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import ASGIApp, Scope

from src.dependencies import TASK_ID, IdempotencyKey, IfNoneMatch, TaskId, UserInPath
from src.framework.web.routing import DirectRoute, DirectRoutes, decode_path
from src.main import app
from src.schemas.listing import TaskListing
from src.schemas.task import CompletionOrNone, TaskCreate, TaskUpdate


async def say_errors(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [[list(item["loc"]), item["msg"], item["type"]] for item in error.errors()]
    return JSONResponse(errors, 422)


async def method_of(request: Request) -> str:
    return request.method


def application_of(route_class: type[APIRoute]) -> FastAPI:
    router = APIRouter(route_class=route_class)

    @router.post("/{user_id}/{task_id}")
    async def create(
        user_id: UserInPath,
        task_id: TaskId,
        task: TaskCreate,
        request: Request,
        method: Annotated[str, Depends(method_of)],
    ) -> Response:
        read = [user_id, str(task_id), task.model_dump(), request.url.path, method]
        return JSONResponse(read)

    @router.get("/{user_id}")
    async def list_tasks(
        user_id: UserInPath,
        listing: Annotated[TaskListing, Query()],
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        return JSONResponse([user_id, listing.model_dump(mode="json"), if_none_match])

    @router.patch("/{user_id}")
    async def set_completed(
        user_id: UserInPath,
        completion: Annotated[CompletionOrNone, Body()] = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        return JSONResponse([user_id, completion, idempotency_key])

    @router.put("/{user_id}")
    async def update(user_id: UserInPath, changes: TaskUpdate) -> Response:
        return JSONResponse([user_id, dict(changes)])

    made = FastAPI(exception_handlers={RequestValidationError: say_errors})
    made.router.routes += router.routes
    return made


PATHS = [f"/ada/{TASK_ID}", "/ada/7", f"/{'u' * 256}/7", "/ada"]
BODIES: list[object] = [
    None,
    {},
    [],
    "text",
    7,
    {"title": "Buy milk"},
    {"title": " Buy milk ", "description": None, "other": [1]},
    {"title": 7, "description": "d" * 5001},
    {"title": "", "completed": "yes"},
    {"completed": True, "description": ""},
]


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", PATHS, ids=["a task", "a bad id", "a long user", "a user"])
@pytest.mark.parametrize("body", BODIES, ids=repr)
async def test_a_request_is_read_as_fastapi_reads_it(method: str, path: str, body: object) -> None:
    answers = []
    for route_class in (APIRoute, DirectRoute):
        transport = httpx.ASGITransport(application_of(route_class))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.request(method, path, json=body)
        answers.append((answer.status_code, answer.json()))

    assert answers[0] == answers[1]


QUERIES = [
    "",
    "?limit=5&completed=true&q=milk&sort=-title&more=1",
    "?limit=0",
    "?limit=1001&sort=colour&completed=maybe&q=" + "q" * 501,
    "?limit=1&limit=2",
    "?cursor=nonsense",
    "?limit=",
    "?limit=1.0",
    "?completed=True",
    "?q=%00",
    "?q=a+b%20c",
]


@pytest.mark.anyio
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("etag", [None, "*", '"a"', 'W/"a", "b"', "a"])
async def test_a_query_and_a_header_are_read_as_fastapi_reads_them(
    query: str, etag: str | None
) -> None:
    answers = []
    for route_class in (APIRoute, DirectRoute):
        transport = httpx.ASGITransport(application_of(route_class))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {} if etag is None else {"If-None-Match": etag}
            answer = await client.get(f"/ada{query}", headers=headers)
        answers.append((answer.status_code, answer.json()))

    assert answers[0] == answers[1]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body", [None, {}, {"completed": True}, {"completed": "yes"}, {"done": True}, [], 7]
)
@pytest.mark.parametrize("key", [None, "plain", '"quoted"', "", "k" * 256])
async def test_an_optional_body_is_read_as_fastapi_reads_it(body: object, key: str | None) -> None:
    answers = []
    for route_class in (APIRoute, DirectRoute):
        transport = httpx.ASGITransport(application_of(route_class))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {} if key is None else {"Idempotency-Key": key}
            answer = await client.patch("/ada", json=body, headers=headers)
        answers.append((answer.status_code, answer.json()))

    assert answers[0] == answers[1]


async def opened() -> AsyncIterator[str]:
    yield "a session, say"


async def of_a_header(name: Annotated[str, Header()]) -> str:
    return name


class Changeable(BaseModel):
    tags: list[str] = []


class Demanding(BaseModel):
    model_config = ConfigDict(frozen=True)

    tag: str


@pytest.mark.parametrize(
    "asked",
    [
        Annotated[str, Depends(opened)],
        Annotated[str, Depends(of_a_header)],
        Annotated[str, Query()],
        Annotated[Changeable, Query()],
        Annotated[Demanding, Query()],
        Annotated[str, Cookie()],
        Response,
    ],
    ids=[
        "a yield dependency",
        "a dependency of more",
        "one query",
        "a query that requests would share and could change",
        "a query that must be given",
        "a cookie",
        "a response",
    ],
)
def test_an_endpoint_with_an_unsupported_parameter_is_a_type_error(asked: object) -> None:
    async def endpoint(more: str) -> Response:
        return Response(more)

    endpoint.__annotations__["more"] = asked

    with pytest.raises(TypeError, match="endpoint: a DirectRoute does not support more"):
        DirectRoute("/", endpoint)


def answered_at_once(request: Request) -> None:
    """Not a coroutine."""


class MadeOfTheRequest:
    def __init__(self, request: Request) -> None: ...

    async def __call__(self, request: Request) -> None: ...


@pytest.mark.parametrize("guard", [opened, of_a_header, answered_at_once, MadeOfTheRequest])
def test_a_guard_that_is_not_an_async_function_of_the_request_is_a_type_error(
    guard: Callable[..., object],
) -> None:
    async def endpoint() -> Response:
        return Response()

    router = APIRouter(route_class=DirectRoute, dependencies=[Depends(guard)])

    with pytest.raises(TypeError, match=re.escape(f"a DirectRoute does not support {guard}")):
        router.get("/")(endpoint)


@pytest.mark.parametrize("text", ["a", "a/b", "%", "%2F", "%25", "%0A", "a\n", "%2f%", "é"])
def test_a_path_that_is_made_of_any_text_leads_back_to_it(text: str) -> None:
    route = DirectRoute("/{name:segment}", answer_of("any"))
    url = httpx.URL(f"http://test{route.url_path_for(route.name, name=text)}")

    path = decode_path({"raw_path": url.raw_path})
    match, found = route.matches({"type": "http", "method": "GET", "path": path})

    assert match is Match.FULL
    assert found["path_params"] == {"name": text}


def answer_of(text: str) -> Callable[[], Awaitable[Response]]:
    async def endpoint() -> Response:
        return JSONResponse(text)

    return endpoint


@pytest.mark.anyio
@pytest.mark.parametrize("root_path", ["", "/prefix"])
async def test_a_direct_route_is_found_where_fastapis_router_finds_it(root_path: str) -> None:
    direct = APIRouter(route_class=DirectRoute)
    for method, path in [
        ("GET", "/{name}"),
        ("GET", "/new"),
        ("POST", "/new"),
        ("POST", "/{name}"),
        ("PUT", "/{name}"),
        ("GET", "/{name}/parts/{part}"),
    ]:
        direct.add_api_route(path, answer_of(f"{method} {path}"), methods=[method])
    app = FastAPI()
    app.router.routes += direct.routes
    app.add_api_route("/plain", answer_of("plain"), methods=["DELETE"])
    app.router.routes += [DirectRoute("/{other}", answer_of("other"), methods=["DELETE"])]
    app.mount("/new", JSONResponse("mounted"))
    app.router.routes += [
        DirectRoute("/new/late", answer_of("late"), methods=["GET"]),
    ]

    async def answers(routes: ASGIApp) -> list[tuple[int, str]]:
        app.middleware_stack = ExceptionMiddleware(AsyncExitStackMiddleware(routes))
        transport = httpx.ASGITransport(app, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as api:
            found = [
                await api.request(method, root_path + path)
                for method in ("GET", "POST", "PUT", "DELETE")
                for path in ("/new", "/ada", "/plain", "/ada/parts/1", "/new/late", "/a/b/c")
            ]
        return [(response.status_code, response.text) for response in found]

    asked_in_turn = await answers(app.router)

    assert await answers(DirectRoutes(app.router)) == asked_in_turn
    assert [status for status, _ in asked_in_turn].count(200) == 17


@pytest.mark.anyio
async def test_a_direct_route_is_found_without_asking_the_router() -> None:
    app = FastAPI()
    for method, path in [("GET", "/a"), ("POST", "/a"), ("GET", "/a/{name}"), ("PUT", "/b")]:
        route = DirectRoute(path, answer_of(f"{method} {path}"), methods=[method])
        app.router.routes.append(route)
    routes = DirectRoutes(app.router)
    routes.router = APIRouter()  # which has none
    app.middleware_stack = routes

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answers = [
            (await client.request(method, path)).text
            for method, path in [("GET", "/a"), ("POST", "/a"), ("GET", "/a/x"), ("PUT", "/b")]
        ]

    assert answers == ['"GET /a"', '"POST /a"', '"GET /a/{name}"', '"PUT /b"']


@pytest.mark.anyio
async def test_an_endpoint_finds_in_its_scope_what_fastapis_router_puts_there() -> None:
    seen: list[Scope] = []

    async def endpoint(request: Request) -> Response:
        seen.append(dict(request.scope))
        return Response()

    app = FastAPI()
    app.router.routes.append(DirectRoute("/{name}", endpoint))
    for routes in (app.router, DirectRoutes(app.router)):
        app.middleware_stack = routes
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/ada")

    assert seen[0] == seen[1]
    assert seen[1]["path_params"] == {"name": "ada"}
    assert seen[1]["endpoint"] is endpoint


@pytest.mark.anyio
async def test_the_guards_of_a_router_run_in_turn_before_the_body_is_read() -> None:
    ran: list[str] = []

    async def first(_request: Request) -> None:
        ran.append("first")

    async def second(_request: Request) -> None:
        ran.append("second")
        raise HTTPException(403)

    router = APIRouter(route_class=DirectRoute, dependencies=[Depends(first), Depends(second)])

    @router.post("/")
    async def create(_task: TaskCreate) -> Response:
        return Response()

    app = FastAPI()
    app.router.routes += router.routes
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post("/", content=b"no JSON")

    assert answer.status_code == 403
    assert ran == ["first", "second"]


def test_every_endpoint_is_called_without_generator_dependencies() -> None:
    routes = [route for route in app.routes if isinstance(route, APIRoute)]

    assert len(routes) >= 8
    for route in routes:
        assert isinstance(route, DirectRoute)
        for dependency in route.given_by.values():
            assert iscoroutinefunction(dependency)
