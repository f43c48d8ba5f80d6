"""The types in the routers' signatures."""

import re
from math import inf
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
from src.schemas.changes import TOKEN, Token
from src.schemas.fields import ETAGS, EXAMPLE_ID, UserId, check_etags
from src.services.listeners import Listeners

# A string as in RFC 9651 §3.3.3, with or without its quotes.
_KEY = re.compile(r'"(?P<quoted>(?:[ !#-\[\]-~]|\\["\\])*)"|(?P<bare>[!#-~][!-~]*)')


LONGEST_KEY = 2 * 255 + len('""')
"""Characters of a key of which each is escaped."""


class OwnToken(HTTPBearer):
    """Rejects a request unless its token belongs to the user in the path.

    Raises NotAuthenticated, NotTheOwner, KeysUnavailable.
    """

    async def __call__(self, request: HTTPConnection) -> None:
        tokens = request.app.tokens
        if tokens is not None and "token" not in request.scope:
            verified = await tokens.verified(request.scope["headers"])
            user_id = request.path_params["user_id"]
            if verified.user != user_id:
                raise NotTheOwner(verified.user.casefold() == user_id.casefold())
            request.scope["token"] = verified


own_token = OwnToken(
    bearerFormat="JWT", scheme_name="token", description="A token of the user in the path"
)


async def get_engine(request: Request) -> AsyncEngine:
    engine: AsyncEngine = request.app.engine
    return engine


async def get_listeners(request: Request) -> Listeners:
    listeners: Listeners = request.app.listeners
    return listeners


def seconds_left(request: Request) -> float:
    """Return for how many seconds the request's token is still valid; without tokens, infinity.

    Raises NotAuthenticated once it is not.
    """
    if request.app.tokens is None:
        return inf
    seconds: float = request.app.tokens.seconds_left(request.scope["token"])
    return seconds


def _is_key(text: str) -> str:
    found = _KEY.fullmatch(text) if len(text) <= LONGEST_KEY else None
    key = found and (found["bare"] or re.sub(r"\\(.)", r"\1", found["quoted"]))
    if not key or len(key) > 255:
        raise PydanticCustomError("key", "must have 1 to 255 visible ASCII characters")
    return key


Engine = Annotated[AsyncEngine, Depends(get_engine)]
ChangeListeners = Annotated[Listeners, Depends(get_listeners)]
UserInPath = Annotated[UserId, Path()]
IdInPath = Annotated[UUID, Path(description="The id, as in the answers.", examples=[EXAMPLE_ID])]
KeyInHeader = Annotated[
    str | SkipJsonSchema[None],
    AfterValidator(_is_key),
    Header(
        alias="Idempotency-Key",
        description="1 to 255 visible ASCII characters, quoted or not. For 24 hours, a request "
        "with the same key and body gets the first answer again and changes nothing more.",
        examples=['"8e03978e-40d5-43dd-bc93-6894a57f9324"'],
        json_schema_extra={"pattern": r'^([!#-~][!-~]{0,254}|"([ !#-\[\]-~]|\\["\\]){1,255}")$'},
    ),
]
ETags = Annotated[str | SkipJsonSchema[None], AfterValidator(check_etags)]
IfMatch = Annotated[
    ETags,
    Header(
        alias="If-Match",
        description="Apply only if the resource still has one of these ETags, otherwise 412. "
        "Weak ETags match too, because compressing proxies weaken them.",
        json_schema_extra={**ETAGS},
    ),
]
IfListMatches = Annotated[
    ETags,
    Header(
        alias="If-Match",
        description="Only `*` matches: a list always exists, and its ETags are weak. Anything "
        "else is 412.",
        json_schema_extra={**ETAGS},
    ),
]
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
        description="The id of the last event that came; it wins over `since`. `EventSource` "
        "sends it by itself.",
        examples=[TOKEN],
    ),
]
Prefer = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Prefer",
        description="`count=exact` for the number of all rows that the filters let through, in "
        "X-Total-Count.",
        examples=["count=exact"],
    ),
]
PreferWait = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Prefer",
        description="`wait=25`: if nothing has changed yet, answer as soon as something does, or "
        "after 25 seconds; 60 at most.",
        examples=["wait=25"],
    ),
]
