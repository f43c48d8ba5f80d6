"""How the service finds, keeps, refreshes and removes the key server's keys (RFC 7517)."""

import asyncio
import gzip
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from src.framework.auth.exceptions import KeysUnavailable, NotAuthenticated
from src.framework.auth.jwks import FETCH_SECONDS, JWKS, SEARCH_SECONDS, SEARCHES
from src.framework.auth.tokens import TRIED_KEYS, Rules, Tokens
from tests.serving import BACKEND, Server, environment, eventually, free_port, serving, started
from tests.tasks import assert_problem, tasks_path
from tests.tokens import (
    ASYMMETRIC,
    SECRET,
    KeyServer,
    SigningKey,
    bearer,
    claims_of,
    handmade,
    http_answer,
    key_server,
    signing_key,
)

OURS = [signing_key(algorithm, algorithm) for algorithm in ("EdDSA", "ES256", "RS256")]
FIRST, SECOND = signing_key("first"), signing_key("second")

AT_ONCE = 3.0
"""How many seconds a stop may take on a busy machine. A fetch may take five seconds."""


@contextmanager
def trusting(
    issuer_url: str, postgres: str, log: Path, **settings: str
) -> Iterator[tuple[Server, httpx.Client]]:
    """Run a service that trusts this issuer."""
    settings |= {"AUTH_MODE": "jwt", "AUTH_JWKS_URL": issuer_url, "DATABASE_URL": postgres}
    with serving(log, **settings) as server, server.client() as api:
        yield server, api
    assert "Traceback" not in server.log
    assert "eyJ" not in server.log


@pytest.fixture
def issuer() -> Iterator[KeyServer]:
    """A key server of the test's own, with one key."""
    with key_server(FIRST) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def api(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with three keys, one of each algorithm."""
    log = tmp_path_factory.mktemp("keyed") / "log"
    with key_server(*OURS) as issuer, trusting(issuer.url, postgres, log) as (_, api):
        yield api


def ask(api: httpx.Client, value: str, user: str = "ada") -> httpx.Response:
    return api.get(tasks_path(user), headers=bearer(value))


def assert_refused(response: httpx.Response, description: str) -> None:
    assert_problem(response, 401)
    assert description in response.json()["detail"]
    assert response.headers["www-authenticate"].startswith('Bearer error="invalid_token", ')


def assert_unavailable(response: httpx.Response) -> None:
    assert_problem(
        response,
        503,
        "The service cannot fetch the keys to check your token; try again in a moment",
    )
    assert response.headers["retry-after"] == "2"


# Keys and signatures


@pytest.mark.parametrize("key", OURS, ids=lambda key: key.algorithm)
def test_a_token_of_a_published_key_is_accepted(api: httpx.Client, key: SigningKey) -> None:
    assert ask(api, key.token("ada")).status_code == 200
    assert_problem(ask(api, key.token("bob")), 403)


@pytest.mark.parametrize("key", OURS, ids=lambda key: key.algorithm)
def test_a_token_of_another_key_with_the_same_id_is_refused(
    api: httpx.Client, key: SigningKey
) -> None:
    other = signing_key(key.id, key.algorithm)

    assert_refused(ask(api, other.token("ada")), "The token's signature is wrong")


@pytest.mark.parametrize("key", OURS, ids=lambda key: key.algorithm)
def test_a_key_signs_with_its_own_algorithm_only(api: httpx.Client, key: SigningKey) -> None:
    for other in OURS:
        if other is not key:
            renamed = SigningKey(other.id, key.algorithm, key.private)
            assert_refused(
                ask(api, renamed.token("ada")), "The token is not signed with its key's algorithm"
            )


def test_an_unknown_key_is_refused(api: httpx.Client) -> None:
    assert_refused(ask(api, FIRST.token("ada")), "The token is signed with an unknown key")


@pytest.mark.parametrize("key", OURS, ids=lambda key: key.algorithm)
def test_a_token_that_names_no_key_is_tried_with_each_key(
    api: httpx.Client, key: SigningKey
) -> None:
    nameless = SigningKey(None, key.algorithm, key.private)
    stranger = signing_key(None, key.algorithm)

    assert ask(api, nameless.token("ada")).status_code == 200
    assert_refused(ask(api, stranger.token("ada")), "The token's signature is wrong")


def public_forms(key: SigningKey) -> dict[str, bytes]:
    public = key.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "PEM": pem,
        "PEM without its end": pem.rstrip(),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "SSH": public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "JWK": json.dumps(key.jwk).encode(),
        "JWK in short": json.dumps(key.jwk, separators=(",", ":")).encode(),
        "a member": (key.jwk.get("x") or key.jwk["n"]).encode(),
        "nothing": b"",
    }


@pytest.mark.parametrize("key", OURS, ids=lambda key: key.algorithm)
@pytest.mark.parametrize("form", public_forms(OURS[0]))
@pytest.mark.parametrize("algorithm", ["HS256", "none"])
def test_a_public_key_is_not_an_hmac_secret(
    api: httpx.Client, key: SigningKey, form: str, algorithm: str
) -> None:
    header = {"alg": algorithm, "kid": key.id}
    forged = handmade(header, claims_of("ada"), public_forms(key)[form])

    assert_refused(ask(api, forged), "The token is not signed with its key's algorithm")


@pytest.mark.parametrize("key", OURS, ids=lambda key: key.algorithm)
@pytest.mark.parametrize("length", [1, 63, 64, 65, 256])
def test_a_signature_of_zeros_is_refused(api: httpx.Client, key: SigningKey, length: int) -> None:
    signed, _, _ = key.token("ada").rpartition(".")
    zeros = handmade({}, bytes(length)).split(".")[1]

    assert_refused(ask(api, f"{signed}.{zeros}"), "The token's signature is wrong")


# Fetches, and searches for unknown keys


def test_many_unknown_keys_cause_few_fetches(
    issuer: KeyServer, postgres: str, tmp_path: Path
) -> None:
    began = time.monotonic()
    with (
        trusting(issuer.url, postgres, tmp_path / "log") as (_, api),
        ThreadPoolExecutor(10) as together,
    ):
        tokens = [signing_key(f"unknown-{number}").token("ada") for number in range(100)]
        for response in together.map(lambda value: ask(api, value), tokens):
            assert_refused(response, "The token is signed with an unknown key")
    seconds = time.monotonic() - began

    assert issuer.fetches <= 1 + SEARCHES + seconds / SEARCH_SECONDS


def test_an_unknown_key_does_not_delay_a_new_key(
    issuer: KeyServer, postgres: str, tmp_path: Path
) -> None:
    with trusting(issuer.url, postgres, tmp_path / "log") as (_, api):
        for _ in range(2):
            unknown = signing_key("unknown").token("ada")
            assert_refused(ask(api, unknown), "The token is signed with an unknown key")
        assert_refused(ask(api, SECOND.token("ada")), "The token is signed with an unknown key")
        issuer.publish(FIRST, SECOND)

        assert ask(api, SECOND.token("ada")).status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost", "https://127.0.0.1"])
def test_a_redirect_to_another_host_or_scheme_is_not_followed(
    postgres: str, tmp_path: Path, origin: str
) -> None:
    with key_server(FIRST) as other, key_server() as issuer:
        elsewhere = other.url.replace("http://127.0.0.1", origin)
        issuer.answer = http_answer(b"", "302 Found", f"Location: {elsewhere}\r\n")
        with trusting(issuer.url, postgres, tmp_path / "log") as (server, api):
            assert_unavailable(ask(api, FIRST.token("ada")))

        assert "ValueError('the response redirects to another host or scheme')" in server.log
    assert other.fetches == 0


def test_a_certificate_must_be_signed_by_a_trusted_ca(postgres: str, tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    with key_server(FIRST, tls=tls) as issuer:
        with trusting(issuer.url, postgres, tmp_path / "log") as (server, api):
            assert_unavailable(ask(api, FIRST.token("ada")))
            assert eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in server.log)
        trust = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        with trusting(issuer.url, postgres, tmp_path / "log", **trust) as (_, api):
            assert ask(api, FIRST.token("ada")).status_code == 200


def test_the_client_adds_no_lines_to_the_log(
    issuer: KeyServer, postgres: str, tmp_path: Path
) -> None:
    with trusting(issuer.url, postgres, tmp_path / "log", LOG_LEVEL="debug") as (server, api):
        assert ask(api, FIRST.token("ada")).status_code == 200
        said = server.log

    assert "HTTP Request" not in said
    assert "httpcore" not in said


@pytest.mark.parametrize("said", [{"AUTH_MODE": "open"}, {"AUTH_SECRET": SECRET}])
def test_a_service_without_a_key_server_loads_no_http_client(said: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-c", "import sys, src.main; sys.exit('httpx' in sys.modules)"],
        cwd=BACKEND,
        env=environment(**{"AUTH_MODE": ""} | said),
        check=True,
    )


# Stopping


def stop(server: Server, number: signal.Signals) -> float:
    """Stop the service; return how many seconds that takes."""
    began = time.monotonic()
    server.stop(number)
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_unresponsive_key_server_does_not_delay_a_stop_at_start_up(
    issuer: KeyServer, postgres: str, tmp_path: Path, number: signal.Signals
) -> None:
    issuer.may_answer.clear()
    settings = {"AUTH_MODE": "jwt", "AUTH_JWKS_URL": issuer.url, "DATABASE_URL": postgres}
    with started(tmp_path / "log", **settings) as server:
        assert eventually(lambda: issuer.fetches == 1)

        assert stop(server, number) < AT_ONCE
    assert "Traceback" not in server.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_trickling_key_server_does_not_delay_a_stop(
    issuer: KeyServer, postgres: str, tmp_path: Path, number: signal.Signals
) -> None:
    with (
        trusting(issuer.url, postgres, tmp_path / "log") as (server, api),
        ThreadPoolExecutor(1) as meanwhile,
    ):
        issuer.seconds_per_byte = 0.2
        waiting = meanwhile.submit(ask, api, SECOND.token("ada"))
        assert eventually(lambda: issuer.fetches == 2)

        assert stop(server, number) < AT_ONCE
        assert_unavailable(waiting.result())


def test_an_outage_affects_only_tokens_with_an_unknown_key(
    issuer: KeyServer, postgres: str, tmp_path: Path
) -> None:
    with trusting(issuer.url, postgres, tmp_path / "log") as (server, api):
        issuer.be_away()

        assert_unavailable(ask(api, SECOND.token("ada")))
        assert ask(api, FIRST.token("ada")).status_code == 200
        assert_problem(ask(api, FIRST.token("bob")), 403)
        assert server.log.count("The service cannot fetch the keys from AUTH_JWKS_URL") == 1


def test_a_service_starts_while_the_key_server_is_down(postgres: str, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/jwks"
    with trusting(url, postgres, tmp_path / "log") as (server, api):
        assert "The service cannot fetch the keys from AUTH_JWKS_URL" in server.log
        with key_server(FIRST, port=port):
            assert ask(api, FIRST.token("ada")).status_code == 200


def test_requests_with_a_known_key_do_not_wait_for_a_search(
    issuer: KeyServer, postgres: str, tmp_path: Path
) -> None:
    known = FIRST.token("ada")
    with (
        trusting(issuer.url, postgres, tmp_path / "log") as (_, api),
        ThreadPoolExecutor(1) as meanwhile,
    ):
        issuer.may_answer.clear()
        waiting = meanwhile.submit(ask, api, SECOND.token("ada"))
        assert eventually(lambda: issuer.fetches == 2)

        for value in [known, known, FIRST.token("ada", jti="not seen before")]:
            assert ask(api, value).status_code == 200
        assert ask(api, FIRST.token("bob")).status_code == 403
        assert not waiting.done()

        issuer.publish(FIRST, SECOND)
        issuer.may_answer.set()
        assert waiting.result().status_code == 200


# Tests in this process, which can shorten pauses


pytestmark = pytest.mark.anyio


def keys_of(issuer: KeyServer) -> JWKS:
    return JWKS(issuer.url, asyncio.Event(), "AUTH_JWKS_URL")


async def user_of(tokens: Tokens, value: str) -> str:
    return (await tokens.verified(value.encode())).user


def ids(keys: JWKS) -> set[str | None]:
    return {key.id for key in keys.trusted}


def trusting_tokens(keys: JWKS) -> Tokens:
    return Tokens(keys, Rules(issuer=None, audience=None, user_claim="sub"))


async def test_the_keys_are_fetched_once(issuer: KeyServer) -> None:
    keys = keys_of(issuer)
    tokens = trusting_tokens(keys)
    async with keys.kept_fresh():
        for user in ["ada", "bob"] * 10:
            assert await user_of(tokens, FIRST.token(user)) == user

    assert issuer.fetches == 1


async def test_a_fetch_names_its_media_type_and_no_library(issuer: KeyServer) -> None:
    async with keys_of(issuer).kept_fresh():
        pass

    assert b"\r\nAccept: application/json\r\n" in issuer.requests[0]
    assert b"\r\nAccept-Encoding: identity\r\n" in issuer.requests[0]
    assert b"httpx" not in issuer.requests[0]  # some firewalls refuse the name of a library


async def test_the_first_search_after_start_up_does_not_wait(issuer: KeyServer) -> None:
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        issuer.publish(SECOND)

        assert await keys.find("second")


async def test_a_pause_follows_a_few_searches(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.SEARCH_SECONDS", 3600.0)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        for number in range(100):
            assert not await keys.find(f"unknown-{number}")
        issuer.publish(FIRST, SECOND)

        assert not await keys.find("second")
        assert keys.known("first")
    assert issuer.fetches == 1 + SEARCHES


async def test_a_flood_of_invented_ids_delays_a_new_key_by_one_pause(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.SEARCH_SECONDS", 0.5)
    keys = keys_of(issuer)
    async with asyncio.timeout(10), keys.kept_fresh():
        for number in range(100):
            await keys.find(f"unknown-{number}")
        issuer.publish(FIRST, SECOND)
        fetches = issuer.fetches
        while not keys.known("second"):
            await keys.find("unknown")
            await asyncio.sleep(0)

    assert issuer.fetches == fetches + 1


async def test_every_used_search_becomes_available_again(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.SEARCH_SECONDS", 0.01)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        for _ in range(2):
            for _ in range(SEARCHES):
                await keys.find("unknown")
            await asyncio.sleep(0.01 * SEARCHES)
    assert issuer.fetches == 1 + 2 * SEARCHES


async def test_concurrent_searches_share_a_fetch(issuer: KeyServer) -> None:
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        issuer.publish(SECOND)

        found = await asyncio.gather(*(keys.find("second") for _ in range(50)))

    assert all(found)
    assert issuer.fetches == 2


async def test_cancelling_a_request_does_not_cancel_the_shared_fetch(issuer: KeyServer) -> None:
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        issuer.publish(SECOND)
        issuer.may_answer.clear()
        impatient, patient = (asyncio.create_task(keys.find("second")) for _ in range(2))
        await asyncio.to_thread(eventually, lambda: issuer.fetches == 2)

        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        issuer.may_answer.set()

        assert await patient
    assert issuer.fetches == 2


async def refreshed(issuer: KeyServer) -> None:
    """Wait until a fetch has begun and ended."""
    begun = issuer.fetches + 2
    assert await asyncio.to_thread(eventually, lambda: issuer.fetches >= begun)


async def test_keys_are_added_and_removed_in_the_background(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.REFRESH_SECONDS", 0.02)
    keys = keys_of(issuer)
    tokens = trusting_tokens(keys)
    before = FIRST.token("ada")
    async with keys.kept_fresh():
        assert await user_of(tokens, before) == "ada"

        issuer.publish(SECOND)
        await refreshed(issuer)

        assert keys.known("second")
        with pytest.raises(NotAuthenticated, match="The token is signed with an unknown key"):
            await user_of(tokens, before)


@pytest.mark.parametrize(("is_away", "seconds"), [(False, 300.0), (True, 30.0)])
async def test_keys_are_refreshed_every_five_minutes_and_sooner_in_an_outage(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch, *, is_away: bool, seconds: float
) -> None:
    slept = asyncio.Queue[float]()
    sleep = asyncio.sleep

    async def sleep_once(delay: float) -> None:
        if delay:
            slept.put_nowait(delay)
            await asyncio.Event().wait()
        await sleep(0)

    if is_away:
        issuer.be_away()
    monkeypatch.setattr("asyncio.sleep", sleep_once)
    async with keys_of(issuer).kept_fresh():
        assert await slept.get() == seconds


async def test_refreshing_ends_with_the_service(issuer: KeyServer) -> None:
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    async with keys_of(issuer).kept_fresh():
        assert asyncio.all_tasks() > before

    assert await asyncio.to_thread(eventually, lambda: asyncio.all_tasks(loop) == before)


async def test_an_outage_ends_in_the_background(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keys_of(issuer)
    issuer.be_away()
    monkeypatch.setattr("src.framework.auth.jwks.RETRY_SECONDS", 0.02)
    async with keys.kept_fresh():
        assert not keys.known("first")
        issuer.publish(FIRST)

        assert await asyncio.to_thread(eventually, lambda: bool(keys.known("first")))


async def test_refreshing_continues_after_any_answer(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.REFRESH_SECONDS", 0.02)
    monkeypatch.setattr("src.framework.auth.jwks.RETRY_SECONDS", 0.02)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        for name in NO_SETS:
            issuer.answer = no_set(name)
            await refreshed(issuer)
        issuer.publish(SECOND)
        await refreshed(issuer)

        assert keys.known("second")


async def test_a_remembered_token_is_not_valid_for_another_key_with_the_same_id(
    issuer: KeyServer,
) -> None:
    keys = keys_of(issuer)
    tokens = trusting_tokens(keys)
    before = FIRST.token("ada")
    async with keys.kept_fresh():
        assert await user_of(tokens, before) == "ada"
        issuer.publish(signing_key("first"))
        await keys.find("unknown")

        with pytest.raises(NotAuthenticated, match="The token's signature is wrong"):
            await user_of(tokens, before)


async def test_tokens_stay_verified_while_their_key_is_unchanged(issuer: KeyServer) -> None:
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        before = keys.known("first")
        issuer.publish_set([SECOND.jwk, dict(reversed(FIRST.jwk.items()))])
        await keys.find("second")

        assert keys.known("first") == before


async def test_a_token_without_a_key_id_matches_a_single_key(issuer: KeyServer) -> None:
    keys = keys_of(issuer)
    nameless = SigningKey(None, "EdDSA", FIRST.private)
    async with keys.kept_fresh():
        assert await user_of(trusting_tokens(keys), nameless.token("ada")) == "ada"


async def test_a_token_without_a_key_id_matches_a_key_without_an_id(issuer: KeyServer) -> None:
    nameless = signing_key(None)
    issuer.publish(FIRST, nameless)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        tokens = trusting_tokens(keys)
        assert await user_of(tokens, nameless.token("ada")) == "ada"
        assert await user_of(tokens, FIRST.token("ada")) == "ada"


async def test_an_empty_set_removes_every_key(issuer: KeyServer) -> None:
    keys = keys_of(issuer)
    tokens = trusting_tokens(keys)
    async with keys.kept_fresh():
        assert await user_of(tokens, FIRST.token("ada")) == "ada"
        issuer.publish()
        await keys.find("unknown")

        with pytest.raises(NotAuthenticated, match="The token is signed with an unknown key"):
            await user_of(tokens, FIRST.token("ada"))


# Slow, odd and broken answers


async def test_a_fetch_without_an_answer_times_out(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.FETCH_SECONDS", 0.1)
    issuer.may_answer.clear()
    keys = keys_of(issuer)
    async with asyncio.timeout(5), keys.kept_fresh():
        with pytest.raises(KeysUnavailable):
            await keys.find("first")
        issuer.may_answer.set()


async def test_a_fetch_with_a_trickling_answer_times_out(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.FETCH_SECONDS", 0.1)
    issuer.seconds_per_byte = 0.05
    keys = keys_of(issuer)
    async with asyncio.timeout(5), keys.kept_fresh():
        with pytest.raises(KeysUnavailable):
            await keys.find("first")
        assert await asyncio.to_thread(eventually, lambda: issuer.answering == 0)


@pytest.mark.parametrize("status", ["200 OK", "302 Found"])
async def test_only_a_little_of_a_huge_answer_is_read(issuer: KeyServer, status: str) -> None:
    issuer.answer = http_answer(b" " * 200_000_000, status, "Location: /elsewhere\r\n")
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        with pytest.raises(KeysUnavailable):
            await keys.find("first")
        assert await asyncio.to_thread(eventually, lambda: issuer.answering == 0)

    assert issuer.sent < 50_000_000


async def test_other_tasks_run_between_the_keys_of_a_set(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.FETCH_SECONDS", 60.0)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    keys = keys_of(issuer)
    async with keys.kept_fresh():
        issuer.publish(
            *(SigningKey(f"{number}", "ES256", OURS[1].private) for number in range(5000))
        )
        others = asyncio.create_task(take_turns())
        assert await keys.find("4999")
        others.cancel()

    assert turns >= 5000


async def test_a_stopping_service_neither_waits_for_a_fetch_nor_starts_a_fetch(
    issuer: KeyServer,
) -> None:
    keys = keys_of(issuer)
    async with asyncio.timeout(FETCH_SECONDS / 2), keys.kept_fresh():
        issuer.may_answer.clear()
        waiting = asyncio.create_task(keys.find("second"))
        await asyncio.to_thread(eventually, lambda: issuer.fetches == 2)

        keys.stopping.set()

        with pytest.raises(KeysUnavailable):
            await waiting
        with pytest.raises(KeysUnavailable):
            await keys.find("second")
        assert await keys.find("first")
    assert issuer.fetches == 2


async def test_no_proxy_or_password_from_the_environment_is_used(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        assert keys.known("first")

    assert b"authorization" not in issuer.requests[0].lower()


@pytest.mark.parametrize(
    ("url", "warnings"),
    [
        ("http://auth.example/jwks", 1),
        ("http://192.0.2.1:3000/jwks", 1),
        ("http://[2001:db8::1]/jwks", 1),
        ("https://auth.example/jwks", 0),
        ("http://localhost:3000/jwks", 0),
        ("http://127.0.0.1/jwks", 0),
        ("http://[::1]:3000/jwks", 0),
    ],
)
async def test_fetching_keys_over_plain_http_logs_a_warning(
    url: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    keys = JWKS(url, asyncio.Event(), "AUTH_JWKS_URL")
    keys.stopping.set()
    async with keys.kept_fresh():
        pass

    assert caplog.text.count("AUTH_JWKS_URL: the service fetches keys over plain HTTP") == warnings


SET = json.dumps({"keys": [SECOND.jwk]}).encode()
NO_SETS = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "no status": b"HTTP/1.1 fine\r\n\r\n" + SET,
    "a header of 200 KB": http_answer(SET, headers=f"X: {'a' * 200_000}\r\n"),
    "50,000 headers": http_answer(SET, headers="X: a\r\n" * 50_000),
    "broken off": http_answer(SET)[:-40],
    "broken off in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n" + SET,
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n" + SET,
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "304": http_answer(b"", "304 Not Modified"),
    "404": http_answer(SET, "404 Not Found"),
    "500": http_answer(SET, "500 Internal Server Error"),
    "a redirect to nowhere": http_answer(b"", "302 Found", "Location: http://127.0.0.1:1/\r\n"),
    "a redirect to a file": http_answer(b"", "302 Found", "Location: file:///etc/passwd\r\n"),
    "a redirect to itself": http_answer(b"", "302 Found", "Location: /jwks\r\n"),
    "a redirect to https": http_answer(b"", "302 Found", "Location: https://127.0.0.1/\r\n"),
    "a redirect to no address": http_answer(b"", "302 Found", "Location: http://[/\r\n"),
    "HTML": http_answer(b"<!doctype html><title>Sign in</title>"),
    "no body": http_answer(b""),
    "no UTF-8": http_answer(b"\xff\xfe\xfa"),
    "NUL": http_answer(b"\0" * 100),
    "no object": http_answer(json.dumps([FIRST.jwk]).encode()),
    "one key": http_answer(json.dumps(FIRST.jwk).encode()),
    "no keys": http_answer(b"{}"),
    "keys are null": http_answer(b'{"keys":null}'),
    "keys are an object": http_answer(json.dumps({"keys": {"second": SECOND.jwk}}).encode()),
    "keys are a string": http_answer(b'{"keys":"second"}'),
    "a huge number": http_answer(b'{"keys":[' + b"1" * 5000 + b"]}"),
    "very deep": http_answer(b"[" * 500_000),
    "very deep objects": http_answer(b'{"keys":' * 100_000),
    "2 MB": http_answer(b" " * 2_000_000 + SET),
    "500 MB, packed": b"",
}


@cache
def no_set(name: str) -> bytes:
    """Pack the large answer, which takes a second, only when a test needs it."""
    if name == "500 MB, packed":
        packed = gzip.compress(b" " * 500_000_000, compresslevel=1)
        return http_answer(packed, headers="Content-Encoding: gzip\r\n")
    return NO_SETS[name]


@pytest.mark.parametrize("name", NO_SETS)
async def test_an_answer_that_is_not_a_set_does_not_change_the_keys(
    issuer: KeyServer, name: str
) -> None:
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        issuer.answer = no_set(name)

        with pytest.raises(KeysUnavailable):
            await keys.find("second")
        assert keys.known("first")


@pytest.mark.parametrize("name", NO_SETS)
async def test_an_answer_that_is_not_a_set_does_not_prevent_the_start(
    issuer: KeyServer, name: str
) -> None:
    issuer.answer = no_set(name)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        issuer.publish(FIRST)

        assert await keys.find("first")


async def test_a_redirect_is_followed_three_times(
    issuer: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.answer = http_answer(b"", "302 Found", "Location: /jwks\r\n")
    async with keys_of(issuer).kept_fresh():
        pass

    assert issuer.fetches == 4
    assert "ValueError('the response redirects too often')" in caplog.text


async def test_a_redirect_within_the_host_is_followed(issuer: KeyServer) -> None:
    with key_server() as moved:
        moved.answer = http_answer(b"", "308 Permanent Redirect", f"Location: {issuer.url}\r\n")
        keys = keys_of(moved)
        async with keys.kept_fresh():
            assert keys.known("first")


ODD = signing_key("odd")
ODD_RSA = signing_key("odd", "RS256")
ODD_KEYS: dict[str, object] = {
    "null": None,
    "a string": "odd",
    "a number": 7,
    "a list": [ODD.jwk],
    "nothing": {},
    "no kty": {"kid": "odd", "alg": "EdDSA"},
    "kty of another type": ODD.jwk | {"kty": ["OKP"]},
    "kty that does not fit": ODD.jwk | {"kty": "RSA"},
    "an unknown kty": {"kid": "odd", "kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
    "a secret": {"kid": "odd", "kty": "oct", "k": "c2VjcmV0" * 8},
    "a secret for HS256": {"kid": "odd", "kty": "oct", "alg": "HS256", "k": "c2VjcmV0" * 8},
    "a secret for EdDSA": {"kid": "odd", "kty": "oct", "alg": "EdDSA", "k": "c2VjcmV0" * 8},
    "for encryption": ODD.jwk | {"use": "enc"},
    "for other operations": ODD.jwk | {"key_ops": ["encrypt", "wrapKey"]},
    "to sign": ODD.jwk | {"key_ops": ["sign"]},
    "key_ops is a number": ODD.jwk | {"key_ops": 7},
    "use is a list": ODD.jwk | {"use": ["sig"]},
    "use is an object": ODD.jwk | {"use": {"sig": 1}},
    "alg none": ODD.jwk | {"alg": "none"},
    "alg of another kind": ODD.jwk | {"alg": "RSA-OAEP"},
    "alg that we do not take": ODD_RSA.jwk | {"alg": "RS1"},
    "alg of a curve that we do not take": {"kid": "odd", "kty": "EC", "crv": "secp256k1"},
    "alg that does not fit": ODD.jwk | {"alg": "ES256"},
    "alg is a list": ODD.jwk | {"alg": ["EdDSA"]},
    "alg is a number": ODD.jwk | {"alg": 7},
    "crv is missing": {name: value for name, value in ODD.jwk.items() if name != "crv"},
    "crv is unknown": ODD.jwk | {"crv": "X25519"},
    "crv is a list": ODD.jwk | {"crv": ["Ed25519"]},
    "x is missing": {name: value for name, value in ODD.jwk.items() if name != "x"},
    "x is a number": ODD.jwk | {"x": 7},
    "x is short": ODD.jwk | {"x": "AAAA"},
    "x is no ASCII": ODD.jwk | {"x": "é"},
    "kid is a list": ODD.jwk | {"kid": ["odd"]},
    "kid is an object": ODD.jwk | {"kid": {"odd": 1}},
    "kid is a number": ODD.jwk | {"kid": 7},
    "a point off the curve": {
        "kid": "odd",
        "kty": "EC",
        "crv": "P-256",
        "x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE",
        "y": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE",
    },
    "n is empty": ODD_RSA.jwk | {"n": ""},
    "n is a number": ODD_RSA.jwk | {"n": 7},
    "e is 1": ODD_RSA.jwk | {"e": "AQ"},
    "private": ODD.private_jwk,
    "private, RSA": ODD_RSA.private_jwk,
}


@pytest.mark.parametrize("odd", ODD_KEYS.values(), ids=ODD_KEYS)
async def test_an_odd_key_is_ignored_and_the_other_keys_work(
    issuer: KeyServer, odd: object
) -> None:
    issuer.publish_set([FIRST.jwk, odd, SECOND.jwk])
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        assert ids(keys) == {"first", "second"}
        assert not await keys.find("odd")


@pytest.mark.parametrize("odd", ODD_KEYS.values(), ids=ODD_KEYS)
async def test_an_odd_key_does_not_hide_another_key_with_its_id(
    issuer: KeyServer, odd: object
) -> None:
    for documents in [[ODD.jwk, odd], [odd, ODD.jwk]]:
        issuer.publish_set(documents)
        keys = keys_of(issuer)
        async with keys.kept_fresh():
            assert await user_of(trusting_tokens(keys), ODD.token("ada")) == "ada"


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
@pytest.mark.parametrize("stated", [True, False])
async def test_every_asymmetric_algorithm_works_with_a_fitting_key(
    issuer: KeyServer, algorithm: str, stated: bool
) -> None:
    key = signing_key("its own", algorithm)
    members = key.jwk.keys() if stated else key.jwk.keys() - {"alg"}
    issuer.publish_set([FIRST.jwk, {name: key.jwk[name] for name in members}])
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        assert await user_of(trusting_tokens(keys), key.token("ada")) == "ada"


@pytest.mark.parametrize("stated", ["RS256", "RS512", "PS256", "PS512"])
async def test_a_key_that_states_its_algorithm_verifies_with_no_other_algorithm(
    issuer: KeyServer, stated: str
) -> None:
    key = signing_key("its own", stated)
    issuer.publish(key)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        for other in {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} - {stated}:
            forged = SigningKey(key.id, other, key.private).token("ada")
            with pytest.raises(NotAuthenticated, match="not signed with its key's algorithm"):
                await user_of(trusting_tokens(keys), forged)


@pytest.mark.parametrize("name", ["Ed25519", "Ed448"])
@pytest.mark.parametrize("stated", ["EdDSA", "its own", None])
async def test_a_key_for_eddsa_has_two_names_for_its_algorithm(
    issuer: KeyServer, name: str, stated: str | None
) -> None:
    key = signing_key("its own", name)
    issuer.publish_set([published(key, alg=name if stated == "its own" else stated)])
    other = {"Ed25519": "Ed448", "Ed448": "Ed25519"}[name]
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        tokens = trusting_tokens(keys)
        for allowed in ["EdDSA", name]:
            assert await user_of(tokens, SigningKey(key.id, allowed, key.private).token("ada"))
        with pytest.raises(NotAuthenticated, match="not signed with its key's algorithm"):
            await user_of(tokens, SigningKey(key.id, other, key.private).token("ada"))


def published(key: SigningKey, *left_out: str, **members: object) -> dict[str, Any]:
    """Return a key's document without some members and with others."""
    kept = {name: value for name, value in key.jwk.items() if name not in left_out}
    return kept | members


def as_in(provider: str) -> tuple[list[SigningKey], list[dict[str, Any]]]:
    """Make keys, and the set of keys that this provider would publish."""
    algorithms = {
        "Better Auth": ["EdDSA", "ES256", "RS256", "PS256", "ES512"],
        "Logto": ["ES384"],
        "Supabase": ["ES256", "RS256"],
        "Keycloak": ["RS256", "ES256", "PS256"],
    }.get(provider, ["RS256", "RS256"])
    keys = [signing_key(f"{provider} {n}", name) for n, name in enumerate(algorithms)]
    x5 = {"x5t": "NTQ3", "x5c": ["MIIC"]}
    match provider:
        case "Better Auth":  # it publishes `alg`, but no `use` and no `key_ops`
            return keys, [published(key, "use", "key_ops") for key in keys]
        case "Supabase":
            return keys, [published(key, "use", ext=True, key_ops=["verify"]) for key in keys]
        case "Entra":  # its keys have no `alg`
            issuer = "https://login.microsoftonline.com/{tenantid}/v2.0"
            more = {"cloud_instance_name": "microsoftonline.com", "issuer": issuer, **x5}
            return keys, [published(key, "alg", "key_ops", use="sig", **more) for key in keys]
        case "Keycloak":  # one of its keys is for encryption
            encryption = published(signing_key("enc", "RS256"), use="enc", alg="RSA-OAEP", **x5)
            return keys, [encryption, *(published(key, use="sig", **x5) for key in keys)]
        case "Auth0":
            return keys, [published(key, "key_ops", use="sig", **x5) for key in keys]
        case _:  # Logto, Clerk, Cognito
            return keys, [published(key, "key_ops", use="sig") for key in keys]


@pytest.mark.parametrize(
    "provider",
    ["Better Auth", "Logto", "Auth0", "Clerk", "Supabase", "Cognito", "Entra", "Keycloak"],
)
async def test_the_key_sets_of_providers_work(issuer: KeyServer, provider: str) -> None:
    signing, documents = as_in(provider)
    issuer.publish_set(documents)
    keys = keys_of(issuer)
    tokens = trusting_tokens(keys)
    async with keys.kept_fresh():
        for key in signing:
            assert await user_of(tokens, key.token("ada")) == "ada"
            nameless = SigningKey(None, key.algorithm, key.private)
            assert await user_of(tokens, nameless.token("bob")) == "bob"
            stranger = signing_key(key.id, key.algorithm)
            if stranger.private is not key.private:
                with pytest.raises(NotAuthenticated, match="signature is wrong"):
                    await user_of(tokens, stranger.token("ada"))
    assert issuer.fetches == 1


async def test_two_keys_may_have_one_id(issuer: KeyServer) -> None:
    both = [signing_key("1", "ES256"), signing_key("1", "ES256"), signing_key("1", "EdDSA")]
    issuer.publish(*both)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        for key in both:
            assert await user_of(trusting_tokens(keys), key.token("ada")) == "ada"


async def test_a_token_may_name_a_key_that_is_published_without_its_id(issuer: KeyServer) -> None:
    key = signing_key("named", "ES256")
    issuer.publish_set([FIRST.jwk, published(key, "kid")])
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        assert await user_of(trusting_tokens(keys), key.token("ada")) == "ada"


async def test_a_new_key_is_found_for_a_token_that_names_no_key(issuer: KeyServer) -> None:
    new = signing_key(None, "ES256")
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        issuer.publish(FIRST, new)
        assert await user_of(trusting_tokens(keys), new.token("ada")) == "ada"
    assert issuer.fetches == 2


async def test_tokens_that_name_no_key_share_the_budget_of_searches(
    issuer: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.framework.auth.jwks.SEARCH_SECONDS", 3600.0)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        for _ in range(20):
            with pytest.raises(NotAuthenticated):
                await user_of(trusting_tokens(keys), signing_key(None).token("ada"))
    assert issuer.fetches == 1 + SEARCHES


async def test_a_token_that_names_no_key_is_tried_with_few_of_many_keys(issuer: KeyServer) -> None:
    nameless = SigningKey(None, "EdDSA", FIRST.private)
    issuer.publish(*(signing_key(f"{number}") for number in range(TRIED_KEYS)), FIRST)
    keys = keys_of(issuer)
    async with keys.kept_fresh():
        with pytest.raises(NotAuthenticated, match="The token's signature is wrong"):
            await user_of(trusting_tokens(keys), nameless.token("ada"))
        assert await user_of(trusting_tokens(keys), FIRST.token("ada")) == "ada"


@pytest.mark.parametrize("left_out", [{"alg"}, {"alg", "key_ops"}, {"kid"}])
@pytest.mark.parametrize("key", OURS, ids=lambda key: key.algorithm)
async def test_a_key_may_lack_optional_members(
    issuer: KeyServer, key: SigningKey, left_out: set[str]
) -> None:
    issuer.publish_set([{name: key.jwk[name] for name in key.jwk.keys() - left_out}])
    keys = keys_of(issuer)
    nameless = SigningKey(None if "kid" in left_out else key.id, key.algorithm, key.private)
    async with keys.kept_fresh():
        assert await user_of(trusting_tokens(keys), nameless.token("ada")) == "ada"


async def test_a_weak_key_verifies_nothing(issuer: KeyServer) -> None:
    weak = SigningKey("weak", "RS256", rsa.generate_private_key(65537, 1024))
    issuer.publish(weak)
    keys = keys_of(issuer)
    with pytest.warns(match="1024 bits"):
        signed = weak.token("ada")
    async with keys.kept_fresh():
        with pytest.raises(NotAuthenticated, match="The RSA key is 1024 bits long"):
            await user_of(trusting_tokens(keys), signed)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
members: dict[str, Any] = {
    "kty": st.sampled_from(["OKP", "EC", "RSA", "oct"]),
    "alg": st.sampled_from(["EdDSA", "ES256", "RS256", "HS256", "none"]),
    "crv": st.sampled_from(["Ed25519", "Ed448", "P-256", "P-384", "secp256k1"]),
    "use": st.sampled_from(["sig", "enc"]),
}
documents = st.fixed_dictionaries(
    {"kty": members["kty"]},
    optional={
        name: members.get(name, st.text("AQab_-=é", max_size=50)) | json_values
        for name in ["kid", "alg", "crv", "use", "x", "y", "n", "e", "d", "k", "key_ops", "x5c"]
    },
)


@pytest.fixture(scope="module")
def lasting_issuer() -> Iterator[KeyServer]:
    with key_server() as issuer:
        yield issuer


@settings(deadline=None)
@given(odd=st.lists(documents | json_values, max_size=3))
def test_the_service_reads_any_set_of_keys(lasting_issuer: KeyServer, odd: list[object]) -> None:
    lasting_issuer.publish_set([*odd, FIRST.jwk])

    async def keys_found() -> set[str | None]:
        keys = keys_of(lasting_issuer)
        async with keys.kept_fresh():
            return ids(keys)

    assert asyncio.run(keys_found()) >= {"first"}
