"""`make jwt` prints a token as a sign-in would sign it."""

import time

import jwt
import pytest

from tests.serving import ran
from tests.tokens import SECRET

JWT = {"AUTH_MODE": "jwt", "AUTH_SECRET": SECRET}
AS_SET = {
    "AUTH_ISSUER": "https://sign-in.example",
    "AUTH_AUDIENCE": "tasks",
    "AUTH_USER_CLAIM": "user",
}
DAY = 86_400


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"sub": "ada"}),
        (AS_SET, {"user": "ada", "iss": "https://sign-in.example", "aud": "tasks"}),
    ],
    ids=["secret only", "as set"],
)
def test_a_development_token_lasts_a_day_and_names_the_user_and_the_settings(
    settings: dict[str, str], expected: dict[str, str]
) -> None:
    before = int(time.time())
    status, said = ran("src.development_token", "ada", **JWT, **settings)
    after = int(time.time())
    claims = jwt.decode(said.strip(), SECRET, ["HS256"], options={"verify_aud": False})
    expires = claims.pop("exp")

    assert status == 0
    assert claims == expected
    assert before + DAY <= expires <= after + DAY


def test_a_development_token_needs_a_user() -> None:
    assert ran("src.development_token", "", **JWT) == (1, "Name the user: make jwt FOR=ada\n")
