"""The types in the routers' signatures."""

import asyncio
import re
from collections.abc import Awaitable
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Path, Request
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPBearer
from pydantic import AfterValidator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.auth.exceptions import NotTheOwner
from src.framework.auth.tokens import bearer
from src.schemas.changes import TOKEN, Token
from src.schemas.fields import ETAGS, EXAMPLE_ID, UserId, check_etags
from src.services.exceptions import NoSignIn, OfSignInOnly, ReadOnlyToken
from src.services.known_tokens import KnownToken, KnownTokens
from src.services.listeners import Listeners
from src.services.token_text import is_personal

# A string as in RFC 9651 §3.3.3, with or without its quotes.
_KEY = re.compile(r'"(?P<quoted>(?:[ !#-\[\]-~]|\\["\\])*)"|(?P<bare>[!#-~][!-~]*)')


LONGEST_KEY = 2 * 255 + len('""')
"""The characters of a key with its quotes, if every character of the key is escaped."""


class OwnToken(HTTPBearer):
    """Refuses a request unless its token belongs to the user in the path, and allows the request.

    Raises NotAuthenticated, NotTheOwner and KeysUnavailable; with a personal token TokenRefused,
    DatabaseUnavailable and ReadOnlyToken. Where only a token of the sign-in will do, raises
    OfSignInOnly for a personal token, and NoSignIn in open mode.
    """

    def __init__(self, *, takes_personal: bool) -> None:
        self.takes_personal = takes_personal
        super().__init__(
            scheme_name="token",
            description="A token of the sign-in, or a personal token, for the user in the path",
        )

    async def __call__(self, request: HTTPConnection) -> None:
        app, scope = request.app, request.scope
        if app.tokens is None and not self.takes_personal:
            raise NoSignIn
        if app.tokens is None or "token" in scope:
            return
        token, user_id = bearer(scope["headers"]), request.path_params["user_id"]
        if is_personal(token):
            known = await app.known_tokens.find(user_id, token)
            if not self.takes_personal:
                raise OfSignInOnly
            if known.scope == "read" and scope["method"] not in {"GET", "HEAD"}:
                raise ReadOnlyToken
            scope["token"] = known
        else:
            verified = await app.tokens.verified(token)
            if verified.user != user_id:
                raise NotTheOwner(verified.user)
            scope["token"] = verified


own_token = OwnToken(takes_personal=True)
token_of_sign_in = OwnToken(takes_personal=False)


async def get_engine(request: Request) -> AsyncEngine:
    engine: AsyncEngine = request.app.engine
    return engine


async def get_listeners(request: Request) -> Listeners:
    listeners: Listeners = request.app.listeners
    return listeners


async def get_known_tokens(request: Request) -> KnownTokens:
    known: KnownTokens = request.app.known_tokens
    return known


def until_refused(request: Request, check_seconds: float) -> Awaitable[None]:
    """Wait until the request's token is no longer valid; raise NotAuthenticated or TokenRefused.

    If a key is gone, this raises within `check_seconds`. If another worker ended a personal token,
    this raises within 30 s. In open mode, wait for ever.
    """
    app, token = request.app, request.scope.get("token")
    refused: Awaitable[None]
    if token is None:
        refused = asyncio.get_running_loop().create_future()
    elif isinstance(token, KnownToken):
        refused = app.known_tokens.until_refused(token)
    else:
        refused = app.tokens.until_refused(token, check_seconds)
    return refused


def _refuse_key(_key: str) -> str:
    raise PydanticCustomError(
        "key", "must be absent, because the service cannot repeat an answer that has a new token"
    )


def _is_key(text: str) -> str:
    found = _KEY.fullmatch(text) if len(text) <= LONGEST_KEY else None
    key = found and (found["bare"] or re.sub(r"\\(.)", r"\1", found["quoted"]))
    if not key or len(key) > 255:
        raise PydanticCustomError("key", "must have 1 to 255 visible ASCII characters")
    return key


TokensKnown = Annotated[KnownTokens, Depends(get_known_tokens)]
Engine = Annotated[AsyncEngine, Depends(get_engine)]
ChangeListeners = Annotated[Listeners, Depends(get_listeners)]
UserInPath = Annotated[UserId, Path()]
IdInPath = Annotated[UUID, Path(description="The `id` from an answer.", examples=[EXAMPLE_ID])]
KeyInHeader = Annotated[
    str | SkipJsonSchema[None],
    AfterValidator(_is_key),
    Header(
        alias="Idempotency-Key",
        description="1 to 255 visible ASCII characters. For 24 hours, a request with the same "
        "key and body gets the first answer again, and changes nothing.",
        examples=['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
        json_schema_extra={"pattern": r'^([!#-~][!-~]{0,254}|"([ !#-\[\]-~]|\\["\\]){1,255}")$'},
    ),
]
NoKeyInHeader = Annotated[
    str | None,
    AfterValidator(_refuse_key),
    Header(alias="Idempotency-Key", include_in_schema=False),
]
ETags = Annotated[str | SkipJsonSchema[None], AfterValidator(check_etags)]
IfMatch = Annotated[
    ETags,
    Header(
        alias="If-Match",
        description="Apply only if the resource still has one of these ETags, otherwise 412. "
        "Weak ETags match, too: a proxy that compresses an answer weakens its ETag.",
        json_schema_extra={**ETAGS},
    ),
]
IfListMatches = Annotated[ETags, Header(alias="If-Match", include_in_schema=False)]
"""Only `*` matches: a list always exists, and its ETags are weak. The contract leaves this out."""

IfListHasNone = Annotated[ETags, Header(alias="If-None-Match", include_in_schema=False)]
"""For a request that adds to the list."""

IfNoneMatch = Annotated[
    ETags,
    Header(
        alias="If-None-Match",
        description="Apply only if the resource has none of these ETags; `*` matches any. "
        "Otherwise 304 for GET and HEAD, 412 for other methods.",
        json_schema_extra={**ETAGS},
    ),
]
LastEventId = Annotated[
    Token,
    Header(
        alias="Last-Event-ID",
        description="The id of the last event that the client got, instead of `since`. "
        "`EventSource` sends this header by itself.",
        examples=[TOKEN],
    ),
]
Prefer = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Prefer",
        description="With `count=exact`, X-Total-Count says how many rows the filters find, on all "
        "pages.",
        examples=["count=exact"],
    ),
]
PreferWait = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Prefer",
        description="With `wait=25`, the answer waits for the next change, at most 25 seconds. The "
        "longest wait is 60 seconds.",
        examples=["wait=25"],
    ),
]
