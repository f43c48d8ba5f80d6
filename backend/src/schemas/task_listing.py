"""Which tasks a client asks for."""

import re
from datetime import datetime, timedelta
from typing import Annotated, ClassVar, Literal, TypeAlias, get_args
from unicodedata import normalize

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from src.schemas.fields import TIME_SCHEMAS, Characters, is_day, or_empty, read_time, with_plus
from src.schemas.other_names import OF_TASKS, PRIORITY_WORDS, several, texts_in
from src.schemas.paging import Listing, kinds_of
from src.schemas.task import MAX_TAGS, Priority, Tag, TaskPublic

Sort: TypeAlias = Literal[
    "created_at",
    "-created_at",
    "updated_at",
    "-updated_at",
    "title",
    "-title",
    "priority",
    "-priority",
    "due_date",
    "-due_date",
    "completed_at",
    "-completed_at",
]


def _texts(texts: object) -> list[str]:
    """Read a list of texts: with commas, in several parameters, as JSON, or in a mix of these.

    PostgreSQL would compare each repeat with each row, so this function drops repeats.
    Raises PydanticCustomError for more texts than a task may have.
    """
    parts = dict.fromkeys(
        ",".join(each for text in several(texts) for each in texts_in(text)).split(",")
    )
    distinct = [*dict.fromkeys(normalize("NFC", part.strip()) for part in parts if part.strip())]
    if len(distinct) > MAX_TAGS:
        raise PydanticCustomError(
            "too_many", "must have at most {maximum} different values", {"maximum": MAX_TAGS}
        )
    return distinct


def _ranks(texts: object) -> list[str]:
    words = [text.lower() for text in _texts(texts)]
    ranks = dict.fromkeys(PRIORITY_WORDS.get(word, word) for word in words)
    return [rank for rank in ranks if rank != "all"]


def _either(value: bool | str) -> bool:
    if not isinstance(value, bool):
        raise PydanticCustomError("true_or_false", "must be true or false")
    return value


def _first_moment(text: str) -> datetime:
    """Read a moment in UTC. For a day, return the day's first moment, without a time zone."""
    time = read_time(with_plus(text))
    return time.replace(tzinfo=None) if is_day(text) else time


def _last_moment(text: str) -> datetime:
    time = _first_moment(text)
    return time if time.tzinfo else time + timedelta(days=1, microseconds=-1)


def _zone(text: str) -> str:
    if not re.fullmatch(ZONE_PATTERN, text):
        raise PydanticCustomError("time_zone", MUST_BE_ZONE)
    return text


def _array(items: dict[str, object], example: list[str]) -> WithJsonSchema:
    array = {"type": "array", "items": items, "maxItems": MAX_TAGS}
    return WithJsonSchema(array | {"examples": [example]})


UTC_ZONE = "UTC"
ZONE_PATTERN = "^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"
MUST_BE_ZONE = "must be the name of a time zone, such as America/New_York"

_DAY_OR_TIME = WithJsonSchema({"anyOf": TIME_SCHEMAS, "examples": ["2026-12-24"]})
_Moment: TypeAlias = datetime | SkipJsonSchema[None]
_From = Annotated[_Moment, BeforeValidator(_first_moment), _DAY_OR_TIME]
_To = Annotated[_Moment, BeforeValidator(_last_moment), _DAY_OR_TIME]


class TaskListing(Listing):
    """Which tasks to list, and in which order."""

    kinds = kinds_of(TaskPublic, get_args(Sort))
    other_names: ClassVar[dict[str, str]] = OF_TASKS

    sort: Sort = Field(
        default="created_at",
        description="The field to order by; a - before it reverses the order. Priorities go from "
        "low to urgent. Tasks without a value come last.",
        examples=["-updated_at"],
    )

    completed: Annotated[bool | SkipJsonSchema[None], BeforeValidator(_either)] = Field(
        default=None,
        description="`true`: only completed tasks. `false`: only open ones.",
        examples=[False],
    )
    q: Annotated[str, Characters(0, 500, strips=True)] = Field(
        default="",
        description="Only tasks whose title or description contains this text, in upper or lower "
        "case.",
        examples=["milk"],
    )
    priority: Annotated[
        tuple[Priority, ...],
        BeforeValidator(_ranks),
        _array({"enum": [*get_args(Priority), "all", ""]}, ["high", "urgent"]),
    ] = Field(
        default=(),
        description="Only tasks with one of these priorities. Join several by commas.",
        examples=[["high", "urgent"]],
    )
    tags: Annotated[
        tuple[Tag, ...],
        BeforeValidator(_texts),
        _array({"type": "string", "maxLength": 50}, ["home"]),
    ] = Field(
        default=(),
        description="Only tasks with all of these tags. Join several by commas.",
        examples=[["home"]],
    )
    due_date_from: _From = Field(default=None, description="Only tasks due at this time or later.")
    due_date_to: _To = Field(default=None, description="Only tasks due at this time or earlier.")
    completed_from: _From = Field(
        default=None, description="Only tasks completed at this time or later."
    )
    completed_to: _To = Field(
        default=None, description="Only tasks completed at this time or earlier."
    )
    has_due_date: Annotated[
        bool | None, BeforeValidator(_either), or_empty(False, type="boolean")
    ] = Field(
        default=None,
        description="`true`: only tasks with a due date. `false`, or `due_date=none`: only tasks "
        "without one.",
        examples=[False],
    )
    overdue: Annotated[bool | None, BeforeValidator(_either), or_empty(True, type="boolean")] = (
        Field(
            default=None,
            description="`true`: only open tasks that were due before now, or on a day that is "
            "over. `false`: the others.",
            examples=[True],
        )
    )
    time_zone: Annotated[
        str,
        BeforeValidator(_zone),
        or_empty("America/New_York", type="string", pattern=ZONE_PATTERN),
    ] = Field(
        default=UTC_ZONE,
        description="The IANA name of the zone in which days begin and end.",
        examples=["America/New_York"],
    )

    @property
    def order(self) -> str:
        """The name of the order. In a zone other than UTC, `due_date` gives another order."""
        is_other = self.time_zone != UTC_ZONE and self.sort.removeprefix("-") == "due_date"
        return f"{self.sort} {self.time_zone}" if is_other else self.sort
