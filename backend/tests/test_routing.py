"""StrictRoute and the fast path read a request as FastAPI's own route does."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from typing import Annotated, Any

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
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from src.dependencies import IdInPath, IfNoneMatch, KeyInHeader, UserInPath
from src.framework.web.bodies import COUNTED_FROM, release
from src.framework.web.fast import DirectCall, FastPath, Unsupported
from src.framework.web.routing import (
    NOT_UTF8,
    StrictRoute,
    decode_path,
    joined_headers,
    parsed_body,
)
from src.main import app
from src.schemas.fields import EXAMPLE_ID
from src.schemas.task import SentCompletion, TaskCreate, TaskUpdate
from src.schemas.task_listing import TaskListing


async def say_errors(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [[list(item["loc"]), item["msg"], item["type"]] for item in error.errors()]
    return JSONResponse(errors, 422)


async def method_of(request: Request) -> str:
    return request.method


def application_of(route_class: type[APIRoute], *, is_fast: bool) -> FastAPI:
    router = APIRouter(route_class=route_class)

    @router.post("/{user_id}/{task_id}")
    async def create(
        user_id: UserInPath,
        task_id: IdInPath,
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
        completion: Annotated[SentCompletion, Body()] = None,
        idempotency_key: KeyInHeader = None,
    ) -> Response:
        return JSONResponse([user_id, completion, idempotency_key])

    @router.put("/{user_id}")
    async def update(user_id: UserInPath, changes: TaskUpdate) -> Response:
        return JSONResponse([user_id, dict(changes)])

    made = FastAPI(exception_handlers={RequestValidationError: say_errors})
    made.include_router(router)
    if is_fast:
        made.add_middleware(FastPath, application=made)
        made.add_middleware(ExceptionMiddleware, handlers=made.exception_handlers)
    return made


@cache
def applications() -> list[FastAPI]:
    """Applications with FastAPI's route, with our route, and with the fast path."""
    return [
        application_of(APIRoute, is_fast=False),
        application_of(StrictRoute, is_fast=False),
        application_of(StrictRoute, is_fast=True),
    ]


async def answers(method: str, url: str, **options: Any) -> list[tuple[int, object]]:  # noqa: ANN401 - httpx's
    """Return the answers of FastAPI's route, of our route, and of the fast path."""
    found = []
    for application in applications():
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.request(method, url, **options)
        found.append((answer.status_code, answer.json()))
    return found


PATHS = [f"/ada/{EXAMPLE_ID}", "/ada/7", f"/{'u' * 256}/7", "/ada"]
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
async def test_the_service_reads_a_request_like_fastapi(
    method: str, path: str, body: object
) -> None:
    first, *others = await answers(method, path, json=body)

    assert others == [first, first]


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
async def test_the_service_reads_a_query_and_a_header_like_fastapi(
    query: str, etag: str | None
) -> None:
    headers = {} if etag is None else {"If-None-Match": etag}
    first, *others = await answers("GET", f"/ada{query}", headers=headers)

    assert others == [first, first]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "body", [None, {}, {"completed": True}, {"completed": "yes"}, {"done": True}, [], 7]
)
@pytest.mark.parametrize("key", [None, "plain", '"quoted"', "~tilde~", "", "k" * 256])
async def test_the_service_reads_an_optional_body_like_fastapi(
    body: object, key: str | None
) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    first, *others = await answers("PATCH", "/ada", json=body, headers=headers)

    assert others == [first, first]


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
    "kind",
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
def test_fastapi_serves_an_endpoint_with_a_parameter_of_another_kind(kind: object) -> None:
    async def endpoint(more: str) -> Response:
        return Response(more)

    endpoint.__annotations__["more"] = kind

    with pytest.raises(Unsupported):
        DirectCall(StrictRoute("/", endpoint))


def answered_at_once(request: Request) -> None:
    """A guard that is not a coroutine."""


class MadeOfTheRequest:
    def __init__(self, request: Request) -> None: ...

    async def __call__(self, request: Request) -> None: ...


@pytest.mark.anyio
@pytest.mark.parametrize("guard", [opened, of_a_header, answered_at_once, MadeOfTheRequest])
async def test_fastapi_serves_an_endpoint_with_a_guard_of_another_kind(
    guard: Callable[..., object],
) -> None:
    async def endpoint() -> Response:
        return JSONResponse("reached")

    app = FastAPI()
    router = APIRouter(route_class=StrictRoute, dependencies=[Depends(guard)])
    router.add_api_route("/", endpoint)
    app.include_router(router)
    app.add_middleware(FastPath, application=app)
    [(_, calls)] = [each for each in FastPath(app, app).paths[1] if each[0].match("/")]
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/", headers={"name": "ada"})

    assert calls == {"GET": None}
    assert answer.json() == "reached"


@pytest.mark.parametrize("text", ["a", "a/b", "%", "%2F", "%25", "%0A", "a\n", "%2f%", "é"])
def test_the_service_reads_any_text_back_from_a_path(text: str) -> None:
    route = StrictRoute("/{name:segment}", answer_of("any"))
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
@pytest.mark.parametrize(
    ("every_path", "answered"),
    [
        (Mount("/new", JSONResponse("mounted")), 17),
        (StrictRoute("/new{rest:path}", answer_of("rest"), methods=["GET"]), 14),
    ],
    ids=["mounted", "path"],
)
async def test_the_fast_path_and_fastapis_router_find_the_same_endpoint(
    every_path: BaseRoute, answered: int, root_path: str
) -> None:
    router = APIRouter(route_class=StrictRoute)
    for method, path in [
        ("GET", "/{name}"),
        ("GET", "/new"),
        ("POST", "/new"),
        ("POST", "/{name}"),
        ("PUT", "/{name}"),
        ("GET", "/{name}/parts/{part}"),
    ]:
        router.add_api_route(path, answer_of(f"{method} {path}"), methods=[method])
    app = FastAPI()
    app.include_router(router)
    app.add_api_route("/plain", answer_of("plain"), methods=["DELETE"])
    app.router.routes += [StrictRoute("/{other}", answer_of("other"), methods=["DELETE"])]
    late = StrictRoute("/new/late", answer_of("late"), methods=["GET"])
    app.router.routes += [every_path, late]

    async def answers(application: ASGIApp) -> list[tuple[int, str]]:
        transport = httpx.ASGITransport(application, root_path=root_path)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as api:
            found = [
                await api.request(method, root_path + path)
                for method in ("GET", "POST", "PUT", "DELETE")
                for path in ("/new", "/ada", "/plain", "/ada/parts/1", "/new/late", "/a/b/c")
            ]
        return [(response.status_code, response.text) for response in found]

    of_fastapi = await answers(app)

    assert await answers(FastPath(app, app)) == of_fastapi
    assert [status for status, _ in of_fastapi].count(200) == answered


def test_a_list_of_fields_has_no_white_space_of_the_fields() -> None:
    sent = [
        (b"prefer", b"return=minimal \t"),
        (b"content-type", b"\tapplication/json "),
        (b"prefer", b" wait=5 "),
        (b"content-type", b"text/plain"),
    ]

    assert joined_headers(sent) == {
        "prefer": "return=minimal, wait=5",
        "content-type": "application/json",
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "must be valid JSON ("),
        ('{"title": "é"}'.encode("utf-16-le"), NOT_UTF8),
        ('{"title": "é"}'.encode("latin-1"), NOT_UTF8),
    ],
)
def test_the_error_says_whether_a_body_is_not_json_or_not_utf_8(body: bytes, said: str) -> None:
    with pytest.raises(RequestValidationError) as caught:
        parsed_body(body, "application/json", "POST")

    [error] = caught.value.errors()
    assert error["msg"].startswith(said)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("pieces", "held"),
    [([COUNTED_FROM], 0), ([COUNTED_FROM + 1], COUNTED_FROM + 1), ([1000, 10], 10)],
)
async def test_a_body_counts_if_it_is_large_or_comes_in_pieces(
    pieces: list[int], held: int
) -> None:
    left = [*pieces]

    async def receive() -> dict[str, object]:
        chunk = b"7" * left.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    scope: Scope = {"type": "http", "path_params": {"user_id": "ada"}}
    route = StrictRoute("/{user_id}", answer_of("any"))

    body = await route.read_body(Request(scope, receive), {})

    assert len(body) == sum(pieces)
    assert scope.get("held_bytes", 0) == held
    release(scope)


async def nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("FastAPI was asked")


@pytest.mark.anyio
async def test_the_fast_path_answers_without_fastapi() -> None:
    app = FastAPI()
    for method, path in [("GET", "/a"), ("POST", "/a"), ("GET", "/a/{name}"), ("PUT", "/b")]:
        route = StrictRoute(path, answer_of(f"{method} {path}"), methods=[method])
        app.router.routes.append(route)

    transport = httpx.ASGITransport(FastPath(nothing, app))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answers = [
            (await client.request(method, path)).text
            for method, path in [("GET", "/a"), ("POST", "/a"), ("GET", "/a/x"), ("PUT", "/b")]
        ]

    assert answers == ['"GET /a"', '"POST /a"', '"GET /a/{name}"', '"PUT /b"']


@pytest.mark.anyio
async def test_an_endpoint_has_the_members_of_a_scope_that_fastapis_router_sets() -> None:
    seen: list[Scope] = []

    async def endpoint(request: Request) -> Response:
        seen.append({name: request.scope[name] for name in ("path_params", "endpoint", "route")})
        return Response()

    app = FastAPI()
    app.router.routes.append(StrictRoute("/{name}", endpoint))
    for application in (app, FastPath(nothing, app)):
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/ada")

    assert seen[0] == seen[1]
    assert seen[1]["path_params"] == {"name": "ada"}
    assert seen[1]["endpoint"] is endpoint


@pytest.mark.anyio
@pytest.mark.parametrize("is_fast", [True, False])
async def test_the_guards_of_a_router_run_in_turn_before_the_body_is_read(is_fast: bool) -> None:
    ran: list[str] = []

    async def first(_request: Request) -> None:
        ran.append("first")

    async def second(_request: Request) -> None:
        ran.append("second")
        raise HTTPException(403)

    router = APIRouter(route_class=StrictRoute, dependencies=[Depends(first), Depends(second)])

    @router.post("/")
    async def create(_task: TaskCreate) -> Response:
        return Response()

    app = FastAPI()
    app.include_router(router)
    if is_fast:
        app.add_middleware(FastPath, application=app)
        app.add_middleware(ExceptionMiddleware, handlers=app.exception_handlers)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.post("/", content=b"no JSON")

    assert answer.status_code == 403
    assert ran == ["first", "second"]


def test_every_documented_endpoint_is_on_the_fast_path() -> None:
    middleware: list[object] = [each.cls for each in app.user_middleware]
    routes = [
        call.route
        for paths in FastPath(nothing, app).paths.values()
        for _, calls in paths
        for call in calls.values()
        if call
    ]
    on_it = {(method, route.path_format) for route in routes for method in route.methods or ()}
    documented = {
        (method.upper(), path)
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    }

    assert FastPath in middleware
    assert len(documented) >= 11
    assert documented <= on_it
