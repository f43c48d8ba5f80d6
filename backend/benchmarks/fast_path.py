"""Measure what the fast path saves: `python -m benchmarks.fast_path`.

The service answers requests in this process, with rows from memory. So only the service's own work
counts. The result is the processor time for one request in microseconds, in the fastest of several
rounds.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from typing import Any

import jwt
from starlette.types import Message, Scope

from src.config import Settings
from src.framework.sql import rows
from src.main import TaskAPI, create_app
from src.schemas.fields import EXAMPLE_ID

REQUESTS, ROUNDS = 1000, 10
SECRET = "of-the-benchmark-of-the-fast-path-only"
ROW = (
    b'{"id":"%b","user_id":"ada","title":"Buy milk","description":null,"completed":false,'
    b'"priority":"medium","due_date":null,"tags":[],"created_at":"2026-11-21T09:30:00.123456+00:00",'
    b'"updated_at":"2026-11-21T09:30:00.123456+00:00"}' % EXAMPLE_ID.encode()
)
LIST = "/api/ada/tasks"
BODY = b'{"title":"Buy bread"}'
KINDS = {
    "get": ("GET", f"{LIST}/{EXAMPLE_ID}", b"", b""),
    "update": ("PUT", f"{LIST}/{EXAMPLE_ID}", b"", BODY),
    "create": ("POST", LIST, b"", BODY),
    "list": ("GET", LIST, b"limit=2&sort=-updated_at", b""),
}


async def fetch(*_: object, **_values: object) -> bytes:
    return ROW


async def fetch_into(
    _engine: object,
    _statement: object,
    gather: Callable[[list[bytes]], Awaitable[object]],
    **_: object,
) -> object:
    return await gather([ROW, ROW])


def scope_of(method: str, path: str, query: bytes, body: bytes, token: str) -> Scope:
    headers = [(b"host", b"localhost:8000"), (b"authorization", f"Bearer {token}".encode())]
    if body:
        about = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += about
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 4000),
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": headers,
        "state": {},
    }


async def microseconds(app: TaskAPI, kind: str) -> float:
    method, path, query, body = KINDS[kind]
    token = jwt.encode({"sub": "ada", "exp": int(time.time()) + 3600}, SECRET, "HS256")
    statuses: set[int] = set()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if "status" in message:
            statuses.add(message["status"])

    best = float("inf")
    for _ in range(ROUNDS):
        scopes = [scope_of(method, path, query, body, token) for _ in range(REQUESTS)]
        gc.collect()
        began = time.process_time()
        for scope in scopes:
            await app(scope, receive, send)
        best = min(best, (time.process_time() - began) / REQUESTS * 1e6)
    if not statuses <= {200, 201}:
        raise RuntimeError(f"{kind} was answered with {statuses}")
    return best


async def main() -> None:
    settings: dict[str, Any] = {"auth_mode": "jwt", "auth_secret": SECRET, "log_level": "warning"}
    apps = {
        "fast path": create_app(Settings(**settings)),
        "FastAPI": create_app(Settings(**settings), is_fast=False),
    }
    names: Any = rows
    names.fetch, names.fetch_all, names.fetch_into = fetch, None, fetch_into
    names.is_distributed = lambda _: False
    for app in apps.values():
        app.engine = None  # type: ignore[assignment]  # rows come from memory
    gc.disable()
    print(f"{'µs':8}{''.join(f'{name:>12}' for name in apps)}")
    for kind in KINDS:
        took = [await microseconds(app, kind) for app in apps.values()]
        print(f"{kind:8}{''.join(f'{each:12.1f}' for each in took)}")


if __name__ == "__main__":
    asyncio.run(main())
