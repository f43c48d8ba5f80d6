"""What clients send of a personal token and what they get."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, TypeAlias, get_args
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

from src.schemas.fields import EXAMPLE_ID, Characters, SentTime, without_default
from src.schemas.paging import Listing, kinds_of

LIFETIME = timedelta(days=90)
"""How long a token without `expires_at` lives."""

LONGEST_LIFETIME = timedelta(days=365)

Scope: TypeAlias = Literal["read", "write"]
TokenSort: TypeAlias = Literal["created_at", "-created_at", "name", "-name"]

_EXAMPLE: dict[str, JsonValue] = {
    "id": EXAMPLE_ID,
    "user_id": "ada",
    "name": "Nightly export",
    "scope": "read",
    "created_at": "2026-11-21T09:30:00.123456+00:00",
    "expires_at": "2027-02-19T09:30:00.123456+00:00",
    "last_used_at": "2026-11-22T03:00:00.000000+00:00",
}


def _within_a_year(expires_at: datetime | None) -> datetime:
    now = datetime.now(UTC)
    if expires_at is None:
        return now + LIFETIME
    if not now < expires_at <= now + LONGEST_LIFETIME:
        raise PydanticCustomError(
            "expiry", "must be within the next {days} days", {"days": LONGEST_LIFETIME.days}
        )
    return expires_at


class PersonalTokenCreate(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "Nightly export", "scope": "read"}}
    )

    name: Annotated[
        str,
        Characters(1, 100, strips=True),
        Field(
            description="What the token is for: 1 to 100 characters; outer white space is removed."
        ),
    ]
    scope: Scope = Field(
        default="write",
        description="`read` allows GET and HEAD, `write` every method.",
        json_schema_extra=without_default,
    )
    expires_at: Annotated[
        SentTime,
        AfterValidator(_within_a_year),
        Field(
            description="When the token ends: a time, or the start of a day in UTC. At most "
            "365 days from now. Absent, `null` or empty: 90 days from now."
        ),
    ] = Field(default=None, validate_default=True)


class PersonalTokenPublic(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": _EXAMPLE})

    id: UUID
    user_id: str
    name: str
    scope: Scope
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="When the token was last used, to the hour.")


class NewPersonalToken(PersonalTokenPublic):
    model_config = ConfigDict(
        json_schema_extra={"example": _EXAMPLE | {"tasks": "/api/ada/tasks", "token": "taskapi_…"}}
    )

    tasks: str = Field(description="The path of the user's tasks.")
    token: str = Field(description="The text of the token, which no other answer has.")


class PersonalTokenListing(Listing):
    kinds = kinds_of(PersonalTokenPublic, get_args(TokenSort))

    sort: TokenSort = Field(
        default="created_at",
        description="The field to order by; a - before it reverses the order.",
        examples=["-created_at"],
    )
