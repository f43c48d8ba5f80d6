"""The types of fields that any resource may have: text, whole numbers, times."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

EXAMPLE_ID = "019aa3c5-5d3e-7c1f-9d0a-6b1f2c3d4e5f"

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

# Java, PHP and strftime's %z leave out the colon, PostgreSQL also the minutes.
_OFFSET = "[Zz]|[+-][0-9]{2}(:?[0-9]{2})?"

# RFC 3339 §5.6. HTML's `datetime-local` sends neither offset nor seconds, so both are optional.
_TIME = re.compile(
    rf"{_DAY.pattern}[Tt ][0-9]{{2}}:[0-9]{{2}}(:[0-9]{{2}}(\.[0-9]+)?)?({_OFFSET})?"
)

_SPACE_FOR_PLUS = re.compile(r"(:[0-9.]+) (?=[0-9]{2}(:?[0-9]{2})?$)")


@dataclass(frozen=True)
class Characters:
    """Text of `least` to `most` characters (not bytes), which PostgreSQL can store.

    With `strips`, white space around the text is removed first.
    """

    least: int
    most: int
    strips: bool = False

    def check(self, text: str) -> str:
        if self.strips:
            text = text.strip()
        if not self.least <= len(text) <= self.most:
            raise PydanticCustomError(
                "string_length",
                "must have {minimum} to {maximum} characters",
                {"minimum": self.least, "maximum": self.most},
            )
        if "\0" in text:
            raise PydanticCustomError("string_nul", "must not contain the NUL character")
        return text

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        text = core_schema.str_schema(strict=True) if source is str else handler(source)
        return core_schema.no_info_after_validator_function(self.check, text)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        minimum = {"minLength": self.least} if self.least else {}
        return handler(schema) | minimum | {"maxLength": self.most}


@dataclass(frozen=True)
class WholeNumber:
    """A whole number in JSON; 90.0 is a whole number, too. With `is_text`, digits in a query."""

    least: int
    most: int
    is_text: bool = False

    def read(self, sent: object) -> int:
        number: Any = sent
        if self.is_text:
            number = int(number) if re.fullmatch("[0-9]{1,10}", number) else None
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or number % 1 or not self.least <= number <= self.most:
            raise PydanticCustomError(
                "whole_number",
                "must be a whole number from {least} to {most}",
                {"least": self.least, "most": self.most},
            )
        return int(number)

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        number = core_schema.int_schema(ge=self.least, le=self.most)
        return core_schema.no_info_before_validator_function(self.read, number)


_MIDNIGHT = re.compile(rf"{_DAY.pattern}([Tt ]00:00(:00(\.0+)?)?({_OFFSET})?)?")


def is_day(text: object) -> bool:
    return isinstance(text, str) and _DAY.fullmatch(text) is not None


def day_of(text: object) -> str | None:
    """Return the day of a text that is a day, or the midnight of a day in any offset."""
    return text[:10] if isinstance(text, str) and _MIDNIGHT.fullmatch(text) else None


def read_time(text: str) -> datetime:
    """Read a time, in UTC if it has no offset. For a day, return its first moment in UTC.

    Raises PydanticCustomError for any other text, and for times that Python cannot hold.
    """
    with suppress(ValueError, OverflowError):
        if _DAY.fullmatch(text) or _TIME.fullmatch(text):
            time = datetime.fromisoformat(text.upper())
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    raise PydanticCustomError(
        "time", "must be a day such as 2026-12-24 or a time such as 2026-12-24T09:30:00+01:00"
    )


def with_plus(text: str) -> str:
    """Return a time of a query. If the client did not encode the + of an offset, a space came."""
    return _SPACE_FOR_PLUS.sub(r"\1+", text)


_ENDLESS = {time.replace(tzinfo=UTC) for time in (datetime.min, datetime.max)}  # noqa: DTZ901 - of UTC


def _read_time_or_none(sent: object) -> datetime | None:
    if sent is None or sent == "":
        return None
    time = read_time(sent if isinstance(sent, str) else "")
    # asyncpg would send Python's first and last moments as -infinity and infinity.
    return read_time("") if time in _ENDLESS else time


TIME_SCHEMAS: list[dict[str, object]] = [
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "date"},
    {"type": "string", "maxLength": 0},
]

SentTime = Annotated[
    datetime | None,
    PlainValidator(_read_time_or_none),
    WithJsonSchema({"anyOf": [*TIME_SCHEMAS, {"type": "null"}]}),
]
"""A time or a day; `null` and an empty text are None."""

LONGEST_USER_ID = 255
"""Characters."""

UserId = Annotated[
    str,
    Characters(1, LONGEST_USER_ID),
    Field(
        description="The owner: any text, percent-encoded as UTF-8 in the path.", examples=["ada"]
    ),
]

_ETAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
_COMMA = r"[ \t]*,[ \t,]*"
_ETAG_LIST = re.compile(rf"\*|[ \t,]*{_ETAG}(?:{_COMMA}{_ETAG})*[ \t,]*")


def is_etag_list(text: str) -> bool:
    """Whether this is `*` or a list of entity tags, whose elements may be empty.

    RFC 9110 §5.6.1, §8.8.3.
    """
    return _ETAG_LIST.fullmatch(text) is not None


MAX_ETAGS = 4096
"""Characters of a list of ETags: 115 of our ETags. Each is compared with the row's ETag."""


def check_etags(text: str, *, most: int = MAX_ETAGS) -> str:
    if len(text) > most:
        raise PydanticCustomError(
            "string_length", "must have at most {maximum} characters", {"maximum": most}
        )
    if not is_etag_list(text):
        raise PydanticCustomError("etags", "must be * or a list of ETags in quotes")
    return text


ETAGS = {
    "pattern": '^(\\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$',
    "maxLength": MAX_ETAGS,
    "examples": ['"5d41402abc4b2a76"'],
}
"""The JSON schema of what clients send as If-Match."""


def or_empty(example: object, **schema: object) -> WithJsonSchema:
    """Describe a parameter that counts as absent when it has no value."""
    either = [schema, {"type": "string", "maxLength": 0}]
    return WithJsonSchema({"anyOf": either, "examples": [example]})


def without_default(schema: dict[str, Any]) -> None:
    """Leave a default out of the contract: generated clients would require the field."""
    schema.pop("default", None)


class Message(BaseModel):
    message: str
