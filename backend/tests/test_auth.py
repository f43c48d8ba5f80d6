"""Nobody gets in without a token of the user in the path: RFC 6750, RFC 7519, RFC 8725."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatchcase
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.config import AUTH_ADVICE
from src.framework.auth import tokens as tokens_module
from src.framework.auth.exceptions import NotAuthenticated
from src.framework.auth.tokens import Rules, SecretKey, Tokens
from src.framework.sql.embedded import embedded_server
from tests.serving import FRONTEND_ORIGIN, NO_TLS, Server, eventually, serving
from tests.tasks import assert_problem, create, listed, tasks_path
from tests.tokens import SECRET, bearer, claims_of, handmade, key_server, signing_key, token

HEADER = {"alg": "HS256", "typ": "JWT"}
SHAPE = "Send one token, as in Authorization: Bearer header.claims.signature"
CHALLENGE = re.compile(r'Bearer( error="invalid_token", error_description="[ !#-\[\]-~]+")?')


@pytest.fixture(scope="module")
def secured(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with tokens. At the end, its log must have neither an error nor a token."""
    log = tmp_path_factory.mktemp("secured") / "log"
    settings = {"AUTH_MODE": "jwt", "AUTH_SECRET": SECRET, "DATABASE_URL": postgres}
    with serving(log, **settings) as server:
        yield server
    assert "Traceback" not in server.log
    assert "eyJ" not in server.log


@pytest.fixture(scope="module")
def api(secured: Server) -> Iterator[httpx.Client]:
    with secured.client() as client:
        yield client


@pytest.fixture(scope="module")
def strict(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service that checks issuer and audience, and identifies users by e-mail address."""
    settings = {
        "AUTH_MODE": "jwt",
        "AUTH_SECRET": SECRET,
        "AUTH_ISSUER": "https://app.example",
        "AUTH_AUDIENCE": "tasks",
        "AUTH_USER_CLAIM": "email",
        "DATABASE_URL": postgres,
    }
    log = tmp_path_factory.mktemp("strict") / "log"
    with serving(log, **settings) as server, server.client() as client:
        yield client


def assert_refused(response: httpx.Response, description: str) -> None:
    """In the description, * stands for the words of a library."""
    assert_problem(response, 401)
    detail = response.json()["detail"]
    challenge = response.headers["www-authenticate"]
    assert fnmatchcase(detail, description)
    assert CHALLENGE.fullmatch(challenge)
    assert 'error="invalid_token"' in challenge
    assert detail.replace('"', "'") in challenge


def assert_asked_for_a_token(response: httpx.Response) -> None:
    assert_problem(
        response, 401, "Send a token, as in Authorization: Bearer header.claims.signature"
    )
    assert response.headers["www-authenticate"] == "Bearer"


def ask(api: httpx.Client, value: str, user: str = "ada") -> httpx.Response:
    return api.get(tasks_path(user), headers=bearer(value))


# Who may call


def operations(api: httpx.Client) -> list[tuple[str, str]]:
    paths = api.get("/openapi.json").json()["paths"]
    return [
        (method, re.sub(r"{\w+}", "ada", path))
        for path, methods in paths.items()
        for method in methods
        if path.startswith("/api/")
    ]


def test_every_operation_asks_for_a_token_of_the_user_in_its_path(api: httpx.Client) -> None:
    assert len(operations(api)) >= 6
    for method, path in operations(api):
        assert_asked_for_a_token(api.request(method, path))
        noun = "tokens" if "tokens" in path else "tasks"
        assert_problem(
            api.request(method, path, headers=bearer(token("bob"))),
            403,
            f"These {noun} belong to another user; you are bob, and your {noun} are at "
            f"/api/bob/{noun}",
        )
        own = api.request(method, path, headers=bearer(token("ada")))
        assert own.status_code not in {401, 403}


def test_head_asks_for_a_token_like_get(api: httpx.Client, user: str) -> None:
    assert api.head(tasks_path(user)).status_code == 401
    assert api.head(tasks_path(user), headers=bearer(token("bob"))).status_code == 403
    assert api.head(tasks_path(user), headers=bearer(token(user))).status_code == 200


def test_a_user_finds_the_users_own_task(secured: Server, user: str) -> None:
    with secured.client() as mine:
        mine.headers.update(bearer(token(user)))

        assert [create(mine, user)] == listed(mine, user)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/docs", "/openapi.json"])
def test_public_paths_need_no_token(api: httpx.Client, path: str) -> None:
    assert api.get(path).status_code == 200


def test_the_contract_names_the_scheme_and_its_answers(api: httpx.Client) -> None:
    contract = api.get("/openapi.json").json()

    scheme = contract["components"]["securitySchemes"]["token"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert scheme["description"].startswith("A token of the sign-in, or a personal token")
    for path, methods in contract["paths"].items():
        for operation in methods.values():
            asks = path.startswith("/api/")
            assert (operation.get("security") == [{"token": []}]) is asks
            assert ({"401", "403"} <= operation["responses"].keys()) is asks


def test_a_page_may_read_the_reason_of_a_refusal(api: httpx.Client) -> None:
    origin = {"Origin": FRONTEND_ORIGIN}

    for response in [
        api.get("/api/ada/tasks", headers=origin),
        api.get("/api/ada/tasks", headers=origin | bearer("a.b.c")),
        api.get("/api/ada/tasks", headers=origin | bearer(token("bob"))),
    ]:
        assert response.status_code >= 401
        assert response.headers["access-control-allow-origin"] == FRONTEND_ORIGIN
        assert response.headers["access-control-allow-credentials"] == "true"
        assert "WWW-Authenticate" in response.headers["access-control-expose-headers"]


def test_a_preflight_needs_no_token(api: httpx.Client) -> None:
    asked = {
        "Origin": FRONTEND_ORIGIN,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization",
    }

    response = api.options("/api/ada/tasks", headers=asked)

    assert response.status_code == 204
    assert "authorization" in response.headers["access-control-allow-headers"].lower()


# Open mode


def test_the_log_says_that_a_service_without_settings_is_open_on_loopback(server: Server) -> None:
    assert httpx.get(f"{server.url}/api/ada/tasks", verify=NO_TLS).status_code == 200
    assert "Users anyone (AUTH_MODE=open)\n" in server.log


def test_an_open_service_ignores_tokens_and_its_contract_asks_for_no_token(server: Server) -> None:
    response = httpx.get(f"{server.url}/api/ada/tasks", headers=bearer("a.b.c"), verify=NO_TLS)
    contract = httpx.get(f"{server.url}/openapi.json", verify=NO_TLS).text

    assert response.status_code == 200
    assert "securitySchemes" not in contract
    assert '"401"' not in contract


def test_the_log_says_that_the_service_asks_for_tokens(secured: Server) -> None:
    assert "Users anyone with a token\n" in secured.log


# Order


def answer_to(server: Server, request: bytes) -> HTTPResponse:
    """Send bytes as they are, and read the answer."""
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), 10) as client:
        client.sendall(request)
        response = HTTPResponse(client)
        response.begin()
        response.read()
        return response


BODIES = {
    "no JSON": b"Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{",
    "no media type": b"Content-Length: 2\r\n\r\n{}",
    "announced, not sent": b"Content-Type: application/json\r\nContent-Length: 20\r\n\r\n",
    "expecting to be asked for": b"Expect: 100-continue\r\nContent-Length: 20\r\n\r\n",
    "too large": b"Content-Type: application/json\r\nContent-Length: 9999999999\r\n\r\n{",
    "never-ending": b"Transfer-Encoding: chunked\r\n\r\n" + b"5\r\n[[[[[\r\n" * 2500,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_authorization_comes_before_the_body_is_read(secured: Server, body: bytes) -> None:
    begin = b"POST /api/ada/tasks HTTP/1.1\r\nHost: x\r\n"
    authorization = f"Authorization: Bearer {token('bob')}\r\n".encode()

    assert answer_to(secured, begin + body).status == 401
    assert answer_to(secured, begin + authorization + body).status == 403


def test_authorization_comes_before_validation(api: httpx.Client) -> None:
    assert_asked_for_a_token(api.get("/api/ada/tasks/no-uuid"))
    assert_problem(api.get("/api/ada/tasks/no-uuid", headers=bearer(token("bob"))), 403)
    assert_problem(api.get("/api/ada/tasks/no-uuid", headers=bearer(token("ada"))), 422)


def test_authorization_comes_before_the_database(tmp_path: Path) -> None:
    with ExitStack() as after_postgres:
        with embedded_server(tmp_path / "data") as url:
            settings = {"AUTH_MODE": "jwt", "AUTH_SECRET": SECRET, "DATABASE_URL": url}
            server = after_postgres.enter_context(serving(tmp_path / "log", **settings))
        api = after_postgres.enter_context(server.client())

        assert_problem(ask(api, token("ada")), 503)
        assert_asked_for_a_token(api.get("/api/ada/tasks"))
        assert_problem(ask(api, token("bob")), 403)


# The Authorization header


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "])
def test_the_scheme_is_case_insensitive(api: httpx.Client, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {token('ada')}"}

    assert api.get("/api/ada/tasks", headers=headers).status_code == 200


OTHER_SCHEMES = {
    "empty": b"",
    "Basic": b"Basic YWRhOmxvdmVsYWNl",
    "Basic with a token": b"Basic " + token("ada").encode(),
    "Digest": b'Digest username="ada"',
    "DPoP": b"DPoP " + token("ada").encode(),
    "none": token("ada").encode(),
    "nothing between": b"Bearer" + token("ada").encode(),
    "a tab between": b"Bearer\t" + token("ada").encode(),
    "a colon between": b"Bearer:" + token("ada").encode(),
    "in quotes": b'"Bearer" ' + token("ada").encode(),
    "a no-break space between": b"Bearer\xa0" + token("ada").encode(),
    "no ASCII": "B\N{CYRILLIC SMALL LETTER IE}arer ".encode() + token("ada").encode(),
}


@pytest.mark.parametrize("value", OTHER_SCHEMES.values(), ids=OTHER_SCHEMES)
def test_another_scheme_is_not_a_token(api: httpx.Client, value: bytes) -> None:
    assert_asked_for_a_token(api.get("/api/ada/tasks", headers={b"Authorization": value}))


GOOD = token("ada").encode()
NO_TOKENS = {
    "nothing": b"Bearer",
    "dots": b"Bearer ..",
    "many dots": b"Bearer " + b"." * 1000,
    "two parts": b"Bearer a.b",
    "four parts": b"Bearer " + GOOD + b".a",
    "padding in the middle": b"Bearer " + GOOD.replace(b".", b"=.", 1),
    "an empty signature": b"Bearer " + GOOD.rpartition(b".")[0] + b".",
    "empty claims": b"Bearer " + GOOD.partition(b".")[0] + b".." + GOOD.rpartition(b".")[2],
    "two tokens": b"Bearer " + GOOD + b" " + GOOD,
    "a list": b"Bearer " + GOOD + b", Bearer " + GOOD,
    "a parameter": b'Bearer token="' + GOOD + b'"',
    "quotes": b'Bearer "' + GOOD + b'"',
    "no ASCII": b"Bearer " + GOOD + b"\xff\xfe",
    "letters of another script": "Bearer \N{CYRILLIC SMALL LETTER A}.a.a".encode(),
    "digits of another script": "Bearer \N{ARABIC-INDIC DIGIT ONE}.1.1".encode(),
    "JSON": b'Bearer {"sub":"ada"}',
    "percent-encoded": b"Bearer " + GOOD.replace(b".", b"%2E"),
    "60 KB": b"Bearer " + b"a" * 60_000,
    "60 KB of a token": b"Bearer " + GOOD + b"a" * 60_000,
    "just too long": b"Bearer " + b"a" * 16_381 + b".a.a",
}


@pytest.mark.parametrize("value", NO_TOKENS.values(), ids=NO_TOKENS)
def test_a_malformed_token_is_refused(api: httpx.Client, value: bytes) -> None:
    assert_refused(api.get("/api/ada/tasks", headers={b"Authorization": value}), SHAPE)


UNREADABLE = {
    "no base64": "a.b.c",
    "another alphabet": "+/+/.e30.e30",
    "a tilde after the signature": f"{token('ada')}~",
    "bits that say nothing": "e31.e31.e31",
    "a header that is no JSON": handmade(b"alg: HS256", {}),
    "a header that is no UTF-8": handmade(b"\xff\xfe", {}),
    "a header with NUL": handmade(b'{"alg":"HS256"}\0', {}),
    "a header that is a list": handmade(["HS256"], {}),
    "a header that is a string": handmade("HS256", {}),
    "a header that is null": handmade(None, {}),
    "a very deep header": handmade(b"[" * 8000, {}),
    "a very deep member": handmade(b'{"alg":"HS256","x":' + b"[" * 7000, {}),
    "a number of 5,000 digits": handmade(b'{"alg":' + b"1" * 5000 + b"}", {}),
    "kid is a list": handmade(HEADER | {"kid": ["a"]}, {}),
    "kid is an object": handmade(HEADER | {"kid": {"a": 1}}, {}),
    "kid is a number": handmade(HEADER | {"kid": 1}, {}),
    "kid is null": handmade(HEADER | {"kid": None}, {}),
    "crit is empty": handmade(HEADER | {"crit": []}, {}),
    "crit is a string": handmade(HEADER | {"crit": "exp"}, {}),
    "crit has what is unknown": handmade(HEADER | {"crit": ["exp"], "exp": 1}, {}),
    "the payload is not encoded": handmade(HEADER | {"b64": False, "crit": ["b64"]}, {}),
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
def test_a_token_that_cannot_be_read_is_refused(api: httpx.Client, value: str) -> None:
    assert_refused(ask(api, value), "The token cannot be read")


def test_a_header_with_nul_is_refused(secured: Server) -> None:
    request = b"GET /api/ada/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.\0.c\r\n\r\n"

    assert answer_to(secured, request).status == 400


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"Bearer " + GOOD, b"Bearer " + GOOD),
        (b"Bearer " + GOOD, b"Bearer " + token("bob").encode()),
        (b"Bearer " + GOOD, b"Basic YWRhOmxvdmVsYWNl"),
        (b"Bearer " + GOOD, b""),
    ],
)
def test_two_authorization_headers_are_refused(
    api: httpx.Client, first: bytes, second: bytes
) -> None:
    headers = [(b"Authorization", first), (b"authorization", second)]

    assert_refused(api.get("/api/ada/tasks", headers=headers), SHAPE)


def test_a_token_after_another_scheme_is_ignored(api: httpx.Client) -> None:
    headers = [(b"Authorization", b"Basic YWRhOmxvdmVsYWNl"), (b"Authorization", b"Bearer " + GOOD)]

    assert_asked_for_a_token(api.get("/api/ada/tasks", headers=headers))


def test_a_token_outside_the_authorization_header_is_ignored(api: httpx.Client) -> None:
    good = token("ada")

    for query in ["access_token", "token", "authorization"]:
        assert_asked_for_a_token(api.get(f"/api/ada/tasks?{query}={good}"))
    for field in ["Cookie", "X-Authorization", "Proxy-Authorization", "X-Access-Token"]:
        assert_asked_for_a_token(api.get("/api/ada/tasks", headers={field: f"Bearer {good}"}))
    assert_asked_for_a_token(api.post("/api/ada/tasks", data={"access_token": good}))


# The header of a token


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "jwt"},
        {"typ": "at+jwt"},
        {"typ": "AT+JWT"},
        {"typ": "application/at+jwt"},
        {"typ": "application/jwt"},
        {"typ": "Application/JWT"},
        {"kid": "any"},
        {"kid": "../../etc/passwd"},
        {"kid": "' OR 1=1 --"},
        {"zip": "DEF"},
        {"x5c": ["AAAA"]},
        {"b64": True},
    ],
)
def test_a_token_header_may_have_more_members(api: httpx.Client, header: dict[str, object]) -> None:
    assert ask(api, handmade(HEADER | header, claims_of("ada"))).status_code == 200


def test_a_token_header_needs_no_type(api: httpx.Client) -> None:
    assert ask(api, handmade({"alg": "HS256"}, claims_of("ada"))).status_code == 200


@pytest.mark.parametrize(
    "algorithm",
    [
        *("none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS384", "HS512"),
        *("RS256", "ES256", "EdDSA", None, 0, True, ["HS256"], {"HS256": 1}),
    ],
)
def test_a_token_with_another_algorithm_than_its_key_is_refused(
    api: httpx.Client, algorithm: object
) -> None:
    tampered = handmade(HEADER | {"alg": algorithm}, claims_of("ada"))

    assert_refused(ask(api, tampered), "The token is not signed with its key's algorithm")


def test_an_algorithm_must_be_named(api: httpx.Client) -> None:
    assert_refused(
        ask(api, handmade({}, claims_of("ada"))), "The token is not signed with its key's algorithm"
    )


def test_the_last_of_two_algorithms_counts(api: httpx.Client) -> None:
    said = handmade(b'{"alg":"HS256","alg":"none"}', claims_of("ada"))

    assert_refused(ask(api, said), "The token is not signed with its key's algorithm")


@pytest.mark.parametrize(
    "kind",
    [
        *("better-auth.session-cache+jwt", "secevent+jwt", "logout+jwt", "dpop+jwt", "JOSE", ""),
        *("application/", "application/dpop+jwt", "application/application/jwt", "text/jwt"),
        *(None, 1, ["jwt"], "jwt "),
    ],
)
def test_a_token_of_another_type_is_refused(api: httpx.Client, kind: object) -> None:
    other = handmade(HEADER | {"typ": kind}, claims_of("ada"))

    assert_refused(ask(api, other), "The token is not meant for this API")


@pytest.mark.parametrize("name", ["jku", "x5u"])
def test_a_token_cannot_name_the_address_of_its_key(api: httpx.Client, name: str) -> None:
    attacker = signing_key("theirs")
    with key_server(attacker) as theirs:
        header = {"alg": "EdDSA", "kid": "theirs", name: theirs.url}
        forged = handmade(header, claims_of("ada"))
        pointing = handmade(HEADER | {name: theirs.url}, claims_of("ada"))

        assert_refused(ask(api, forged), "The token is not signed with its key's algorithm")
        assert ask(api, pointing).status_code == 200
        assert theirs.fetches == 0


def test_a_token_cannot_bring_its_own_key(api: httpx.Client) -> None:
    brought = {"kty": "oct", "alg": "HS256", "k": "dGhlIGF0dGFja2VyJ3Mgb3duIHNlY3JldCwgMzIgYg"}
    forged = handmade(
        HEADER | {"jwk": brought}, claims_of("ada"), b"the attacker's own secret, 32 b"
    )

    assert_refused(ask(api, forged), "The token's signature is wrong")


@pytest.mark.parametrize(
    "secret", ["another secret of at least 32 bytes", " " + SECRET, SECRET[1:]]
)
def test_a_signature_of_another_secret_is_refused(api: httpx.Client, secret: str) -> None:
    assert_refused(ask(api, token("ada", secret)), "The token's signature is wrong")


def test_a_signature_of_other_claims_is_refused(api: httpx.Client) -> None:
    header, _, signature = token("ada").split(".")
    claims = token("bob").split(".")[1]

    assert_refused(
        ask(api, f"{header}.{claims}.{signature}", "bob"), "The token's signature is wrong"
    )


# The claims of a token


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 9e9 + 0.5},
        {"exp": 10**300},
        {"exp": 1e300},
        {"nbf": 0, "iat": -1},
        {"nbf": 0.5, "iat": 0.5},
        {"iss": "https://anyone.example"},
        {"aud": ["anything"]},
        {"admin": True, "deep": {"a": [1]}},
    ],
)
def test_a_token_may_have_more_claims(api: httpx.Client, claims: dict[str, Any]) -> None:
    assert ask(api, token("ada", **claims)).status_code == 200


NOW = int(time.time())
NOT_NUMBERS = "The token's times must be numbers of seconds"
TIMES: dict[str, tuple[dict[str, Any], str]] = {
    "expired": ({"exp": NOW - 3600}, "The token has expired"),
    "expires never": ({"exp": None}, "The token has no claim exp"),
    "expires at a word": (
        {"exp": "soon"},
        "The token cannot be read: Expiration Time claim (exp) must be an integer*",
    ),
    "expires at a list": (
        {"exp": [9999999999]},
        "The token cannot be read: Expiration Time claim*",
    ),
    "expires at an object": (
        {"exp": {"n": 9999999999}},
        "The token cannot be read: Expiration Time claim*",
    ),
    "expires at true": ({"exp": True}, "The token has expired"),
    "expires at infinity": (
        {"exp": float("inf")},
        "The token cannot be read: Expiration Time claim*",
    ),
    "expires at no number": (
        {"exp": float("nan")},
        "The token cannot be read: Expiration Time claim*",
    ),
    "expired before time": ({"exp": -(10**300)}, "The token has expired"),
    "expires at a text of digits": ({"exp": "9999999999"}, NOT_NUMBERS),
    "expires at a text with underscores": ({"exp": "9_999_999_999"}, NOT_NUMBERS),
    "expires at a text of other digits": ({"exp": "٩٩٩٩٩٩٩٩٩٩"}, NOT_NUMBERS),
    "expires after all numbers": ({"exp": 10**400}, NOT_NUMBERS),
    "valid from a text on": ({"nbf": " 1 "}, NOT_NUMBERS),
    "issued at a text": ({"iat": "1"}, NOT_NUMBERS),
    "issued before all numbers": ({"iat": -(10**400)}, NOT_NUMBERS),
    "not yet valid": ({"nbf": NOW + 3600}, "The token is not valid yet"),
    "valid from a word on": (
        {"nbf": "soon"},
        "The token cannot be read: Not Before claim (nbf) must be an integer*",
    ),
    "valid from infinity on": (
        {"nbf": float("inf")},
        "The token cannot be read: Not Before claim*",
    ),
    "issued in the future": ({"iat": NOW + 3600}, "The token is not valid yet"),
    "issued at a list": (
        {"iat": [NOW]},
        "The token cannot be read: Issued At claim (iat) must be an integer*",
    ),
    "issued at a huge number": ({"iat": 10**300}, "The token is not valid yet"),
}


def test_the_issuers_clock_may_be_30_seconds_ahead(api: httpx.Client) -> None:
    now = int(time.time())

    assert ask(api, token("ada", iat=now + 25, nbf=now + 25)).status_code == 200
    assert_refused(ask(api, token("ada", iat=now + 40)), "The token is not valid yet")
    assert_refused(ask(api, token("ada", nbf=now + 40)), "The token is not valid yet")


def test_a_token_that_has_just_expired_is_refused(api: httpx.Client) -> None:
    assert_refused(ask(api, token("ada", exp=int(time.time()))), "The token has expired")


@pytest.mark.parametrize(("claims", "description"), TIMES.values(), ids=TIMES)
def test_a_token_is_refused_outside_its_time(
    api: httpx.Client, claims: dict[str, Any], description: str
) -> None:
    assert_refused(ask(api, token("ada", **claims)), description)


@pytest.mark.parametrize(
    ("claims", "description"),
    [
        ({"sub": None, "exp": NOW + 86400}, "The token has no claim sub"),
        ({"exp": NOW + 86400}, "The token has no claim sub"),
        *(
            ({"sub": user, "exp": NOW + 86400}, "The token is not meant for this API")
            for user in [7.5, 1e300, True, ["ada"], {"ada": 1}, []]
        ),
        (b"no JSON", "The token cannot be read: Invalid payload string*"),
        (b"\xff\xfe\xfa", "The token cannot be read: Invalid payload string*"),
        (b"[" * 8000, "The token cannot be read: Invalid payload string*"),
        (b"1" * 5000, "The token cannot be read: Invalid payload string*"),
        (["ada"], "The token cannot be read: Invalid payload string: must be a json object*"),
        (None, "The token cannot be read: Invalid payload string: must be a json object*"),
    ],
)
def test_a_token_names_one_user(api: httpx.Client, claims: object, description: str) -> None:
    assert_refused(ask(api, handmade(HEADER, claims), "7"), description)


@pytest.mark.parametrize(
    ("number", "user"),
    [
        (b"42", "42"),
        (b"42.0", "42"),
        (b"4.2e1", "42"),
        (b"0", "0"),
        (b"-7", "-7"),
        (b"9007199254740993", "9007199254740993"),
    ],
)
def test_a_numbered_user_is_its_decimal_text(
    api: httpx.Client, strict: httpx.Client, number: bytes, user: str
) -> None:
    claims = b'{"sub":%b,"email":%b,"exp":9999999999,"iss":"https://app.example","aud":"tasks"}'
    numbered = handmade(HEADER, claims % (number, number))

    for service in [api, strict]:
        assert ask(service, numbered, user).status_code == 200
        assert_problem(ask(service, numbered, f"{user}.0"), 403)


def test_the_last_of_two_users_counts(api: httpx.Client) -> None:
    two = handmade(HEADER, b'{"sub":"ada","exp":9999999999,"sub":"bob"}')

    assert_problem(ask(api, two, "ada"), 403)
    assert ask(api, two, "bob").status_code == 200


DIFFERENT = [
    ("ada", "Ada"),
    ("Ada", "ada"),
    ("ada", "ada%20"),
    (" ada", "ada"),
    ("ada\n", "ada"),
    ("ada", "ada%0A"),
    ("ada\0", "ada"),
    ("ada", "ada%00"),
    ("%61da", "ada"),
    ("ada", "%2561da"),
    ("ada/bob", "ada"),
    ("ada", "ada%2Fbob"),
    ("ada", "bob%2F..%2Fada"),
    ("", "ada"),
    ("*", "ada"),
    ("ad\N{LATIN SMALL LETTER A WITH DIAERESIS}", "ad%61%CC%88"),  # NFC, NFD
    ("ada\u0308", "ad%C3%A4"),
    ("\N{LATIN SMALL LIGATURE FI}", "fi"),  # NFKC
    ("\N{FULLWIDTH LATIN SMALL LETTER A}da", "ada"),
    ("\N{KELVIN SIGN}", "K"),
    ("stra\N{LATIN SMALL LETTER SHARP S}e", "strasse"),  # case folding
    ("\N{CYRILLIC SMALL LETTER A}da", "ada"),
    ("ada\N{ZERO WIDTH SPACE}", "ada"),
    ("\ud800", "%EF%BF%BD"),
]


@pytest.mark.parametrize(("user", "segment"), DIFFERENT)
def test_user_ids_that_differ_in_any_character_are_different_users(
    api: httpx.Client, user: str, segment: str
) -> None:
    assert_problem(api.get(f"/api/{segment}/tasks", headers=bearer(token(user))), 403)


@pytest.mark.parametrize(
    "user", ["Ada", "auth0|Ada", "a/b 50% \N{GRINNING FACE}\n", "../bob", "u" * 255]
)
def test_the_refusal_of_another_users_path_names_the_path_of_the_tokens_user(
    api: httpx.Client, user: str
) -> None:
    headers = bearer(token(user))

    sentence = api.get("/api/ada/tasks", headers=headers).json()["detail"]

    assert f"; you are {user}, and your tasks are at " in sentence
    assert api.get(sentence.rpartition(" at ")[2], headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("user", "segment"),
    [
        ("ada", "ada"),
        ("ada", "%61%64%61"),
        ("%61da", "%2561da"),
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("a/b", "a%2fb"),
        ("a+b", "a+b"),
        ("ada@app.example", "ada%40app.example"),
        ("ad\N{LATIN SMALL LETTER A WITH DIAERESIS}", "ad%C3%A4"),
        ("ada\n", "ada%0A"),
    ],
)
def test_the_token_is_compared_with_the_decoded_path(
    api: httpx.Client, user: str, segment: str
) -> None:
    response = api.get(f"/api/{segment}/tasks", headers=bearer(token(user)))

    assert response.status_code == 200


def email(**changes: object) -> str:
    said = {"email": "ada@app.example", "iss": "https://app.example", "aud": "tasks"}
    return handmade(HEADER, claims_of("u-1", **said | changes))


def test_the_claim_that_names_the_user_can_be_chosen(strict: httpx.Client) -> None:
    assert ask(strict, email(), "ada@app.example").status_code == 200
    assert_problem(ask(strict, email(), "u-1"), 403)


def test_an_audience_may_be_one_of_several(strict: httpx.Client) -> None:
    both = email(aud=["mail", "tasks"])

    assert ask(strict, both, "ada@app.example").status_code == 200


@pytest.mark.parametrize(
    ("changes", "description"),
    [
        ({"iss": None}, "The token has no claim iss"),
        ({"iss": "https://app.example/"}, "The token is from another issuer"),
        ({"iss": "https://APP.example"}, "The token is from another issuer"),
        ({"iss": ""}, "The token is from another issuer"),
        ({"iss": ["https://app.example"]}, "The token is from another issuer"),
        ({"aud": None}, "The token has no claim aud"),
        ({"aud": "Tasks"}, "The token is for another audience"),
        ({"aud": "tasks2"}, "The token is for another audience"),
        ({"aud": []}, "The token has no claim aud"),
        ({"aud": ["mail"]}, "The token is for another audience"),
        ({"aud": ["tasks", 7]}, "The token is for another audience"),
        ({"aud": {"tasks": 1}}, "The token is for another audience"),
        ({"email": None}, "The token has no claim email"),
        ({"email": 7.5}, "The token is not meant for this API"),
        ({"email": ["ada@app.example"]}, "The token is not meant for this API"),
        ({"email": True}, "The token is not meant for this API"),
    ],
)
def test_issuer_audience_and_claim_must_match_the_settings(
    strict: httpx.Client, changes: dict[str, Any], description: str
) -> None:
    assert_refused(ask(strict, email(**changes), "ada@app.example"), description)


# Arbitrary input


anything = settings(deadline=None)

field_values = st.binary(max_size=80).map(lambda value: re.sub(rb"[\x00-\x1f\x7f]", b"", value))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
members = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jwk", "jku", "x5c", "zip", "exp"])
headers = st.dictionaries(members, st.sampled_from(["HS256", "none", "JWT", "exp"]) | json_values)


@anything
@given(scheme=st.sampled_from([b"", b"Bearer ", b"bearer\t", b"Basic "]), value=field_values)
def test_any_bytes_are_401(api: httpx.Client, scheme: bytes, value: bytes) -> None:
    authorization = (scheme + value).strip()

    response = api.get("/api/ada/tasks", headers={b"Authorization": authorization})

    assert_problem(response, 401)
    assert CHALLENGE.fullmatch(response.headers["www-authenticate"])


@anything
@given(header=headers | json_values | st.binary(max_size=20))
def test_any_header_with_another_signature_is_401(api: httpx.Client, header: object) -> None:
    forged = handmade(header, claims_of("ada"), b"not the secret")

    response = ask(api, forged)

    assert_problem(response, 401)
    assert CHALLENGE.fullmatch(response.headers["www-authenticate"])


@anything
@given(claims=json_values | st.dictionaries(st.sampled_from(["sub", "exp", "nbf"]), json_values))
def test_any_claims_that_name_nobody_are_401(api: httpx.Client, claims: object) -> None:
    nobody = {**claims, "sub": None} if isinstance(claims, dict) else claims

    response = ask(api, handmade(HEADER, nobody))

    assert_problem(response, 401)
    assert CHALLENGE.fullmatch(response.headers["www-authenticate"])


# Remembered tokens


def test_a_remembered_token_expires(api: httpx.Client, user: str) -> None:
    brief = token(user, exp=int(time.time()) + 2)

    assert ask(api, brief, user).status_code == 200
    assert eventually(lambda: ask(api, brief, user).status_code == 401, seconds=5)
    assert_refused(ask(api, brief, user), "The token has expired")


@pytest.mark.anyio
async def test_memory_is_bounded_however_many_tokens_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.framework.auth.tokens.REMEMBERED_TOKENS", 3)
    tokens = Tokens(SecretKey(SECRET), Rules(None, None, "sub"))
    values = [token("ada", jti=str(number)) for number in range(10)]

    for value in values * 2:
        assert (await tokens.verified(value.encode())).user == "ada"

    assert len(tokens.remembered) == 3


@pytest.mark.anyio
async def test_a_token_is_verified_once() -> None:
    tokens = Tokens(SecretKey(SECRET), Rules(None, None, "sub"))
    value = token("ada")
    await tokens.verified(value.encode())
    verified = tokens.remembered[value.encode()]

    await tokens.verified(value.encode())

    assert tokens.remembered[value.encode()] is verified


@pytest.mark.anyio
async def test_bad_tokens_are_not_remembered() -> None:
    tokens = Tokens(SecretKey(SECRET), Rules(None, None, "sub"))
    bad = [token("ada", "another secret of at least 32 bytes"), token("ada", exp=NOW), "a.b.c"]

    for value in bad:
        with pytest.raises(NotAuthenticated):
            await tokens.verified(value.encode())

    assert tokens.remembered == {}


@pytest.mark.anyio
async def test_the_log_names_a_refused_token_once_a_minute_with_reason_and_advice(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = Rules("https://app.example", "tasks", "sub", AUTH_ADVICE)
    tokens = Tokens(SecretKey(SECRET), rules)
    own = {"iss": "https://app.example", "aud": "tasks"}
    refused = {
        "audience. Set AUTH_AUDIENCE": token("ada", **own | {"aud": "mail"}),
        "issuer. Set AUTH_ISSUER": token("ada", **own | {"iss": "https://app.example/"}),
        "no claim sub. Set AUTH_USER_CLAIM": token(None, **own),
        "for this API. Set AUTH_USER_CLAIM": token(True, **own),
        "wrong. Set AUTH_JWKS_URL to the issuer's keys, or AUTH_SECRET to its secret": token(
            "ada", SECRET[::-1], **own
        ),
        "expired. The client": token("ada", **own, exp=NOW - 60),
        "not valid yet. Compare": token("ada", **own, nbf=NOW + 3600),
        "algorithm. Set AUTH_JWKS_URL": handmade(HEADER | {"alg": "RS256"}, own),
        "Bearer header.claims.signature. The client": "undefined",
        "The token cannot be read. ": "a.b.c",
    }

    async def refuse_all() -> None:
        for value in refused.values():
            with pytest.raises(NotAuthenticated):
                await tokens.verified(value.encode())

    for _ in range(3):
        await refuse_all()
    assert caplog.text.count("A token was refused. ") == len(refused)
    for said, value in refused.items():
        assert said in caplog.text
        assert value not in caplog.text

    monkeypatch.setattr("src.framework.auth.tokens.LOG_SECONDS", 0.0)
    await refuse_all()
    assert caplog.text.count("A token was refused. ") == 2 * len(refused)


def test_every_advice_is_about_an_existing_error() -> None:
    names = {name for name in AUTH_ADVICE if hasattr(jwt.exceptions, name)}
    names |= {name for name in AUTH_ADVICE if hasattr(tokens_module, name)}

    assert names == set(AUTH_ADVICE)
