"""The feed as a stream of events, and as a request that waits until something changes."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, nullcontext
from functools import partial
from http.client import parse_headers
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.auth.exceptions import NotAuthenticated
from src.framework.sql import engine as engine_room
from src.framework.sql.engine import Statement
from src.framework.turns import Turns
from src.framework.web.events import WRITE_BYTES, EventStream
from src.schemas.task import TaskCreate
from src.services import feed_service, listeners, task_service
from src.services.feed_service import MOVED, SINCE
from src.services.listeners import EVENT_BYTES, READERS, Listeners, TurnToWrite
from tests.conftest import execute, name_of
from tests.connections import connected, request
from tests.serving import FRONTEND_ORIGIN, NO_TLS, Server, eventually, serving, with_limits
from tests.streams import streaming
from tests.tasks import Task, assert_problem, task_path, tasks_path
from tests.tokens import SECRET, bearer, key_server, signing_key, token

pytestmark = pytest.mark.anyio

GONE = "The service no longer has the changes since this token; get a new token, then the list"
READY = "/health/ready"
UNKNOWN = "WzUsMTIzXQ"


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with server.async_client() as client:
        yield client


async def created(api: httpx.AsyncClient, user: str, **fields: object) -> Task:
    answer = await api.post(tasks_path(user), json={"title": "Buy milk"} | fields)
    assert answer.status_code == 201
    task: Task = answer.json()
    return task


async def now(api: httpx.AsyncClient, user: str) -> str:
    answer: str = (await api.get(f"{tasks_path(user)}/changes")).json()["next"]
    return answer


# Events


async def test_a_stream_begins_with_its_position(client: httpx.AsyncClient, user: str) -> None:
    await created(client, user)
    async with streaming(client, user) as stream:
        retry, first = await stream.next(), await stream.next()

    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["cache-control"] == "no-store"
    assert retry is not None
    assert first is not None
    assert list(retry.fields) == ["retry"]
    assert 1000 <= int(retry.fields["retry"]) <= 5000
    assert first.id == await now(client, user)
    assert first.data == {"changes": [], "next": first.id, "more": False}


async def test_each_change_is_an_event_with_the_answer_of_the_feed(
    client: httpx.AsyncClient, user: str
) -> None:
    async with streaming(client, user) as stream:
        since = (await stream.event()).id
        task = await created(client, user, recurrence={"every": "week"})
        event = await stream.event()
        answer = await client.get(f"{tasks_path(user)}/changes", params={"since": since})
        await client.delete(task_path(task))
        last = await stream.event()

    assert event.data == answer.json()
    assert event.data["changes"] == [task]
    assert event.id == event.data["next"]
    assert last.data["changes"] == [{"id": task["id"], "deleted": True}]


async def test_a_stream_goes_on_after_the_last_event_that_came(
    client: httpx.AsyncClient, user: str
) -> None:
    first = await now(client, user)
    task = await created(client, user)
    second = await now(client, user)
    other = await created(client, user)

    async with streaming(client, user, since=first) as stream:
        assert (await stream.event()).data["changes"] == [task, other]
    async with streaming(client, user, last=second) as stream:
        assert (await stream.event()).data["changes"] == [other]
    async with streaming(client, user, since=first, last=second) as stream:
        assert (await stream.event()).data["changes"] == [other]


async def test_a_stream_sends_many_missed_changes_as_several_events(
    client: httpx.AsyncClient, user: str
) -> None:
    since = await now(client, user)
    tasks = [await created(client, user, title=f"Task {number}") for number in range(250)]

    async with streaming(client, user, since=since) as stream:
        events = [await stream.event() for _ in range(3)]

    assert [task for event in events for task in event.data["changes"]] == tasks
    assert [event.data["more"] for event in events] == [True, True, False]


async def test_a_line_break_in_a_task_breaks_no_event(client: httpx.AsyncClient, user: str) -> None:
    text = "a\nb\r\nc\rd\u2028e\n\ndata: f"
    async with streaming(client, user) as stream:
        await stream.event()
        await created(client, user, description=text)
        [task] = (await stream.event()).data["changes"]

    assert task["description"] == text


async def test_a_stream_from_an_unknown_position_sends_a_problem_and_ends(
    client: httpx.AsyncClient, user: str
) -> None:
    async with streaming(client, user, since=UNKNOWN) as stream:
        event = await stream.event()
        end = await stream.next()

    assert stream.response.status_code == 200
    assert event.fields["event"] == "problem"
    assert (event.data["status"], event.data["detail"]) == (410, GONE)
    assert end is None


async def test_a_text_that_is_no_token_is_422(client: httpx.AsyncClient, user: str) -> None:
    async with streaming(client, user, last="x") as stream:
        await stream.response.aread()

    assert_problem(stream.response, 422, "Last-Event-ID: must be the `next` of an earlier answer")


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream;q=0.9, application/json;q=0.1", True),
        ("application/json;q=0.1, text/event-stream ;q=0.9", True),
        ("text/event-stream, application/json", True),
        ("text/event-stream, */*", True),
        ("*/*, text/event-stream", True),
        ("text/event-stream;q=0.5, text/html", True),
        ("application/json, text/event-stream", False),
        ("application/json, text/event-stream;q=0.1", False),
        ("text/event-stream;q=0.5, */*", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=0, */*;q=0", False),
        ('text/html;of="a, text/event-stream"', False),
        ('text/event-stream;of="\\";q=0, "', True),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
    ],
)
async def test_only_a_client_that_asks_for_events_gets_events(
    client: httpx.AsyncClient, user: str, accept: str, is_stream: bool
) -> None:
    path = f"{tasks_path(user)}/changes"
    async with client.stream("GET", path, headers={"Accept": accept}) as response:
        kind = response.headers["content-type"].partition(";")[0]

    assert kind == ("text/event-stream" if is_stream else "application/json")
    assert "Accept" in response.headers.get_list("vary")


async def test_the_answer_to_head_ends(
    client: httpx.AsyncClient, server: Server, user: str
) -> None:
    path = f"{tasks_path(user)}/changes"

    events = await client.head(path, headers={"Accept": "text/event-stream"})
    waiting = await client.head(path, headers={"Prefer": "wait=60"}, params={"since": ""})

    assert events.status_code == waiting.status_code == 200
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.content == waiting.content == b""
    assert "without completing response" not in server.log


def test_a_connection_goes_on_after_the_head_of_a_stream(server: Server, user: str) -> None:
    with connected(server) as connection:
        connection.send(
            request("HEAD", path(user), "Accept: text/event-stream"), request("GET", READY)
        )
        begun = connection.received.readline()
        parse_headers(connection.received)

        assert begun == b"HTTP/1.1 200 OK\r\n"
        assert connection.read().status == 200


async def test_a_page_of_the_frontend_may_read_a_stream(
    client: httpx.AsyncClient, user: str
) -> None:
    async with streaming(client, user, Origin=FRONTEND_ORIGIN) as stream:
        await stream.event()

    assert stream.response.headers["access-control-allow-origin"] == FRONTEND_ORIGIN


async def test_a_stream_is_logged_when_it_ends(
    client: httpx.AsyncClient, server: Server, user: str
) -> None:
    def line() -> bool:
        return re.search(rf"/changes 200 .* {user}", server.log) is not None

    async with streaming(client, user, **{"X-Request-ID": user}) as stream:
        await stream.event()
        assert not line()

    assert await asyncio.to_thread(eventually, line)


async def test_a_waiting_request_ends_when_its_client_leaves(
    client: httpx.AsyncClient, server: Server, user: str
) -> None:
    since = await now(client, user)
    headers = {"Prefer": "wait=60", "X-Request-ID": user}
    with pytest.raises(httpx.ReadTimeout):
        await client.get(path(user), params={"since": since}, headers=headers, timeout=0.3)

    assert await asyncio.to_thread(eventually, lambda: f" {user} " in server.log)


async def test_a_stream_has_no_changes_of_other_users(client: httpx.AsyncClient, user: str) -> None:
    async with streaming(client, user) as stream:
        await stream.event()
        await created(client, f"{user}-other")
        task = await created(client, user)

        assert (await stream.event()).data["changes"] == [task]


async def test_a_reader_who_stands_still_delays_no_other_reader(
    client: httpx.AsyncClient, server: Server, user: str
) -> None:
    still = server.async_client()
    async with still, streaming(still, user) as _not_read, streaming(client, user) as stream:
        await stream.event()
        for number in range(40):
            await created(client, user, description="a" * 5000, title=f"Task {number}")

        heard: list[Task] = []
        while len(heard) < 40:
            heard += (await stream.event()).data["changes"]


async def test_a_stream_has_the_writes_of_another_process(
    postgres: str, user: str, tmp_path: Path
) -> None:
    with (
        serving(tmp_path / "one", DATABASE_URL=postgres) as one,
        serving(tmp_path / "other", DATABASE_URL=postgres) as other,
    ):
        async with (
            httpx.AsyncClient(base_url=one.url, timeout=60, verify=NO_TLS) as reader,
            httpx.AsyncClient(base_url=other.url, timeout=60, verify=NO_TLS) as writer,
            streaming(reader, user) as stream,
        ):
            await stream.event()
            task = await created(writer, user)

            assert (await stream.event()).data["changes"] == [task]


# How a stream ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_streams_end_when_the_service_stops(
    postgres: str, user: str, tmp_path: Path, number: signal.Signals, workers: str
) -> None:
    settings = {"DATABASE_URL": postgres, "DRAIN_SECONDS": "2", "WORKERS": workers}
    with serving(tmp_path / "log", **settings) as server:
        async with AsyncExitStack() as open_streams:
            client = httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS)
            await open_streams.enter_async_context(client)
            streams = [
                await open_streams.enter_async_context(streaming(client, user)) for _ in range(20)
            ]
            for stream in streams:
                await stream.event()
            os.killpg(server.process.pid, number)
            ends = [await stream.next() for stream in streams]
        await asyncio.to_thread(server.process.wait, 20)

    assert ends == [None] * 20
    assert server.log.count("/changes 200") == 20
    assert "Traceback" not in server.log


async def test_a_stream_that_is_opened_while_the_service_stops_ends_at_once(
    postgres: str, user: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres, DRAIN_SECONDS="3") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as client:
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(
                eventually, lambda: server.status("/health/ready") == 503
            )
            async with streaming(client, user) as stream:
                retry, end = await stream.next(), await stream.next()

    assert retry is not None
    assert "retry" in retry.fields
    assert end is None


async def test_a_stream_ends_with_its_token(postgres: str, user: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": postgres, "AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}
    with serving(tmp_path / "log", **settings) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as client:
            bearer = f"Bearer {token(user, exp=int(time.time()) + 3)}"
            async with streaming(client, user, Authorization=bearer) as stream:
                first, last = await stream.event(), await stream.event()
                end = await stream.next()

    assert first.data["changes"] == []
    assert last.fields["event"] == "problem"
    assert (last.data["status"], last.data["detail"]) == (401, "The token has expired")
    assert end is None


async def test_a_stream_ends_when_the_key_of_its_token_is_revoked(
    postgres: str, user: str, tmp_path: Path
) -> None:
    old, new = signing_key("old"), signing_key("new")
    with key_server(old) as issuer:
        settings = {"DATABASE_URL": postgres, "AUTH_MODE": "jwt", "AUTH_JWKS_URL": issuer.url}
        command = with_limits(events_CHECK_SECONDS=0.2)
        with serving(tmp_path / "log", command, **settings) as server:
            async with (
                httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as client,
                streaming(client, user, **bearer(old.token(user))) as stream,
            ):
                first = await stream.event()
                issuer.publish(new)
                known = await client.get(tasks_path(user), headers=bearer(new.token(user)))
                last, end = await stream.event(), await stream.next()

    assert known.status_code == 200
    assert first.data["changes"] == []
    assert last.data["status"] == 401
    assert last.data["detail"] == "The token is signed with an unknown key"
    assert end is None


async def test_a_waiting_request_is_refused_when_its_token_expires(
    postgres: str, user: str, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": postgres, "AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}
    with serving(tmp_path / "log", **settings) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as client:
            client.headers = httpx.Headers(bearer(token(user, exp=int(time.time()) + 3)))
            since = await now(client, user)
            answer = await client.get(
                path(user), params={"since": since}, headers={"Prefer": "wait=30"}
            )

    assert_problem(answer, 401, "The token has expired")


async def test_an_idle_stream_sends_its_client_away(
    postgres: str, user: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres, LIVE_IDLE_SECONDS="1") as server:
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as client,
            streaming(client, user) as stream,
        ):
            await stream.event()
            retry, end = await stream.next(), await stream.next()

    assert retry is not None
    assert retry.fields == {"retry": "600000"}
    assert end is None


# Waiting


def path(user: str) -> str:
    return f"{tasks_path(user)}/changes"


async def test_a_waiting_request_is_answered_when_a_task_changes(
    client: httpx.AsyncClient, user: str
) -> None:
    since = await now(client, user)
    asked = client.get(path(user), params={"since": since}, headers={"Prefer": "wait=60"})
    waiting = asyncio.create_task(asked)
    await asyncio.wait([waiting], timeout=0.8)
    assert not waiting.done()
    task = await created(client, user)
    answer = await asyncio.wait_for(waiting, 10)

    assert answer.json()["changes"] == [task]
    assert answer.headers["preference-applied"] == "wait=60"


async def test_a_request_that_waits_in_vain_is_answered_in_the_end(
    client: httpx.AsyncClient, user: str
) -> None:
    since = await now(client, user)
    first = await client.get(path(user), params={"since": since})
    headers = {"Prefer": "wait=1", "If-None-Match": first.headers["etag"]}
    began = time.monotonic()

    answer = await client.get(path(user), params={"since": since}, headers=headers)

    assert time.monotonic() - began >= 1
    assert answer.status_code == 304


@pytest.mark.parametrize("prefer", ["wait=0", "wait=x", "wait", "wait=-1", "wait=1.5", "other=1"])
async def test_a_request_that_does_not_say_how_long_does_not_wait(
    client: httpx.AsyncClient, user: str, prefer: str
) -> None:
    since = await now(client, user)

    answer = await client.get(path(user), params={"since": since}, headers={"Prefer": prefer})

    assert "preference-applied" not in answer.headers


async def test_no_request_waits_for_a_token_or_for_existing_changes(
    client: httpx.AsyncClient, user: str
) -> None:
    headers = {"Prefer": "wait=60"}
    since = await now(client, user)
    await created(client, user)

    first = await client.get(path(user), headers=headers, timeout=5)
    second = await client.get(path(user), params={"since": since}, headers=headers, timeout=5)
    third = await client.get(path(user), params={"since": UNKNOWN}, headers=headers, timeout=5)

    assert first.json()["changes"] == []
    assert len(second.json()["changes"]) == 1
    assert_problem(third, 410, GONE)


# How many streams a user may have


async def test_a_user_may_have_as_many_streams_and_waiting_requests_as_the_limit(
    postgres: str, user: str, tmp_path: Path
) -> None:
    with serving(tmp_path / "log", DATABASE_URL=postgres, LIVE_STREAMS_PER_USER="2") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as client:
            since = await now(client, user)
            events = {"Accept": "text/event-stream"}
            waits = {"Prefer": "wait=60"}
            async with streaming(client, user) as stream:
                await stream.event()
                async with streaming(client, user) as another:
                    await another.event()
                    refused = [
                        await client.get(path(user), headers=events),
                        await client.get(path(user), params={"since": since}, headers=waits),
                    ]
                    async with streaming(client, f"{user}-other") as others:
                        await others.event()
                ask = partial(client.get, path(user), params={"since": since})
                while (await ask(headers={"Prefer": "wait=1"})).status_code == 429:  # noqa: ASYNC110 - no event says so
                    await asyncio.sleep(0.02)  # until the other stream's end is noticed
                waiting = asyncio.create_task(ask(headers=waits))
                await asyncio.wait([waiting], timeout=0.3)
                while (await ask(headers={"Prefer": "wait=1"})).status_code != 429:
                    waiting.cancel()  # the service refused it: the request above came first
                    waiting = asyncio.create_task(ask(headers=waits))
                    await asyncio.wait([waiting], timeout=0.3)
                refused.append(await client.get(path(user), headers=events))
                await created(client, user)
                answer = await waiting

    for each in refused:
        assert_problem(
            each,
            429,
            "You have too many streams and long polls; end a stream, or try again later",
        )
        assert each.headers["retry-after"] == "30"
    assert answer.status_code == 200


async def test_no_stream_is_opened_while_files_are_scarce(
    postgres: str, user: str, tmp_path: Path
) -> None:
    command = ["bash", "-c", f"ulimit -n 400; exec {sys.executable} -m src"]
    with serving(tmp_path / "log", command, DATABASE_URL=postgres) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, verify=NO_TLS) as client:
            since = await now(client, user)
            with ExitStack() as stack:
                for _ in range(300):
                    stack.enter_context(connected(server))
                await until(lambda: psutil.Process(server.process.pid).num_fds() > 300)
                answers = [
                    await client.get(
                        path(user), headers={"Accept": "text/event-stream"}, timeout=5
                    ),
                    await client.get(
                        path(user), params={"since": since}, headers={"Prefer": "wait=60"}
                    ),
                ]
                plain = await client.get(tasks_path(user))

    for answer in answers:
        assert_problem(answer, 503, "Too many connections are open; try again in a moment")
        assert "retry-after" in answer.headers
    assert plain.status_code == 200


async def test_a_stream_to_http_1_0_has_no_chunks_and_ends_with_the_connection(
    client: httpx.AsyncClient, server: Server, user: str
) -> None:
    with connected(server) as connection:
        head = f"GET {path(user)} HTTP/1.0\r\nAccept: text/event-stream\r\n\r\n"
        connection.send(head.encode())
        lines = iter(connection.received.readline, b"\r\n")
        fields = (await asyncio.to_thread(lambda: b"".join(lines))).lower()
        said = await asyncio.to_thread(lambda: [connection.received.readline() for _ in range(5)])
        task = await created(client, user)
        heard = await asyncio.to_thread(lambda: [connection.received.readline() for _ in range(3)])

    assert b"transfer-encoding" not in fields
    assert b"connection: close" in fields
    assert [line.partition(b":")[0] for line in said] == [b"retry", b"\n", b"id", b"data", b"\n"]
    assert task["id"].encode() in heard[1]


# What streams cost


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Statement]:
    """Every statement that the service sends."""
    logged: list[Statement] = []
    fetch_once = engine_room._fetch_once

    def log(connection: Any, statement: Statement, *rest: Any, **named: Any) -> Any:  # noqa: ANN401 - as it has them
        logged.append(statement)
        return fetch_once(connection, statement, *rest, **named)

    monkeypatch.setattr(engine_room, "_fetch_once", log)
    return logged


class Recorded:
    """A stream in this process, which records what a client would get."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.spoke_at = self.loop.time()
        self.is_in_event = False
        self.said: list[str] = []
        self.tokens: list[str] = []
        self.lengths: list[int] = []

    async def send_event(self, data: bytes, token: str, turn: TurnToWrite) -> None:
        async with turn():
            await asyncio.sleep(0)
        self.spoke_at = self.loop.time()
        self.lengths.append(len(data))
        self.said += [change["title"] for change in json.loads(data)["changes"]]
        self.tokens.append(token)

    async def send_comment(self) -> None:
        self.spoke_at = self.loop.time()
        self.said.append(":")

    async def send_retry(self, milliseconds: int) -> None:
        self.said.append(f"retry {milliseconds}")

    async def fail(self, error: Exception) -> None:
        self.said.append(repr(error))

    async def end(self) -> None:
        self.said.append("end")


async def until(holds: Callable[[], bool]) -> None:
    assert await asyncio.to_thread(eventually, holds)


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "POLL_SECONDS", 0.05)


@pytest.mark.usefixtures("fast")
async def test_one_query_serves_all_listeners(engine: AsyncEngine, sent: list[Statement]) -> None:
    hub = Listeners(engine, asyncio.Event(), 60, 1000)
    streams = [Recorded() for _ in range(50)]
    async with AsyncExitStack() as listening:
        for number, stream in enumerate(streams):
            listening.enter_context(hub.stream(f"user-{number}", None, stream))()
        await until(lambda: all(stream.tokens for stream in streams))
        sent.clear()
        await until(lambda: len(sent) >= 3)

        assert set(sent) == {MOVED}
    assert hub.following is None
    sent.clear()
    await asyncio.sleep(0.2)

    assert sent == []


@pytest.mark.usefixtures("fast")
async def test_a_users_changes_are_read_once_for_all_streams_of_the_user(
    engine: AsyncEngine, sent: list[Statement], user: str
) -> None:
    hub = Listeners(engine, asyncio.Event(), 60, 1000)
    streams = [Recorded() for _ in range(20)]
    async with AsyncExitStack() as listening:
        for stream in streams:
            listening.enter_context(hub.stream(user, None, stream))()
        await until(lambda: all(stream.tokens for stream in streams))
        sent.clear()
        await write(engine, user, "a")
        await until(lambda: all(stream.said == ["a"] for stream in streams))

    assert sent.count(SINCE) == 1
    assert hub.pages == {}


async def test_the_listeners_send_one_query_every_half_second(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    waited: list[object] = []
    wait = asyncio.wait

    async def note(*tasks: Any, **options: Any) -> Any:  # noqa: ANN401 - as asyncio has them
        waited.append(options.get("timeout"))
        return await wait(*tasks, **options)

    monkeypatch.setattr("asyncio.wait", note)
    hub = Listeners(engine, asyncio.Event(), 60, 1000)
    with hub.stream(user, None, Recorded()):
        await until(lambda: waited[-2:] == [None, 0.5])


@pytest.mark.usefixtures("fast")
async def test_streams_go_on_after_an_unexpected_error_and_the_log_has_the_error(
    engine: AsyncEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    user: str,
) -> None:
    moved, errors = feed_service.moved, [RuntimeError("odd")]

    async def fail_once(*arguments: Any) -> Any:  # noqa: ANN401 - as it has them
        if errors:
            raise errors.pop()
        return await moved(*arguments)

    monkeypatch.setattr(feed_service, "moved", fail_once)
    hub, stream = Listeners(engine, asyncio.Event(), 60, 1000), Recorded()
    with hub.stream(user, None, stream) as listen:
        listen()
        await until(lambda: stream.tokens != [])
        await write(engine, user, "a")
        await until(lambda: stream.said == ["a"])
        await until(lambda: not hub.tasks)

    assert caplog.messages == ["Streams cannot be served"]


@pytest.mark.usefixtures("fast")
async def test_the_log_has_one_line_for_each_time_that_streams_wait_for_the_database(
    engine: AsyncEngine,
    direct: str,
    own_database: str,
    caplog: pytest.LogCaptureFixture,
    user: str,
) -> None:
    name = name_of(own_database)
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    hub, stream = Listeners(engine, asyncio.Event(), 60, 1000), Recorded()

    def logged() -> list[str]:
        # The engine has a logger of its own: on a busy machine, it tells of slow statements.
        return [said for logger, _, said in caplog.record_tuples if logger == listeners.__name__]

    async def be_without_it(lines: int) -> None:
        await execute(direct, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await execute(direct, end)
        await until(lambda: len(logged()) == lines)
        await execute(direct, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await write(engine, user, str(lines))
        await until(lambda: stream.said[-1:] == [str(lines)])

    with hub.stream(user, None, stream) as listen:
        listen()
        await until(lambda: stream.tokens != [])
        await be_without_it(lines=1)
        await be_without_it(lines=2)

    assert len(logged()) == 2
    assert all(said.startswith("Streams wait for the database: ") for said in logged())


@pytest.mark.usefixtures("fast")
async def test_a_silent_stream_has_a_comment_now_and_then(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setattr(listeners, "SILENT_SECONDS", 0.3)
    hub, stream = Listeners(engine, asyncio.Event(), 60, 1000), Recorded()
    with hub.stream(user, None, stream) as listen:
        listen()
        await until(lambda: stream.said == [":", ":"])


@pytest.mark.usefixtures("fast")
async def test_an_event_of_large_tasks_has_few_tasks(
    engine: AsyncEngine, sent: list[Statement], user: str
) -> None:
    await write(engine, user, "first")
    since = (await feed_service.changes(engine, user, None, 1)).position
    titles = [f"Task {number}" for number in range(40)]
    for title in titles:
        await write(engine, user, title, description="💡" * 5000)
    sent.clear()
    hub, stream = Listeners(engine, asyncio.Event(), 60, 1000), Recorded()
    with hub.stream(user, since, stream) as listen:
        listen()
        await until(lambda: len(stream.said) == 40)
        await write(engine, user, "short")
        await until(lambda: len(stream.said) == 41)

    assert stream.said == [*titles, "short"]
    assert max(stream.lengths) <= EVENT_BYTES
    assert sent.count(SINCE) < 2 * len(stream.lengths)


@pytest.mark.usefixtures("fast")
async def test_a_single_task_always_fits(engine: AsyncEngine, user: str) -> None:
    hub, stream = Listeners(engine, asyncio.Event(), 60, 1000), Recorded()
    text = "\x01"  # a character that is longest in JSON
    with hub.stream(user, None, stream) as listen, pytest.MonkeyPatch.context() as patch:
        patch.setattr(listeners, "EVENT_BYTES", 1000)
        listen()
        await until(lambda: stream.tokens != [])
        for _ in range(2):
            await write(engine, user, "long", description=text * 5000, tags=[text * 50])
        await until(lambda: stream.said == ["long", "long"])


@pytest.mark.usefixtures("fast")
async def test_users_take_turns_at_reading(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    """A client that comes back with many streams at different positions delays no other user."""
    positions = []
    for number in range(40):
        await write(engine, user, f"Task {number}")
        positions.append((await feed_service.changes(engine, user, None, 1)).position)
    read: list[str] = []
    changes = feed_service.changes

    async def log(engine: AsyncEngine, user_id: str, *rest: Any) -> Any:  # noqa: ANN401 - as it has them
        read.append(user_id)
        return await changes(engine, user_id, *rest)

    monkeypatch.setattr(feed_service, "changes", log)
    hub = Listeners(engine, asyncio.Event(), 60, 1000)
    async with AsyncExitStack() as listening:
        for position in positions:
            listening.enter_context(hub.stream(user, position, Recorded()))()
        other = Recorded()
        listening.enter_context(hub.stream(f"{user}-other", None, other))()
        await until(lambda: other.tokens != [])
    await until(lambda: not (hub.tasks or hub.pages))

    assert read.index(f"{user}-other") <= READERS + 1


async def test_each_key_has_its_turn_before_any_key_has_a_second_turn() -> None:
    turns = Turns(1)
    served: list[str] = []

    async def take(key: str) -> None:
        async with turns.turn(key):
            served.append(key)
            await asyncio.sleep(0)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        taking = [group.create_task(take(key)) for key in "aaaabbc"]
        await asyncio.sleep(0)
        taking[1].cancel()

    assert "".join(served) == "abcaba"
    assert (turns.free, turns.waiting) == (1, {})


async def test_turns_of_work_run_one_at_a_time_and_a_rest_follows_each_turn() -> None:
    turns = Turns(1)
    served: list[tuple[str, float]] = []

    async def work(key: str) -> None:
        await turns.work(key, rest=3)
        began = time.monotonic()
        served.append((key, began))
        while time.monotonic() < began + 0.02:
            pass

    async with asyncio.timeout(10):
        await asyncio.gather(*map(work, "aaab"))
        async with turns.turn("b"):
            pass

    keys, times = zip(*served, strict=True)
    assert "".join(keys) == "aaba"
    assert min(after - before for before, after in pairwise(times)) >= 4 * 0.02 - 0.001
    assert (turns.free, turns.waiting) == (1, {})


async def test_a_turn_that_comes_after_its_client_left_goes_to_the_next_client() -> None:
    turns = Turns(1)

    async def take() -> None:
        async with turns.turn("bob"):
            raise AssertionError

    async with asyncio.timeout(10), turns.turn("ada"):
        leaving = asyncio.create_task(take())
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])

    assert leaving.cancelled()
    assert (turns.free, turns.waiting) == (1, {})


class Sent:
    """The pieces that an EventStream sends. The stream waits while `may_go_on` is not set."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def __call__(self, message: Any) -> None:  # noqa: ANN401 - of ASGI
        await self.may_go_on.wait()
        self.pieces.append(message["body"])


def stream_to(sent: Sent) -> EventStream:
    stream = EventStream(lambda _: nullcontext(lambda: None), asyncio.sleep)
    stream.loop, stream.send = asyncio.get_running_loop(), sent
    return stream


async def test_each_piece_of_an_event_has_its_turn() -> None:
    sent, turns = Sent(), Turns(1)
    data = b"a" * (3 * WRITE_BYTES)

    await stream_to(sent).send_event(data, "token", partial(turns.turn, "ada"))

    assert b"".join(sent.pieces) == b"id: token\ndata: %b\n\n" % data
    assert max(map(len, sent.pieces)) < WRITE_BYTES + 100


async def test_a_slow_client_keeps_no_turn() -> None:
    slow, turns = Sent(), Turns(1)
    turn = partial(turns.turn, "ada")
    slow.may_go_on.clear()
    waiting = asyncio.create_task(stream_to(slow).send_event(b"{}", "1", turn))
    await asyncio.sleep(0)
    quick = Sent()

    await stream_to(quick).send_event(b"{}", "1", turn)

    assert not waiting.done()
    slow.may_go_on.set()
    await waiting
    assert slow.pieces == quick.pieces


async def test_nothing_else_is_said_in_the_middle_of_an_event() -> None:
    """An empty line in an event ends the event, and its client would read half of the JSON."""
    sent, turns = Sent(), Turns(1)
    stream, data = stream_to(sent), b"a" * WRITE_BYTES * 2
    async with turns.turn("bob"):
        sending = asyncio.create_task(stream.send_event(data, "token", partial(turns.turn, "ada")))
        await asyncio.sleep(0)
        await stream.send_comment()
        await stream.send_retry(600_000)
    await sending
    await stream.send_comment()

    assert b"".join(sent.pieces) == b"id: token\ndata: %b\n\n:\n\n" % data


@pytest.mark.usefixtures("fast")
async def test_an_idle_stream_whose_client_reads_nothing_is_sent_away_once(
    engine: AsyncEngine, user: str
) -> None:
    class Unread(Recorded):
        async def send_retry(self, milliseconds: int) -> None:
            await super().send_retry(milliseconds)
            await may_read.wait()

    may_read, stream = asyncio.Event(), Unread()
    hub = Listeners(engine, asyncio.Event(), 0.2, 1000)
    with hub.stream(user, None, stream) as listen:
        listen()
        await until(lambda: "retry 600000" in stream.said)
        await asyncio.sleep(4 * listeners.POLL_SECONDS)
        may_read.set()
        await until(lambda: "end" in stream.said)
        await asyncio.sleep(4 * listeners.POLL_SECONDS)

    assert stream.said == ["retry 600000", "end"]


@pytest.mark.usefixtures("fast")
async def test_a_stream_in_the_middle_of_an_event_is_neither_silent_nor_idle(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setattr(listeners, "SILENT_SECONDS", 0.0)
    stream = Recorded()
    stream.is_in_event = True
    hub = Listeners(engine, asyncio.Event(), 0.0, 1000)
    with hub.stream(user, None, stream) as listen:
        listen()
        await until(lambda: bool(stream.tokens))
        await asyncio.sleep(4 * listeners.POLL_SECONDS)
        assert stream.said == []
        stream.is_in_event = False

        await until(lambda: stream.said == ["retry 600000", "end"])


async def test_a_stream_that_fails_in_the_middle_of_an_event_sends_no_more_bytes() -> None:
    """A client that gets the end of an event believes that the event is whole."""
    sent, turns = Sent(), Turns(1)
    stream = stream_to(sent)
    async with turns.turn("bob"):
        sending = asyncio.create_task(
            stream.send_event(b"a" * WRITE_BYTES * 2, "token", partial(turns.turn, "ada"))
        )
        await asyncio.sleep(0)
        await stream.fail(NotAuthenticated())
    await sending

    assert b"".join(sent.pieces) == b""


async def write(engine: AsyncEngine, user: str, title: str, **fields: Any) -> None:  # noqa: ANN401 - of a task
    await task_service.create_task(engine, user, TaskCreate(title=title, **fields))
