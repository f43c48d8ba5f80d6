"""A create with an Idempotency-Key can be repeated: one key, one task."""

import asyncio
import json
import socket
import string
import struct
from collections.abc import AsyncIterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.engine import create_engine, ping
from src.framework.sql.exceptions import KeyReused
from src.framework.sql.statements import CLEARED_KEYS
from src.schemas.task import TaskCreate
from src.services.task_service import create_task
from tests.conftest import execute
from tests.serving import Server, eventually, serving
from tests.tasks import assert_problem, create, listed, task_path, tasks_path
from tests.tokens import bearer, token

MILK = {"title": "Buy milk", "description": "Two litres"}
REUSED = "Idempotency-Key: was used for another request; send a new key"
REFUSED = "Idempotency-Key: must have 1 to 255 visible ASCII characters"


def post(
    api: httpx.Client, user: str, key: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    return api.post(tasks_path(user), json=body or MILK, headers={"Idempotency-Key": key})


def assert_same_answer(answer: httpx.Response, first: httpx.Response) -> None:
    assert answer.status_code == first.status_code == 201
    assert answer.content == first.content
    for name in ["content-type", "etag", "location", "cache-control"]:
        assert answer.headers[name] == first.headers[name]


# Replays


def test_the_same_key_and_task_make_one_task(api: httpx.Client, user: str) -> None:
    first = post(api, user, "key")

    for _ in range(3):
        assert_same_answer(post(api, user, "key"), first)
    assert listed(api, user) == [first.json()]
    assert first.headers["location"] == task_path(first.json())
    assert first.headers["etag"] == api.get(task_path(first.json())).headers["etag"]


def test_another_key_or_no_key_makes_another_task(api: httpx.Client, user: str) -> None:
    answers = [post(api, user, "one"), post(api, user, "two"), post(api, user, "ONE")]
    without = [create(api, user, **MILK), create(api, user, **MILK)]

    assert listed(api, user) == [answer.json() for answer in answers] + without


def test_a_key_belongs_to_its_user(api: httpx.Client, user: str) -> None:
    mine = post(api, user, "key")
    theirs = post(api, f"{user}-other", "key", {"title": "Buy bread"})

    assert mine.status_code == theirs.status_code == 201
    assert_same_answer(post(api, user, "key"), mine)
    assert listed(api, f"{user}-other") == [theirs.json()]


@pytest.mark.parametrize(
    "body",
    [
        {"title": "Buy bread", "description": "Two litres"},
        {"title": "Buy milk", "description": None},
        {"title": "Buy milk", "description": ""},
        {"title": "Buy milk"},
        {"title": "Two litres", "description": "Buy milk"},
        {"title": "buy milk", "description": "Two litres"},
    ],
)
def test_the_same_key_with_another_task_is_refused(
    api: httpx.Client, user: str, body: dict[str, Any]
) -> None:
    first = post(api, user, "key")

    response = post(api, user, "key", body)

    assert_problem(response, 422, REUSED)
    assert [error["loc"] for error in response.json()["errors"]] == [["header", "Idempotency-Key"]]
    assert listed(api, user) == [first.json()]
    assert_same_answer(post(api, user, "key"), first)


def test_a_key_matches_the_same_task_in_other_json(api: httpx.Client, user: str) -> None:
    first = post(api, user, "key")

    written_otherwise = json.dumps(
        {"id": "mine", "description": "Two litres", "title": " Buy\u0020milk\n"}, indent=4
    )
    answer = api.post(
        tasks_path(user),
        content=written_otherwise,
        headers={"Idempotency-Key": "key", "Content-Type": "application/json"},
    )

    assert_same_answer(answer, first)


def test_the_first_answer_is_given_after_a_change_and_after_a_delete(
    api: httpx.Client, user: str
) -> None:
    first = post(api, user, "key")
    path = task_path(first.json())

    changed = api.patch(path, json={"title": "Buy bread", "completed": True}).json()
    assert_same_answer(post(api, user, "key"), first)
    assert listed(api, user) == [changed]

    api.delete(path)
    assert_same_answer(post(api, user, "key"), first)
    assert listed(api, user) == []


def test_a_repeated_create_answers_odd_text_unchanged(api: httpx.Client, user: str) -> None:
    for number, text in enumerate(["😀", "\\\"'", "\u0001\u2028", "e\u0301", "</script>"]):
        body = {"title": text, "description": text}
        first = post(api, user, f"key-{number}", body)

        assert first.json() == listed(api, user)[-1]
        assert_same_answer(post(api, user, f"key-{number}", body), first)


def test_a_refused_create_does_not_use_up_its_key(api: httpx.Client, user: str) -> None:
    assert_problem(post(api, user, "key", {"title": ""}), 422)

    assert post(api, user, "key").status_code == 201


def test_a_key_outlives_the_service(own_database: str, tmp_path: Path) -> None:
    with serving(tmp_path / "log1", DATABASE_URL=own_database) as server, server.client() as api:
        first = post(api, "ada", "key")
        server.process.kill()
    with serving(tmp_path / "log2", DATABASE_URL=own_database) as server, server.client() as api:
        assert_same_answer(post(api, "ada", "key"), first)
        assert_problem(post(api, "ada", "key", {"title": "Buy bread"}), 422, REUSED)
        assert listed(api, "ada") == [first.json()]


def request(user: str, *lines: bytes) -> bytes:
    [authorization] = bearer(token(user)).items()
    body = json.dumps(MILK).encode()
    head = [
        f"POST {tasks_path(user)} HTTP/1.1".encode(),
        b"Host: localhost",
        ": ".join(authorization).encode(),
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *lines,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def connection(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0))


def test_a_lost_answer_is_given_to_a_repeated_request(
    server: Server, api: httpx.Client, user: str
) -> None:
    with connection(server) as client:
        client.sendall(request(user, b"Idempotency-Key: key"))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert eventually(lambda: len(listed(api, user)) == 1)

    answer = post(api, user, "key")

    assert answer.status_code == 201
    assert listed(api, user) == [answer.json()]


# Concurrency


@pytest.mark.anyio
async def test_only_one_of_50_concurrent_requests_makes_the_task(
    server: Server, api: httpx.Client, user: str
) -> None:
    async with server.async_client() as client:
        answers = await asyncio.gather(
            *(
                client.post(tasks_path(user), json=MILK, headers={"Idempotency-Key": key})
                for key in ["key", '"key"'] * 25
            )
        )

    for answer in answers:
        assert_same_answer(answer, answers[0])
    assert listed(api, user) == [answers[0].json()]


@pytest.mark.anyio
async def test_only_one_of_two_concurrent_tasks_with_one_key_is_made(
    server: Server, api: httpx.Client, user: str
) -> None:
    async with server.async_client() as client:
        answers = await asyncio.gather(
            *(
                client.post(tasks_path(user), json=body, headers={"Idempotency-Key": "key"})
                for body in [MILK, {"title": "Buy bread"}] * 20
            )
        )

    made = [answer for answer in answers if answer.status_code == 201]
    assert listed(api, user) == [made[0].json()]
    assert made in [answers[::2], answers[1::2]]
    for answer in answers:
        assert answer in made or answer.json()["detail"] == REUSED


# Expiry


def age(url: str, user: str, seconds: int) -> None:
    """Set the age of the user's keys to this many seconds."""
    sql = f"created_at = now() - interval '{seconds} seconds' WHERE user_id = '{user}'"
    asyncio.run(execute(url, f"UPDATE idempotency_keys SET {sql}"))


DAY = 24 * 60 * 60


def test_a_key_is_new_again_after_24_hours(api: httpx.Client, postgres: str, user: str) -> None:
    first = post(api, user, "key")
    age(postgres, user, DAY)

    second = post(api, user, "key")

    assert listed(api, user) == [first.json(), second.json()]
    assert_same_answer(post(api, user, "key"), second)


def test_an_expired_key_may_come_with_another_task(
    api: httpx.Client, postgres: str, user: str
) -> None:
    first = post(api, user, "key")
    age(postgres, user, DAY)

    second = post(api, user, "key", {"title": "Buy bread"})

    assert listed(api, user) == [first.json(), second.json()]
    assert_problem(post(api, user, "key"), 422, REUSED)


def test_a_key_is_not_new_before_24_hours(api: httpx.Client, postgres: str, user: str) -> None:
    first = post(api, user, "key")
    age(postgres, user, DAY - 60)

    assert_problem(post(api, user, "key", {"title": "Buy bread"}), 422, REUSED)
    assert post(api, user, "key").json()["id"] == first.json()["id"]
    assert listed(api, user) == [first.json()]


@pytest.fixture
async def driver(own_database: str, engine: AsyncEngine) -> AsyncIterator[Any]:
    """A connection to the engine's database."""
    assert engine.pool
    connection = await asyncpg.connect(own_database)
    yield connection
    await connection.close()


async def insert_keys(driver: Any, user: str, number: int, hours: int) -> None:  # noqa: ANN401 - has no types
    await driver.execute(
        "INSERT INTO idempotency_keys SELECT $1, 'key-' || n, 'of another task', "
        "gen_random_uuid(), now() - make_interval(hours => $3) FROM generate_series(1, $2) n",
        user,
        number,
        hours,
    )


async def keys(driver: Any) -> dict[str, int]:  # noqa: ANN401 - has no types
    """Return how many keys each user has."""
    return dict(await driver.fetch("SELECT user_id, count(*) FROM idempotency_keys GROUP BY 1"))


@pytest.mark.anyio
async def test_a_create_with_a_key_deletes_some_of_its_users_expired_keys_only(
    engine: AsyncEngine,
    driver: Any,  # noqa: ANN401 - has no types
) -> None:
    await insert_keys(driver, "ada", CLEARED_KEYS + 5, hours=25)
    await insert_keys(driver, "bob", 3, hours=25)
    await insert_keys(driver, "carol", 3, hours=23)

    await create_task(engine, "ada", TaskCreate(title="Buy milk"))
    assert await keys(driver) == {"ada": CLEARED_KEYS + 5, "bob": 3, "carol": 3}
    await create_task(engine, "ada", TaskCreate(title="Buy milk"), "one")
    assert await keys(driver) == {"ada": 5 + 1, "bob": 3, "carol": 3}
    await create_task(engine, "ada", TaskCreate(title="Buy milk"), "one")
    assert await keys(driver) == {"ada": 1, "bob": 3, "carol": 3}
    await create_task(engine, "carol", TaskCreate(title="Buy milk"), "one")
    assert await keys(driver) == {"ada": 1, "bob": 3, "carol": 3 + 1}


@pytest.mark.anyio
async def test_a_create_does_not_delete_its_own_expired_key(
    engine: AsyncEngine,
    driver: Any,  # noqa: ANN401 - has no types
) -> None:
    await insert_keys(driver, "ada", 3, hours=25)

    task = await create_task(engine, "ada", TaskCreate(title="Buy milk"), "key-2")

    assert await keys(driver) == {"ada": 1}
    assert await create_task(engine, "ada", TaskCreate(title="Buy milk"), "key-2") == task
    with pytest.raises(KeyReused):
        await create_task(engine, "ada", TaskCreate(title="Buy bread"), "key-2")


async def engine_with_50_connections(url: str) -> AsyncEngine:
    """Return an engine whose connections are all open: no statement waits for a connection."""
    engine = create_engine(url, pool_size=50)
    await asyncio.gather(*(ping(engine) for _ in range(50)))
    return engine


@pytest.mark.anyio
@pytest.mark.parametrize("expired", [50, 400])
async def test_50_concurrent_creates_that_delete_each_others_keys_do_not_deadlock(
    own_database: str,
    driver: Any,  # noqa: ANN401 - has no types
    expired: int,
) -> None:
    """Each create uses an expired key that the other creates try to delete."""
    many = await engine_with_50_connections(own_database)
    await insert_keys(driver, "ada", expired, hours=25)

    async with asyncio.timeout(10):
        tasks = await asyncio.gather(
            *(
                create_task(many, "ada", TaskCreate(title="Buy milk"), f"key-{number}")
                for number in range(1, 51)
            )
        )

    assert len(set(tasks)) == 50
    assert await driver.fetchval("SELECT count(*) FROM tasks") == 50
    fresh = "SELECT count(*) FROM idempotency_keys WHERE created_at > now() - interval '1 hour'"
    assert await driver.fetchval(fresh) == 50
    again = [
        await create_task(many, "ada", TaskCreate(title="Buy milk"), f"key-{number}")
        for number in range(1, 51)
    ]
    assert again == tasks
    assert await driver.fetchval("SELECT count(*) FROM tasks") == 50
    await many.dispose()


@pytest.mark.anyio
async def test_50_concurrent_creates_with_one_expired_key_make_one_task(
    own_database: str,
    driver: Any,  # noqa: ANN401 - has no types
) -> None:
    many = await engine_with_50_connections(own_database)
    await insert_keys(driver, "ada", 20, hours=25)

    tasks = await asyncio.gather(
        *(create_task(many, "ada", TaskCreate(title="Buy milk"), "key-7") for _ in range(50))
    )

    assert len(set(tasks)) == 1
    assert await driver.fetchval("SELECT count(*) FROM tasks") == 1
    await many.dispose()


# Keys


@pytest.mark.parametrize(
    ("bare", "quoted"),
    [
        ("key", '"key"'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", '"8e03978e-40d5-43dd-bc93-6894a57f9324"'),
        ("!#$%&'()*+,-./:;<=>?@[]^_`{|}~", '"!#$%&\'()*+,-./:;<=>?@[]^_`{|}~"'),
        ('a"b', r'"a\"b"'),
        (r"a\b", r'"a\\b"'),
        (r"a\"b", r'"a\\\"b"'),
        ("\\\\", r'"\\\\"'),
        ("k" * 255, f'"{"k" * 255}"'),
    ],
)
def test_a_key_is_the_same_with_quotes_and_without(
    api: httpx.Client, user: str, bare: str, quoted: str
) -> None:
    first = post(api, user, bare)

    assert_same_answer(post(api, user, quoted), first)
    assert listed(api, user) == [first.json()]


def test_a_quoted_key_may_have_spaces(api: httpx.Client, user: str) -> None:
    first = post(api, user, '"a b"')

    assert_same_answer(post(api, user, '"a b"'), first)


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b'""',
        b"k" * 256,
        b'"' + b"k" * 256 + b'"',
        "é".encode(),
        "é".encode("latin-1"),
        '"é"'.encode(),
        b"a b",
        b"a\tb",
        b'"a\tb"',
        b'"',
        b'"a',
        b'"a"b',
        b'"a\\b"',
        b'"a\\"',
        b'"a";expires=1',
        b'"a", "b"',
        b"a, b",
    ],
)
def test_an_invalid_key_is_refused(api: httpx.Client, user: str, key: bytes) -> None:
    response = api.post(tasks_path(user), json=MILK, headers={b"Idempotency-Key": key})

    assert_problem(response, 422, REFUSED)
    assert listed(api, user) == []


@pytest.mark.parametrize("key", ["key", '"key"'])
def test_two_keys_are_refused(api: httpx.Client, user: str, key: str) -> None:
    fields = [("Idempotency-Key", key), ("Idempotency-Key", key)]

    assert_problem(api.post(tasks_path(user), json=MILK, headers=fields), 422, REFUSED)
    assert listed(api, user) == []


def test_keys_that_differ_in_their_last_character_are_different(
    api: httpx.Client, user: str
) -> None:
    ends = ["", *string.punctuation]
    made = {post(api, user, f"key{end}").json()["id"] for end in ends}

    assert len(made) == len(ends)


@pytest.mark.parametrize(
    "line",
    [b"Idempotency-Key: key \t", b'Idempotency-Key:"key" ', b"idempotency-key:\t key"],
)
def test_white_space_around_a_key_is_not_part_of_it(
    server: Server, api: httpx.Client, user: str, line: bytes
) -> None:
    """The HTTP parser leaves white space at the end of a value: RFC 9110 §5.5."""
    first = post(api, user, "key")

    with connection(server) as client:
        client.sendall(request(user, line))
        answer = HTTPResponse(client)
        answer.begin()
        assert answer.read() == first.content
    assert listed(api, user) == [first.json()]


@pytest.mark.parametrize("character", [b"\0", b"\x01", b"\n", b"\x1b", b"\x7f"])
def test_a_key_with_a_control_character_is_invalid_http(
    server: Server, api: httpx.Client, user: str, character: bytes
) -> None:
    with connection(server) as client:
        client.sendall(request(user, b"Idempotency-Key: a" + character + b"b"))
        answer = HTTPResponse(client)
        answer.begin()

    assert answer.status == 400
    assert listed(api, user) == []
