"""Tokens of a real Better Auth server."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from src.framework.auth.exceptions import NotAuthenticated
from src.framework.auth.jwks import JWKS
from src.framework.auth.tokens import Rules, Tokens
from tests.better_auth import BetterAuth, User, better_auth, install_better_auth
from tests.serving import free_port, serving
from tests.tasks import assert_problem, create, listed, tasks_path
from tests.tokens import bearer


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_better_auth(tmp_path_factory.mktemp("better-auth"))


@contextmanager
def trusting(
    issuer: BetterAuth, postgres: str, log: Path, **settings: str
) -> Iterator[httpx.Client]:
    """Run a service that trusts this issuer."""
    auth = {"AUTH_MODE": "jwt", "AUTH_JWKS_URL": issuer.jwks_url}
    with serving(log, DATABASE_URL=postgres, **auth, **settings) as server, server.client() as api:
        yield api


def ask(api: httpx.Client, user: User, token: str) -> httpx.Response:
    return api.get(tasks_path(user.id), headers=bearer(token))


@pytest.mark.parametrize(
    ("options", "algorithm"),
    [
        ({}, "EdDSA"),
        ({"jwks": {"keyPairConfig": {"alg": "ES256"}}}, "ES256"),
        ({"jwks": {"keyPairConfig": {"alg": "RS256"}}}, "RS256"),
    ],
)
def test_users_work_on_their_own_tasks_only(
    installed: Path, postgres: str, tmp_path: Path, options: dict[str, Any], algorithm: str
) -> None:
    with better_auth(installed, **options) as issuer:
        ada, bob = issuer.sign_up("ada@app.example"), issuer.sign_up("bob@app.example")
        expected = {"AUTH_ISSUER": issuer.issuer, "AUTH_AUDIENCE": issuer.issuer}
        with trusting(issuer, postgres, tmp_path / "log", **expected) as api:
            for user, other in [(ada, bob), (bob, ada)]:
                token = user.token()
                assert jwt.get_unverified_header(token)["alg"] == algorithm

                api.headers.update(bearer(token))
                assert [create(api, user.id)] == listed(api, user.id)
                assert_problem(api.get(tasks_path(other.id)), 403)


def test_a_key_rotation_needs_no_restart(installed: Path, postgres: str, tmp_path: Path) -> None:
    rotation = {"rotationInterval": 2, "gracePeriod": 0}
    with better_auth(installed, jwks=rotation) as issuer:
        ada = issuer.sign_up("ada@app.example")
        with trusting(issuer, postgres, tmp_path / "log") as api:
            before = ada.token()
            assert ask(api, ada, before).status_code == 200

            after = ada.token_after_rotation(before)

            assert ask(api, ada, after).status_code == 200
            assert_problem(ask(api, ada, before), 401, "The token is signed with an unknown key")


def test_known_keys_survive_an_outage_and_new_keys_count_after_it(
    installed: Path, postgres: str, tmp_path: Path
) -> None:
    port = free_port()
    with ExitStack() as service:
        with better_auth(installed, port=port) as issuer:
            ada = issuer.sign_up("ada@app.example")
            token = ada.token()
            api = service.enter_context(trusting(issuer, postgres, tmp_path / "log"))

        assert ask(api, ada, token).status_code == 200

        with better_auth(installed, port=port) as issuer:
            bob = issuer.sign_up("bob@app.example")
            assert ask(api, bob, bob.token()).status_code == 200
            assert_problem(ask(api, ada, token), 401, "The token is signed with an unknown key")


@pytest.mark.anyio
async def test_a_session_cookie_of_the_same_key_is_not_a_token(installed: Path) -> None:
    with better_auth(installed, sessionCookieCache=True) as issuer:
        ada = issuer.sign_up("ada@app.example")
        token, cookie = ada.token(), ada.session["better-auth.session_data"]
        said = [jwt.decode(each, options={"verify_signature": False}) for each in (token, cookie)]
        assert [claims["sub"] for claims in said] == [ada.id, ada.id]

        keys = JWKS(issuer.jwks_url, asyncio.Event(), "AUTH_JWKS_URL")
        tokens = Tokens(keys, Rules(issuer=issuer.issuer, audience=None, user_claim="sub"))
        async with keys.kept_fresh():
            assert (await tokens.verified(token.encode())).user == ada.id
            with pytest.raises(NotAuthenticated, match="The token is not meant for this API"):
                await tokens.verified(cookie.encode())
