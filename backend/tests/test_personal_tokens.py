"""Tokens for scripts: what they may do, what ends them, what they cost, and who attacks them."""

import asyncio
import gc
import json
import re
import string
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from math import log2
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.sql.embedded import embedded_server
from src.framework.sql.exceptions import DatabaseUnavailable
from src.schemas.personal_token import PersonalTokenCreate
from src.services import known_tokens, personal_token_service
from src.services.exceptions import TokenRefused, TooManyTokens
from src.services.expiry_service import sweep_if_due
from src.services.known_tokens import KnownTokens
from src.services.token_text import (
    PATTERN,
    PREFIX,
    hash_of,
    is_personal,
    is_whole,
    new_token_text,
)
from tests.conftest import execute
from tests.faults.load import connected
from tests.serving import (
    BACKEND,
    NO_TLS,
    PLAIN,
    SERVICE,
    Server,
    environment,
    eventually,
    ran,
    serving,
    with_limits,
)
from tests.streams import streaming
from tests.tasks import assert_problem, create, listed, task_path, tasks_path
from tests.test_auth import BODIES, answer_to
from tests.test_by_hand import dumped, restored
from tests.test_feed import until_waiting
from tests.tokens import (
    SECRET,
    TokenOfThePath,
    bearer,
    create_token,
    key_server,
    signing_key,
    token,
    tokens_path,
)

WITH_SECRET = {"AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}
UNKNOWN = "The token is unknown, was ended, or belongs to another user"
MISTYPED = "The token is incomplete or mistyped; copy the whole token"
READ_ONLY = "This token may only read; use a token with the scope write"
OF_SIGN_IN_ONLY = "A personal token cannot manage tokens; use a token of the sign-in"


@pytest.fixture(scope="module", params=[SERVICE, PLAIN], ids=["fast", "plain"])
def server(
    request: pytest.FixtureRequest, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A service with a sign-in. At the end, its log must have neither an error nor a token."""
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(log, request.param, DATABASE_URL=postgres, **WITH_SECRET) as server:
        server.auth = TokenOfThePath()
        yield server
    assert "Traceback" not in server.log
    assert not re.search(PREFIX, server.log)


@pytest.fixture(scope="module")
def api(server: Server) -> Iterator[httpx.Client]:
    """A client that sends a token of the sign-in unless a request has another."""
    with server.client() as client:
        yield client


def ask(api: httpx.Client, user: str, text: str) -> httpx.Response:
    return api.get(tasks_path(user), headers=bearer(text))


def assert_refused(answer: httpx.Response, detail: str) -> None:
    assert_problem(answer, 401, detail)
    challenge = f'Bearer error="invalid_token", error_description="{detail}"'
    assert answer.headers["www-authenticate"] == challenge


# The resource


def test_a_new_token_is_shown_once_and_nobody_keeps_the_answer(
    api: httpx.Client, user: str
) -> None:
    answer = api.post(tokens_path(user), json={"name": " cron ", "scope": "read"})
    new = answer.json()
    row = {name: new[name] for name in new if name not in {"tasks", "token"}}
    got = api.get(answer.headers["location"])

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert list(row) == [
        "id",
        "user_id",
        "name",
        "scope",
        "created_at",
        "expires_at",
        "last_used_at",
    ]
    assert (row["name"], row["scope"], row["last_used_at"]) == ("cron", "read", None)
    assert new["tasks"] == tasks_path(user)
    assert re.fullmatch(PATTERN, new["token"])
    assert got.json() == row
    assert got.headers["etag"] == answer.headers["etag"]
    assert api.get(tokens_path(user)).json() == [row]
    assert api.get(new["tasks"], headers=bearer(new["token"])).status_code == 200


def test_the_answer_has_the_escaped_path_of_the_users_tasks(api: httpx.Client, user: str) -> None:
    user = f"{user}/łovelace @example.com"
    new = create_token(api, user)

    assert api.get(new["tasks"], headers=bearer(new["token"])).json() == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": " "},
        {"name": "n" * 101},
        {"name": "\0"},
        {"name": 1},
        {"name": "cron", "scope": "admin"},
        {"name": "cron", "scope": None},
        {"name": "cron", "expires_at": "tomorrow"},
        {"name": "cron", "expires_at": "2020-01-01"},
        {"name": "cron", "expires_at": "9999-12-31"},
        {"name": "cron", "expires_at": 1},
    ],
)
def test_a_wrong_body_makes_no_token(api: httpx.Client, user: str, body: object) -> None:
    assert_problem(api.post(tokens_path(user), json=body), 422)
    assert api.get(tokens_path(user)).json() == []


def test_a_token_lives_for_90_days_and_at_most_for_365(api: httpx.Client, user: str) -> None:
    def days(**fields: object) -> float:
        new = create_token(api, user, **fields)
        moments = [datetime.fromisoformat(new[name]) for name in ("created_at", "expires_at")]
        return (moments[1] - moments[0]) / timedelta(days=1)

    now = datetime.now(UTC)
    assert days() == pytest.approx(90, abs=0.01)
    for absent in (None, ""):
        assert days(expires_at=absent) == pytest.approx(90, abs=0.01)
    in_a_year = str(now + timedelta(days=365))
    assert days(expires_at=in_a_year, name="n" * 100) == pytest.approx(365, abs=0.01)
    later = api.post(
        tokens_path(user), json={"name": "cron", "expires_at": str(now + timedelta(days=366))}
    )
    assert_problem(later, 422, "expires_at: must be within the next 365 days")


def test_an_idempotency_key_is_refused(api: httpx.Client, user: str) -> None:
    refused = api.post(
        tokens_path(user), json={"name": "cron"}, headers={"Idempotency-Key": "once"}
    )

    sentence = "must be absent, because the service cannot repeat an answer that has a new token"
    assert_problem(refused, 422, f"Idempotency-Key: {sentence}")
    assert api.get(tokens_path(user)).json() == []


def test_tokens_have_pages_and_etags(api: httpx.Client, user: str) -> None:
    names = ["a", "b", "c", "d", "e"]
    ids = {name: create_token(api, user, name=name)["id"] for name in names}
    page = api.get(tokens_path(user), params={"limit": 2, "sort": "-name"})
    found = page.json()
    while "next" in page.links:
        page = api.get(page.links["next"]["url"])
        found += page.json()
    one = api.get(tokens_path(user, ids["a"]))
    stale = api.delete(tokens_path(user, ids["a"]), headers={"If-Match": '"another"'})
    fresh = {"If-Match": one.headers["etag"]}

    assert [each["name"] for each in found] == names[::-1]
    assert_problem(stale, 412, "The token has changed since you read it; get it again")
    for path in (tokens_path(user), tokens_path(user, ids["a"])):
        known = {"If-None-Match": api.get(path).headers["etag"]}
        assert api.get(path, headers=known).status_code == 304
    assert api.delete(tokens_path(user, ids["a"]), headers=fresh).json() == {
        "message": "Token deleted successfully"
    }
    assert_problem(api.get(tokens_path(user, ids["a"])), 404, "Token not found")
    assert_problem(api.delete(tokens_path(user, ids["a"])), 404, "Token not found")
    assert_problem(api.patch(tokens_path(user, ids["b"])), 405)
    assert api.options(tokens_path(user)).headers["allow"] == "GET, HEAD, OPTIONS, POST"


@pytest.mark.anyio
async def test_a_user_has_at_most_50_tokens_also_when_many_come_at_once(
    engine: AsyncEngine,
) -> None:
    made = await asyncio.gather(*(make(engine, "ada") for _ in range(60)), return_exceptions=True)

    assert Counter(type(each) for each in made) == {str: 50, TooManyTokens: 10}
    await make(engine, "bob")


@pytest.mark.anyio
async def test_the_50th_token_waits_for_the_token_of_another_process(
    engine: AsyncEngine, own_database: str, locks: str
) -> None:
    another = """
        INSERT INTO personal_tokens SELECT gen_random_uuid(), user_id, name, scope, created_at,
        expires_at, last_used_at, hash FROM personal_tokens LIMIT 1
    """
    await make(engine, "ada")
    for _ in range(48):
        await execute(own_database, another)
    async with connected(own_database) as driver:
        async with driver.transaction():
            await driver.execute("SELECT pg_advisory_xact_lock(hashtextextended('ada', 0))")
            making = asyncio.create_task(make(engine, "ada"))
            await until_waiting(own_database, locks, 1, done=making)
            assert not making.done()
            await driver.execute(another)

        with pytest.raises(TooManyTokens):
            await making
        assert await driver.fetchval("SELECT count(*) FROM personal_tokens") == 50


@pytest.mark.anyio
async def test_a_create_starts_over_when_its_connection_breaks_while_it_waits(
    engine: AsyncEngine, own_database: str, locks: str
) -> None:
    async with connected(own_database) as driver, driver.transaction():
        await driver.execute("SELECT pg_advisory_xact_lock(hashtextextended('ada', 0))")
        making = asyncio.create_task(make(engine, "ada"))
        await until_waiting(own_database, locks, 1, done=making)
        await driver.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND NOT granted"
        )

    assert is_whole((await making).encode())


def test_the_51st_token_is_refused_with_a_sentence(
    api: httpx.Client, user: str, postgres: str
) -> None:
    first = create_token(api, user)
    asyncio.run(
        execute(
            postgres,
            "INSERT INTO personal_tokens SELECT gen_random_uuid(), user_id, name, scope,"
            " created_at, expires_at, last_used_at, hash FROM personal_tokens,"
            f" generate_series(2, 50) WHERE user_id = '{user}'",
        )
    )

    refused = api.post(tokens_path(user), json={"name": "cron"})
    api.delete(tokens_path(user, first["id"]))

    sentence = "has 50 tokens, and a user may have no more; end a token first"
    assert_problem(refused, 422, f"user_id: {sentence}")
    create_token(api, user)


# Who manages tokens


@pytest.mark.parametrize("scope", ["read", "write"])
def test_a_personal_token_manages_no_tokens(api: httpx.Client, user: str, scope: str) -> None:
    new = create_token(api, user, scope=scope)
    headers = bearer(new["token"])
    path = tokens_path(user, new["id"])

    for answer in [
        api.get(tokens_path(user), headers=headers),
        api.post(tokens_path(user), json={"name": "another"}, headers=headers),
        api.get(path, headers=headers),
        api.delete(path, headers=headers),
        api.delete(path.replace("tokens", "%74okens"), headers=headers),
        api.get(f"{tokens_path(user)}/", headers=headers),
    ]:
        assert_problem(answer, 403, OF_SIGN_IN_ONLY)
    assert [each["id"] for each in api.get(tokens_path(user)).json()] == [new["id"]]


def test_no_other_user_manages_a_users_tokens(api: httpx.Client, user: str) -> None:
    new = create_token(api, user)
    other = bearer(token("mallory"))

    assert_problem(
        api.get(tokens_path(user), headers=other),
        403,
        "These tokens belong to another user; you are mallory, and your tokens are at "
        "/api/mallory/tokens",
    )
    assert_problem(api.delete(tokens_path("mallory", new["id"]), headers=other), 404)
    assert ask(api, user, new["token"]).status_code == 200


@pytest.mark.parametrize("command", [SERVICE, PLAIN], ids=["fast", "plain"])
def test_open_mode_has_no_personal_tokens(
    own_database: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    with (
        serving(tmp_path / "log", command, DATABASE_URL=own_database) as server,
        server.client() as api,
    ):
        for answer in [
            api.get(tokens_path("ada")),
            api.post(tokens_path("ada"), json={"name": "cron"}),
            api.get(tokens_path("ada", uuid4())),
            api.delete(tokens_path("ada", uuid4())),
        ]:
            assert_problem(
                answer,
                403,
                "Anyone may act for any user here (AUTH_MODE=open), so no request needs a token",
            )
        contract = api.get("/openapi.json").json()
        assert not [path for path in contract["paths"] if "tokens" in path]
        assert ask(api, "ada", new_token_text()).status_code == 200
    assert asyncio.run(number_of_tokens(own_database)) == 0


async def number_of_tokens(url: str) -> int:
    async with connected(url) as driver:
        number: int = await driver.fetchval("SELECT count(*) FROM personal_tokens")
        return number


# The text


def test_a_text_has_at_least_190_bits_and_a_checksum() -> None:
    texts = {new_token_text() for _ in range(1000)}
    drawn = {text.removeprefix(PREFIX)[:32] for text in texts}
    digits = string.digits + string.ascii_letters

    assert len(texts) == 1000
    assert all(re.fullmatch(PATTERN, text) and is_whole(text.encode()) for text in texts)
    assert set("".join(drawn)) == set(digits)
    assert 32 * log2(len(digits)) >= 190


def test_a_scanner_finds_a_token_in_a_text() -> None:
    text = new_token_text()

    assert re.findall(PATTERN, f'curl -H "Authorization: Bearer {text}"\nKEY={text}') == [text] * 2
    assert re.findall(PATTERN, f"x{text} {text}x {text[:-1]}") == []


def test_the_text_of_an_old_token_stays_whole_and_keeps_its_hash() -> None:
    text = b"taskapi_0123456789abcdefghijklmnopqrstuvddurc2"

    assert is_whole(text)
    assert hash_of(text).hex() == sha256(text).hexdigest()
    assert is_personal(text)
    assert not is_personal(text[1:])


def test_a_text_with_one_digit_more_less_or_changed_is_not_whole() -> None:
    text = new_token_text()

    others = [*changed(text), f"{text}0", text[:-1], f"{text[:20]}0{text[20:]}"]
    assert [other for other in others if is_whole(other.encode("latin-1"))] == []


def test_the_table_has_only_the_hash_of_a_token(
    api: httpx.Client, user: str, postgres: str
) -> None:
    text = create_token(api, user)["token"]

    async def row() -> dict[str, Any]:
        async with connected(postgres) as driver:
            [row] = await driver.fetch("SELECT * FROM personal_tokens WHERE user_id = $1", user)
            return dict(row)

    kept = asyncio.run(row())
    assert kept.pop("hash") == sha256(text.encode()).digest()
    assert text.removeprefix(PREFIX)[:8] not in str(kept)


# What tokens may do


def requests(api: httpx.Client, user: str) -> Iterator[tuple[str, str, object]]:
    """Yield method, path and body of each kind of request for tasks. The reads come first."""
    path, milk = tasks_path(user), {"title": "Buy milk"}
    one = task_path(create(api, user))
    for method in ("GET", "HEAD"):
        for read in (path, one, f"{path}/changes"):
            yield method, read, None
    yield "POST", path, milk
    yield "PUT", one, milk
    yield "PATCH", one, milk
    yield "PATCH", f"{one}/complete", None
    yield "POST", f"{path}/batch", {"operations": [{"op": "create", "task": milk}]}
    yield "DELETE", one, None


def test_a_token_with_the_scope_write_can_do_all_that_a_sign_in_token_can_do(
    api: httpx.Client, user: str
) -> None:
    headers = bearer(create_token(api, user)["token"])

    for method, path, body in requests(api, user):
        answer = api.request(method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
    assert len(listed(api, user)) == 2


def test_a_token_with_the_scope_read_cannot_write(api: httpx.Client, user: str) -> None:
    headers = bearer(create_token(api, user, scope="read")["token"])
    before: list[Any] | None = None

    for method, path, body in requests(api, user):
        before = before or listed(api, user)
        answer = api.request(method, path, json=body, headers=headers)
        if method in {"GET", "HEAD"}:
            assert answer.status_code == 200
            continue
        assert_problem(answer, 403, READ_ONLY)
        assert answer.headers["www-authenticate"] == (
            f'Bearer error="insufficient_scope", error_description="{READ_ONLY}", scope="write"'
        )
    assert listed(api, user) == before


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_write_is_refused_before_its_body_is_read(
    server: Server, api: httpx.Client, user: str, body: bytes
) -> None:
    text = create_token(api, user, scope="read")["token"]
    # First, the service looks the token up. Otherwise the body could arrive during the look-up.
    assert ask(api, user, text).status_code == 200
    begin = f"POST {tasks_path(user)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {text}\r\n"

    answer = answer_to(server, begin.encode() + body)

    assert answer.status == 403
    assert "insufficient_scope" in (answer.headers["www-authenticate"] or "")


def test_a_token_works_while_the_key_server_is_away(own_database: str, tmp_path: Path) -> None:
    key = signing_key("one")
    with key_server(key) as issuer:
        settings = {"AUTH_MODE": "jwt", "AUTH_JWKS_URL": issuer.url}
        with (
            serving(tmp_path / "log", DATABASE_URL=own_database, **settings) as server,
            server.client() as api,
        ):
            signed_in = bearer(key.token("ada"))
            answer = api.post(tokens_path("ada"), json={"name": "cron"}, headers=signed_in)
            issuer.be_away()
            fetches = issuer.fetches
            assert ask(api, "ada", answer.json()["token"]).status_code == 200
            assert_refused(ask(api, "ada", new_token_text()), UNKNOWN)
            assert issuer.fetches == fetches


# Attacks


def test_another_users_token_is_unknown(api: httpx.Client, user: str) -> None:
    text = create_token(api, user)["token"]

    for other in [f"{user}x", user.upper(), "ada", "ada\0", "u" * 256, "ł" * 255, " ", "%", "'"]:
        assert_refused(ask(api, other, text), UNKNOWN)
    assert ask(api, user, text).status_code == 200


def test_a_token_outside_the_authorization_header_is_ignored(api: httpx.Client, user: str) -> None:
    text = create_token(api, user)["token"]
    nothing = {"Authorization": ""}

    for answer in [
        api.get(tasks_path(user), params={"access_token": text}, headers=nothing),
        api.get(tasks_path(user), params={"token": text}, headers=nothing),
        api.get(tasks_path(user), headers=nothing | {"Cookie": f"token={text}"}),
        api.get(tasks_path(user), headers=nothing | {"X-API-Key": text}),
        api.get(tasks_path(user), headers={"Authorization": f"Basic {text}"}),
        api.get(tasks_path(user), headers={"Authorization": text}),
    ]:
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
        assert text not in answer.text


def changed(text: str) -> Iterator[str]:
    """Yield the texts that a typing error or an attacker makes of a token."""
    yield text[:-1]
    yield text[:20]
    yield PREFIX
    yield f"{text}x"
    yield f"{text}{text[-6:]}"
    yield text + text
    yield text + "a" * 60_000
    yield text[:10] + text[10:].swapcase()
    yield f"{text[:-1]}{'0' if text[-1] != '0' else 'O'}"
    yield f"{text[:12]}{'1' if text[12] != '1' else 'l'}{text[13:]}"
    yield f"{text[:12]}\xe0{text[13:]}"
    yield f"{PREFIX}{'0' * 38}"
    yield f"{PREFIX}{'.' * 38}"
    yield f"{PREFIX}a.b.c"


def test_the_answer_says_that_a_token_was_changed(api: httpx.Client, user: str) -> None:
    text = create_token(api, user)["token"]

    for other in changed(text):
        answer = api.get(
            tasks_path(user), headers={b"Authorization": f"Bearer {other}".encode("latin-1")}
        )
        assert_refused(answer, MISTYPED)
    assert ask(api, user, text).status_code == 200


def test_a_changed_prefix_is_no_personal_token(api: httpx.Client, user: str) -> None:
    text = create_token(api, user)["token"]
    look_alike = text.replace("a", "\N{CYRILLIC SMALL LETTER A}", 1)

    for other in [text.upper(), f"T{text[1:]}", text[1:], f"x{text}", look_alike, f'"{text}"']:
        answer = api.get(tasks_path(user), headers={b"Authorization": f"Bearer {other}".encode()})
        assert_problem(answer, 401)
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_two_tokens_at_once_are_refused(api: httpx.Client, user: str) -> None:
    text = create_token(api, user)["token"]
    first = f"Bearer {text}"

    for second in [first, f"Bearer {token(user)}", "", "Basic YQ=="]:
        answer = api.get(
            tasks_path(user), headers=[("Authorization", first), ("Authorization", second)]
        )
        assert_problem(answer, 401)
    for both in [f"{text} {text}", f"{text}, {first}", f"{text},{text}"]:
        assert_refused(ask(api, user, both), MISTYPED)


def test_the_refusal_of_an_expired_token_names_the_day(
    api: httpx.Client, user: str, postgres: str
) -> None:
    text = create_token(api, user)["token"]
    age = f"UPDATE personal_tokens SET expires_at = '2026-11-01 23:59Z' WHERE user_id = '{user}'"
    asyncio.run(execute(postgres, age))

    for _ in range(2):
        refused = ask(api, user, text)
        assert_refused(refused, "The token expired on 2026-11-01; make a new token")


def test_a_token_that_ended_here_is_refused_at_once(api: httpx.Client, user: str) -> None:
    new, other = create_token(api, user), create_token(api, user)
    for each in (new, other):
        assert ask(api, user, each["token"]).status_code == 200

    assert api.delete(tokens_path(user, new["id"])).status_code == 200

    assert_refused(ask(api, user, new["token"]), UNKNOWN)
    assert ask(api, user, other["token"]).status_code == 200


@pytest.fixture(scope="module")
def forgetful(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Another worker, which remembers a token for half a second."""
    settings = {"DATABASE_URL": postgres} | WITH_SECRET
    command = with_limits(tokens_REMEMBERED_SECONDS=0.5)
    with serving(tmp_path_factory.mktemp("forgetful") / "log", command, **settings) as server:
        yield server


def test_a_token_that_ended_elsewhere_is_refused_soon(
    api: httpx.Client, forgetful: Server, user: str
) -> None:
    new = create_token(api, user)
    with forgetful.client() as elsewhere:
        assert ask(elsewhere, user, new["token"]).status_code == 200
        api.delete(tokens_path(user, new["id"]))

        assert eventually(lambda: ask(elsewhere, user, new["token"]).status_code == 401)


@pytest.mark.anyio
@pytest.mark.parametrize("ended_in", ["this worker", "another worker"])
async def test_streams_and_waiting_requests_end_with_their_token(
    server: Server, api: httpx.Client, forgetful: Server, user: str, ended_in: str
) -> None:
    """Streams end at once in the worker that ends the token, and soon in another worker.

    Both workers remember tokens.
    """
    new = create_token(api, user, scope="read")
    headers = bearer(new["token"])
    place = server if ended_in == "this worker" else forgetful
    async with httpx.AsyncClient(
        base_url=place.url, headers=headers, timeout=20, verify=NO_TLS
    ) as client:
        changes = f"{tasks_path(user)}/changes"
        since = (await client.get(changes)).json()["next"]
        ask = partial(client.get, changes, headers=headers | {"Prefer": "wait=60"})
        async with streaming(client, user) as stream:
            await stream.event()
            waiting = asyncio.create_task(ask(params={"since": since}))
            create(api, user)
            heard, answer = await stream.event(), await waiting
            assert answer.json()["changes"] == heard.data["changes"]
            waiting = asyncio.create_task(ask(params={"since": heard.id}))
            await asyncio.wait([waiting], timeout=0.3)

            await asyncio.to_thread(api.delete, tokens_path(user, new["id"]))

            last, end = await stream.event(), await stream.next()
        refused = await waiting

    assert last.fields["event"] == "problem"
    assert (last.data["status"], last.data["detail"]) == (401, UNKNOWN)
    assert end is None
    assert_refused(refused, UNKNOWN)


@pytest.mark.anyio
async def test_a_stream_ends_when_its_token_expires(
    server: Server, api: httpx.Client, user: str
) -> None:
    text = create_token(api, user, expires_at=str(datetime.now(UTC) + timedelta(seconds=2)))[
        "token"
    ]
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=20, verify=NO_TLS) as client,
        streaming(client, user, **bearer(text)) as stream,
    ):
        await stream.event()
        last = await stream.event()

    assert last.data["status"] == 401
    assert last.data["detail"].startswith("The token expired on ")


# What one worker knows about tokens. `statements` counts the statements that look up a token, and
# the statements that note the use of a token.


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    sent: Counter[str] = Counter()

    async def look_up(engine: AsyncEngine, user_id: str, hash_of_token: bytes) -> bytes | None:
        sent["look-ups"] += 1
        return await personal_token_service.look_up(engine, user_id, hash_of_token)

    async def note_use(engine: AsyncEngine, user_id: str, token_id: UUID) -> None:
        sent["notes"] += 1
        await personal_token_service.note_use(engine, user_id, token_id)

    monkeypatch.setattr(known_tokens, "look_up", look_up)
    monkeypatch.setattr(known_tokens, "note_use", note_use)
    return sent


@pytest.fixture
async def worker(engine: AsyncEngine) -> AsyncIterator[KnownTokens]:
    """The known tokens of a worker that has not looked up a token yet."""
    worker = KnownTokens(engine)
    yield worker
    await worker.close()


another_worker = worker


async def make(engine: AsyncEngine, user: str, **fields: Any) -> str:  # noqa: ANN401 - as pydantic takes them
    _, text = await personal_token_service.create_token(
        engine, user, PersonalTokenCreate(name="cron", **fields)
    )
    return text


@pytest.mark.anyio
async def test_a_known_token_costs_one_statement_however_many_requests_come(
    engine: AsyncEngine,
    worker: KnownTokens,
    statements: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (await make(engine, "ada")).encode()

    await asyncio.gather(*(worker.find("ada", text) for _ in range(100)))
    await asyncio.gather(*(worker.find("ada", text) for _ in range(100)))
    assert statements["look-ups"] == 1

    monkeypatch.setattr(known_tokens, "REMEMBERED_SECONDS", 0.0)
    await worker.find("ada", text)
    assert statements["look-ups"] == 2


@pytest.mark.anyio
async def test_a_known_token_is_looked_up_again_after_30_seconds(
    engine: AsyncEngine,
    worker: KnownTokens,
    statements: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(known_tokens, "monotonic", lambda: clock[0])
    text = (await make(engine, "ada")).encode()

    for moment, look_ups in [(1000.0, 1), (1029.9, 1), (1030.0, 2), (1059.9, 2), (1060.0, 3)]:
        clock[0] = moment
        await worker.find("ada", text)
        assert statements["look-ups"] == look_ups


@pytest.mark.anyio
async def test_a_stream_sleeps_until_its_token_must_be_looked_up_again(
    engine: AsyncEngine, worker: KnownTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "monotonic", lambda: 1000.0)
    slept: list[float] = []

    async def wait(_futures: object, timeout: float) -> None:  # noqa: ASYNC109 - as asyncio has it
        slept.append(timeout)
        await asyncio.Event().wait()

    known = await worker.find("ada", (await make(engine, "ada")).encode())
    monkeypatch.setattr("asyncio.wait", wait)
    waiting = asyncio.create_task(worker.until_refused(known))
    await asyncio.sleep(0)
    monkeypatch.undo()
    waiting.cancel()

    assert slept == [30.0]


@pytest.mark.anyio
async def test_a_look_up_that_fails_after_its_client_left_logs_nothing(
    worker: KnownTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    has_begun, may_fail = asyncio.Event(), asyncio.Event()

    async def look_up(*_: object) -> None:
        has_begun.set()
        await may_fail.wait()
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(known_tokens, "look_up", look_up)
    client = asyncio.create_task(worker.find("ada", new_token_text().encode()))
    await has_begun.wait()
    client.cancel()
    may_fail.set()
    await asyncio.wait([client, *worker.looking.values()])
    await asyncio.sleep(0)  # otherwise the worker still remembers the look-up
    del client  # otherwise the client still refers to the look-up
    gc.collect()

    assert "Task exception was never retrieved" not in told


@pytest.mark.anyio
async def test_a_worker_that_closes_waits_for_its_writes(
    engine: AsyncEngine, worker: KnownTokens, own_database: str
) -> None:
    await worker.find("ada", (await make(engine, "ada")).encode())
    await worker.close()
    await asyncio.sleep(0)  # otherwise the worker still remembers the write

    async with connected(own_database) as driver:
        assert await driver.fetchval("SELECT last_used_at FROM personal_tokens") is not None
    assert worker.noting == set()


@pytest.mark.anyio
async def test_the_use_of_a_token_is_written_once_an_hour_by_all_workers(
    engine: AsyncEngine,
    worker: KnownTokens,
    another_worker: KnownTokens,
    own_database: str,
    statements: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known_tokens, "REMEMBERED_SECONDS", 0.0)
    text = (await make(engine, "ada")).encode()
    workers = [worker, another_worker]

    async def used() -> datetime:
        for each in workers * 3:
            await each.find("ada", text)
            await asyncio.gather(*each.noting)
        async with connected(own_database) as driver:
            moment: datetime = await driver.fetchval("SELECT last_used_at FROM personal_tokens")
            return moment

    first = await used()
    assert datetime.now(UTC) - first < timedelta(minutes=1)
    assert await used() == first
    assert statements["notes"] == 1

    old = "UPDATE personal_tokens SET last_used_at = now() - interval '61 minutes'"
    await execute(own_database, old)
    for each in workers:
        for known in each.known.values():
            known.noted_at -= 3601
    assert await used() > first
    assert statements["notes"] == 2


@pytest.mark.anyio
async def test_a_use_that_cannot_be_written_is_not_tried_again_within_the_hour(
    engine: AsyncEngine, worker: KnownTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[UUID] = []

    async def refuse(_engine: AsyncEngine, _user_id: str, token_id: UUID) -> None:
        tried.append(token_id)
        raise DatabaseUnavailable("a standby")

    monkeypatch.setattr(known_tokens, "REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr(known_tokens, "note_use", refuse)
    text = (await make(engine, "ada")).encode()
    for _ in range(3):
        await worker.find("ada", text)
        await asyncio.gather(*worker.noting)

    assert len(tried) == 1


@pytest.mark.anyio
async def test_a_thousand_wrong_tokens_cost_a_statement_each_and_no_memory(
    engine: AsyncEngine,
    worker: KnownTokens,
    statements: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(known_tokens, "MOST_REMEMBERED", 100)
    monkeypatch.setattr(known_tokens, "TURN_SECONDS", 60.0)
    text = (await make(engine, "ada")).encode()
    await worker.find("ada", text)
    wrong = [new_token_text().encode() for _ in range(1000)]

    refused = await asyncio.gather(
        *(worker.find("ada", each) for each in wrong for _ in range(2)), return_exceptions=True
    )

    assert Counter(map(str, refused)) == {UNKNOWN: 2000}
    assert statements["look-ups"] == 1001
    assert len(worker.unknown) == 100
    assert list(worker.looking) == []
    with pytest.raises(TokenRefused):
        await worker.find("ada", wrong[-1])
    await worker.find("ada", text)
    assert statements["look-ups"] == 1001


@pytest.mark.anyio
async def test_a_first_look_up_does_not_wait_for_all_wrong_tokens_of_another_user(
    engine: AsyncEngine, worker: KnownTokens, statements: Counter[str]
) -> None:
    text = (await make(engine, "ada")).encode()
    wrong = [
        asyncio.create_task(worker.find("mallory", new_token_text().encode())) for _ in range(500)
    ]
    await asyncio.sleep(0)

    await worker.find("ada", text)

    assert statements["look-ups"] < 20
    await asyncio.gather(*wrong, return_exceptions=True)


@pytest.mark.anyio
async def test_a_client_that_leaves_does_not_end_the_look_up_of_another_client(
    engine: AsyncEngine, worker: KnownTokens
) -> None:
    text = (await make(engine, "ada")).encode()
    first, second = (asyncio.create_task(worker.find("ada", text)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()

    assert (await second).scope == "write"


@pytest.mark.anyio
async def test_a_token_that_ends_during_its_look_up_is_not_remembered(
    engine: AsyncEngine, worker: KnownTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, text = await personal_token_service.create_token(
        engine, "ada", PersonalTokenCreate(name="cron")
    )
    token_id, has_read, has_ended = UUID(json.loads(row)["id"]), asyncio.Event(), asyncio.Event()

    async def look_up(engine: AsyncEngine, user_id: str, hash_of_token: bytes) -> bytes | None:
        found = await personal_token_service.look_up(engine, user_id, hash_of_token)
        has_read.set()
        await has_ended.wait()
        return found

    monkeypatch.setattr(known_tokens, "look_up", look_up)
    looking = asyncio.create_task(worker.find("ada", text.encode()))
    await has_read.wait()
    await personal_token_service.end_token(engine, "ada", token_id)
    worker.forget("ada", token_id)
    has_ended.set()

    assert (await looking).id == token_id  # the look-up began before the token's end
    with pytest.raises(TokenRefused, match=UNKNOWN):
        await worker.find("ada", text.encode())


@pytest.mark.anyio
async def test_a_clock_that_is_set_back_brings_no_token_back(
    engine: AsyncEngine, worker: KnownTokens, own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (await make(engine, "ada")).encode()
    await execute(own_database, "UPDATE personal_tokens SET expires_at = now()")

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Earlier":  # noqa: ANN401 - as datetime has it
            return cls.fromtimestamp(1.6e9, tz)

    monkeypatch.setattr("time.time", lambda: 1.6e9)
    monkeypatch.setattr("datetime.datetime", Earlier)

    for _ in range(2):
        with pytest.raises(TokenRefused, match="expired on"):
            await worker.find("ada", text)


@pytest.mark.anyio
async def test_a_stream_waits_for_a_database_that_is_away(
    engine: AsyncEngine, worker: KnownTokens, own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_tokens, "REMEMBERED_SECONDS", 0.05)
    monkeypatch.setattr(known_tokens, "AWAY_SECONDS", 0.05)
    text = (await make(engine, "ada")).encode()
    away = asyncio.Event()

    async def refuse(*_: object) -> bytes:
        away.set()
        raise DatabaseUnavailable("away")

    waiting = asyncio.create_task(worker.until_refused(await worker.find("ada", text)))
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(known_tokens, "look_up", refuse)
        await asyncio.wait_for(away.wait(), 5)
        assert not waiting.done()
    await execute(own_database, "DELETE FROM personal_tokens")

    with pytest.raises(TokenRefused, match=UNKNOWN):
        await asyncio.wait_for(waiting, 5)


# The database


def test_while_the_database_is_away_a_token_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    with ExitStack() as after_postgres:
        with embedded_server(tmp_path / "data") as url:
            server = after_postgres.enter_context(
                serving(tmp_path / "log", DATABASE_URL=url, **WITH_SECRET)
            )
        api = after_postgres.enter_context(server.client())

        assert_problem(
            ask(api, "ada", new_token_text()),
            503,
            "The database cannot be reached just now; try again in a moment",
        )
        assert_refused(ask(api, "ada", f"{new_token_text()}x"), MISTYPED)


@pytest.mark.anyio
async def test_the_sweep_deletes_tokens_30_days_after_their_expiry(
    engine: AsyncEngine, own_database: str
) -> None:
    for user, days in [("ada", 31), ("ada", 29), ("bob", 31), ("eve", -1)]:
        await make(engine, user)
        await execute(
            own_database,
            f"UPDATE personal_tokens SET expires_at = now() - interval '{days} days'"
            f" WHERE user_id = '{user}' AND expires_at > now() + interval '80 days'",
        )

    await sweep_if_due(engine)

    async with connected(own_database) as driver:
        left = await driver.fetch("SELECT user_id FROM personal_tokens ORDER BY 1")
    assert [row[0] for row in left] == ["ada", "eve"]


# The operator


def operator(url: str, *arguments: str, **settings: str) -> tuple[int, str]:
    """Run `make token` without make; return the exit status and the output."""
    return ran("src.personal_token", *arguments, DATABASE_URL=url, **settings)


def test_an_operator_manages_tokens_of_a_service_without_a_sign_in(
    own_database: str, tmp_path: Path
) -> None:
    run = partial(operator, own_database, AUTH_MODE="personal")
    made, text = run("--name=cron", "--scope=read", "--expires-at=2026-12-24", "--", "-ada b/")
    others = [run("ada")[1].strip() for _ in range(2)]
    with (
        serving(tmp_path / "log", DATABASE_URL=own_database, AUTH_MODE="personal") as server,
        server.client() as api,
    ):
        assert made == 0
        assert ask(api, "-ada b/", text.strip()).status_code == 200
        assert [ask(api, "ada", each).status_code for each in others] == [200, 200]
        _, listed = run("--list", "--", "-ada b/")
        found = re.fullmatch(r"(\S+) read  valid until 2026-12-24, last used \S+: cron\n", listed)
        assert found
        assert run("--end", found[1], "--", "-ada b/") == (0, "Tokens ended: 1\n")
        assert run("--list", "--", "-ada b/") == (0, "")
        assert run("--end", found[1], "ada")[0] == 1
        assert run("--end-all", "ada") == (0, "Tokens ended: 2\n")

        assert_problem(api.get(tasks_path("ada")), 401)
        assert_problem(api.get(tokens_path("ada"), headers=bearer(run("ada")[1].strip())), 403)
        assert_refused(
            api.get(tasks_path("ada"), headers=bearer(token("ada"))),
            "The token is signed with an unknown key",
        )
    assert "Users anyone with a token\n" in server.log


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_does_nothing_to_the_terminal_of_an_operator(
    own_database: str, encoding: str
) -> None:
    operator(own_database, "--name=\x1b[2Jcron 😀\n\u202efake", "ada", AUTH_MODE="open")

    listed = subprocess.check_output(
        [sys.executable, "-m", "src.personal_token", "--list", "ada"],
        cwd=BACKEND,
        env=environment(DATABASE_URL=own_database, PYTHONIOENCODING=encoding),
    ).decode()

    smiley = "😀" if encoding == "utf-8" else r"\U0001f600"
    assert listed.endswith(rf"last used never: \x1b[2Jcron {smiley}\n\u202efake" + "\n")
    assert len(listed.splitlines()) == 1


@pytest.mark.parametrize("user", ["a$b", 'a"b', "a`id`b", "O'Hara", "$(shell id)", "a\\b", "-x"])
def test_make_passes_every_user_on_unchanged(user: str, tmp_path: Path) -> None:
    """If a recipe of `make` had the user's id in its text, the shell could change the id."""
    said = {}
    for target, module in {"token": "personal_token", "jwt": "development_token"}.items():
        python = tmp_path / "python"
        python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        python.chmod(0o755)
        command = ["make", "-s", target, f"FOR={user}", f"BIN={tmp_path}", "RUNS="]
        said[module] = subprocess.check_output(
            command, cwd=BACKEND, env=environment(), text=True
        ).splitlines()

    assert said == {
        "personal_token": ["-m", "src.personal_token", "--", user],
        "development_token": ["-m", "src.development_token", user],
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([""], "name the user, in 1 to 255 characters: make token FOR=ada"),
        (["a" * 256], "name the user, in 1 to 255 characters: make token FOR=ada"),
        ([], "the following arguments are required: user"),
        (["ada", "--end", "x"], "--end"),
        (["ada", "--list", "--end-all"], "not allowed with"),
        (["ada", "--scope=admin"], "--scope: "),
        (["ada", "--expires-at=2020-01-01"], "--expires-at: must be within the next 365 days"),
        (
            ["ada", f"--end={uuid4()}"],
            "The user has no token with this ID. --list lists the user's tokens.",
        ),
        (["\udcff"], "the arguments must be UTF-8"),
        (["ada", "--name=\udcff"], "the arguments must be UTF-8"),
    ],
)
def test_make_token_names_a_wrong_argument(postgres: str, arguments: list[str], said: str) -> None:
    status, text = operator(postgres, *arguments, AUTH_MODE="open")

    assert status != 0
    assert said in text
    assert "Traceback" not in text


def test_an_operator_gets_help_on_each_argument(postgres: str) -> None:
    status, text = operator(postgres, "--help", AUTH_MODE="open", COLUMNS="200")

    assert status == 0
    usage, about, arguments = text.split("\n\n", 2)
    assert usage == "usage: make token FOR=ada [ARGS='--name=cron --scope=read']"
    assert about == "Make a personal token, or list or end a user's tokens."
    for each in [
        "user the token's user; with make, FOR=ada",
        "--name NAME a name that says what uses the token",
        "--scope SCOPE read or write (default: write)",
        "--expires-at EXPIRES_AT the day or time when the token ends (default: in 90 days)",
        "--list list the user's tokens",
        "--end ID end the token with this ID",
        "--end-all end all of the user's tokens",
    ]:
        assert each in " ".join(arguments.split())


def test_a_restored_backup_brings_back_tokens_that_had_ended(
    own_database: str, direct_database: str, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    if pytestconfig.getoption("citus"):
        pytest.skip("dumps one server")
    text = operator(own_database, "ada", AUTH_MODE="personal")[1].strip()
    dump = dumped(own_database, "--data-only", "--table=personal_tokens")
    restored(direct_database, dump)
    command = with_limits(tokens_REMEMBERED_SECONDS=0.2)
    settings = {"DATABASE_URL": direct_database, "AUTH_MODE": "personal"}
    with serving(tmp_path / "log", command, **settings) as server, server.client() as api:
        assert text.encode() not in dump
        assert ask(api, "ada", text).status_code == 200

        assert operator(direct_database, "--end-all", "ada", AUTH_MODE="personal")[0] == 0

        assert eventually(lambda: ask(api, "ada", text).status_code == 401)
