"""What clients can ask of any list: an order, and one page by cursor or by number.

A cursor says where a page ended. A cursor is opaque to clients, and stays correct when the list
changes.
"""

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from types import NoneType
from typing import Annotated, ClassVar, Self, TypeAlias, get_args
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError, to_json

from src.framework.long_numbers import read_json
from src.schemas.fields import EXAMPLE_ID, or_empty
from src.schemas.other_names import MAX_NUMBER, NUMBER, SIZE, Spellings, in_our_words, spellings

Kinds: TypeAlias = Mapping[str, frozenset[type | str]]
"""For each order, its values, or their types: str, int, bool, datetime or NoneType."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The order of the list, and the page's last row: its value in that order, and its id.

    The order is one of `sort`. A time zone follows if the zone makes a difference. The value is the
    text that PostgreSQL writes in JSON, or None. With a zone, a day has ten characters.
    """

    order: str
    value: str | None
    id: UUID


# A time as PostgreSQL writes it in JSON, for sessions in UTC.
_TIME = re.compile(
    r"([0-9]{4}|[1-9][0-9]{4,5})(-[0-9-]{5}T[0-9:]{8}(?:\.[0-9]{1,6})?\+00:00)( BC)?"
)
_DAY = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ENDLESS = {"infinity", "-infinity"}
_FIRST = (-4713, "-11-24")
_LAST_YEAR = 294_276
_INTEGERS = range(-(2**31), 2**31)

_Value = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
_READ = TypeAdapter(tuple[str, _Value | None, UUID])


def kinds_of(row: type[BaseModel], sorts: Iterable[str]) -> Kinds:
    """Return the value types of each order. Text may have up to 500 characters.

    Raises TypeError for an order by anything but text, words, whole numbers, booleans and times.
    """
    kinds = {}
    for sort in sorts:
        annotation = row.model_fields[sort.removeprefix("-")].annotation
        parts = [get_args(part) or (part,) for part in get_args(annotation) or (annotation,)]
        kinds[sort] = frozenset(chain.from_iterable(parts))
        for kind in kinds[sort]:
            if not isinstance(kind, str) and kind not in {str, int, bool, datetime, NoneType}:
                raise TypeError(f"cannot order by {annotation}")
    return kinds


def cursor_text(order: str, last: bytes) -> str:
    """Make the cursor after this row, a JSON object."""
    row = read_json(last)
    sort, _, zone = order.partition(" ")
    value = row[sort.removeprefix("-")]
    if isinstance(value, int):
        value = to_json(value).decode()
    if zone and row.get("all_day"):
        value = value[:10]
    return urlsafe_b64encode(to_json([order, value, row["id"]])).decode().rstrip("=")


def read_cursor(text: str, kinds: Kinds) -> Cursor:
    """Raises ValueError for a text that `cursor_text` cannot have made for these orders."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    cursor = Cursor(*_READ.validate_json(b64decode(padded, altchars=b"-_", validate=True)))
    sort, _, zone = cursor.order.partition(" ")
    types = kinds.get(sort, frozenset())
    is_day = zone and cursor.value and _DAY.fullmatch(cursor.value)
    value = f"{cursor.value}T00:00:00+00:00" if is_day else cursor.value
    if not any(_is_of(kind, value) for kind in types):
        raise ValueError("not a value that PostgreSQL can hold")
    return cursor


def _is_of(kind: type | str, value: str | None) -> bool:
    if value is None or kind is NoneType:
        return value is None and kind is NoneType
    if kind is int:
        return re.fullmatch("0|-?[1-9][0-9]{0,9}", value) is not None and int(value) in _INTEGERS
    if kind is bool:
        return value in {"true", "false"}
    return kind in {str, value} or (kind is datetime and _is_time(value))


def _is_time(text: str) -> bool:
    """Whether PostgreSQL can hold this time, from 4714 BC to 294276. `datetime` cannot hold all."""
    if text in _ENDLESS:
        return True
    if not (parts := _TIME.fullmatch(text)):
        return False
    written, rest, before_christ = parts.groups()
    year = 1 - int(written) if before_christ else int(written)
    # The calendar repeats every 400 years.
    datetime.fromisoformat(f"{2000 + year % 400}{rest}")
    return written != "0000" and (year, rest) >= _FIRST and year <= _LAST_YEAR


# An example, after a row that does not exist.
CURSOR = cursor_text(
    "-updated_at", to_json({"id": EXAMPLE_ID, "updated_at": "2026-11-21T09:30:00+00:00"})
)


class Listing(BaseModel):
    """Which rows to list, and in which order. A subclass narrows `sort` and adds filters."""

    model_config = ConfigDict(frozen=True)

    kinds: ClassVar[Kinds]
    other_names: ClassVar[dict[str, str]] = {}
    """The names that other clients use for a subclass's filters."""
    spellings: ClassVar[Spellings]
    counted: ClassVar[bool] = False
    """Whether the query has names of a client that needs the number of all rows.

    The listing of such a query has a value of its own. pydantic would read a private attribute
    through two functions, and every list reads `counted`.
    """

    sort: str = "created_at"
    limit: Annotated[int | SkipJsonSchema[None], SIZE] = Field(
        default=None,
        description="How many rows to return at most; Link leads to the next page. Unset: all.",
        examples=[100],
    )
    cursor: Annotated[Cursor | None, WithJsonSchema({"type": "string", "examples": [CURSOR]})] = (
        Field(
            default=None, description="Where the page begins; take it from Link.", examples=[CURSOR]
        )
    )
    offset: Annotated[
        int | None, NUMBER, or_empty(0, type="integer", minimum=0, maximum=MAX_NUMBER)
    ] = Field(
        default=None,
        description="How many rows to skip. A cursor is faster, and misses no row.",
        examples=[0],
    )

    @property
    def order(self) -> str:
        """The order that a cursor belongs to."""
        return self.sort

    def place(self) -> dict[str, object]:
        """Return the parameters of the statement that say where the page begins."""
        place: dict[str, object] = {}
        if self.cursor is not None:
            place = {"position": self.cursor.value, "position_id": self.cursor.id}
        if self.offset:
            place["offset"] = self.offset
        return place

    @classmethod
    def __pydantic_init_subclass__(cls, **_options: object) -> None:
        cls.spellings = spellings(cls.model_fields, cls.kinds, cls.other_names)

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, query: object, read: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(query, dict) or not query:
            return read(query)
        ours = in_our_words(query, cls.spellings)
        counted = ours.pop("counted", None)
        listing = read(ours)
        if counted:
            vars(listing)["counted"] = True
        if listing.cursor is not None and listing.cursor.order != listing.order:
            wrong = PydanticCustomError("cursor", "belongs to a list in another order")
            raise ValidationError.from_exception_data(
                "Listing", [{"type": wrong, "loc": ("cursor",), "input": None}]
            )
        return listing

    @field_validator("cursor", mode="before")
    @classmethod
    def _read_cursor(cls, text: str) -> Cursor:
        try:
            cursor = read_cursor(text, cls.kinds)
        except ValueError:
            raise PydanticCustomError("cursor", "must be taken from a Link") from None
        return cursor

    @field_validator("offset")
    @classmethod
    def _without_cursor(cls, offset: int | None, info: ValidationInfo) -> int | None:
        if offset and info.data.get("cursor") is not None:
            raise PydanticCustomError("cursor", "contradicts cursor")
        return offset
