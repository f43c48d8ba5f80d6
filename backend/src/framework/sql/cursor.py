"""Where a page of a list ended: opaque to clients, and correct however the list changes."""

import re
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Annotated, TypeAlias, get_args
from uuid import UUID

from pydantic import BaseModel, StringConstraints, TypeAdapter
from pydantic_core import from_json, to_json

Kinds: TypeAlias = Mapping[str, frozenset[type | str]]
"""For each order, the types of its values (str, datetime, NoneType), or the values themselves."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The order of the list, and the value in that order and the id of the page's last row."""

    sort: str
    value: str | None
    id: UUID


# As PostgreSQL writes it in JSON, for sessions in UTC.
_TIME = re.compile(
    r"([0-9]{4}|[1-9][0-9]{4,5})(-[0-9-]{5}T[0-9:]{8}(?:\.[0-9]{1,6})?\+00:00)( BC)?"
)
_ENDLESS = {"infinity", "-infinity"}
_FIRST = (-4713, "-11-24")
_LAST_YEAR = 294_276

_Value = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
_READ = TypeAdapter(tuple[str, _Value | None, UUID])


def kinds_of(row: type[BaseModel], sorts: Iterable[str]) -> Kinds:
    """Return the value types of each order. Text may have up to 500 characters.

    Raises TypeError for an order by anything but text, some words, and times.
    """
    kinds = {}
    for sort in sorts:
        annotation = row.model_fields[sort.removeprefix("-")].annotation
        kinds[sort] = frozenset(get_args(annotation) or (annotation,))
        if not all(
            isinstance(kind, str) or kind in {str, datetime, NoneType} for kind in kinds[sort]
        ):
            raise TypeError(f"cannot order by {annotation}")
    return kinds


def encode(sort: str, last: bytes) -> str:
    """Make the cursor after this row, a JSON object."""
    row = from_json(last)
    cursor = [sort, row[sort.removeprefix("-")], row["id"]]
    return urlsafe_b64encode(to_json(cursor)).decode().rstrip("=")


def decode(text: str, kinds: Kinds) -> Cursor:
    """Raises ValueError for a text that `encode` cannot have made for these orders."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    cursor = Cursor(*_READ.validate_json(b64decode(padded, altchars=b"-_", validate=True)))
    types = kinds.get(cursor.sort, frozenset())
    if cursor.value is None:
        is_valid = NoneType in types
    else:
        is_valid = not types.isdisjoint({str, cursor.value}) or (
            datetime in types and _is_time(cursor.value)
        )
    if not is_valid:
        raise ValueError("not a value that PostgreSQL can hold")
    return cursor


def _is_time(text: str) -> bool:
    """Whether PostgreSQL can hold it: from 4714 BC to 294276, which `datetime` cannot."""
    if text in _ENDLESS:
        return True
    if not (parts := _TIME.fullmatch(text)):
        return False
    written, rest, before_christ = parts.groups()
    year = 1 - int(written) if before_christ else int(written)
    # The calendar repeats every 400 years.
    datetime.fromisoformat(f"{2000 + year % 400}{rest}")
    return written != "0000" and (year, rest) >= _FIRST and year <= _LAST_YEAR
