"""Where a page of a list ended: opaque to clients, and right however the list changes since."""

import re
from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import StringConstraints, TypeAdapter
from pydantic_core import from_json, to_json

Sort: TypeAlias = Literal[
    "created_at", "-created_at", "updated_at", "-updated_at", "title", "-title"
]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The order of the list, and of the page's last task the value it is ordered by, and the id."""

    sort: Sort
    value: str
    id: UUID


# As PostgreSQL writes it in JSON, for sessions in UTC.
_TIME = re.compile(
    r"([0-9]{4}|[1-9][0-9]{4,5})(-[0-9-]{5}T[0-9:]{8}(?:\.[0-9]{1,6})?\+00:00)( BC)?"
)
_ENDLESS = {"infinity", "-infinity"}
_FIRST = (-4713, "-11-24")
_LAST_YEAR = 294_276

_Value = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
_READ = TypeAdapter(tuple[Sort, _Value, UUID])


def encode(sort: Sort, last: bytes) -> str:
    """Make the cursor after this task, an object in JSON."""
    task = from_json(last)
    cursor = [sort, task[sort.removeprefix("-")], task["id"]]
    return urlsafe_b64encode(to_json(cursor)).decode().rstrip("=")


def decode(text: str) -> Cursor:
    """Raises ValueError for what `encode` cannot have made."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    cursor = Cursor(*_READ.validate_json(b64decode(padded, altchars=b"-_", validate=True)))
    if not (cursor.sort.endswith("title") or _is_time(cursor.value)):
        raise ValueError("no time that PostgreSQL can hold")
    return cursor


def _is_time(text: str) -> bool:
    """Whether PostgreSQL can hold it: from 4714 BC to 294276, which `datetime` cannot."""
    if text in _ENDLESS:
        return True
    if not (parts := _TIME.fullmatch(text)):
        return False
    written, rest, before_christ = parts.groups()
    year = 1 - int(written) if before_christ else int(written)
    # The calendar repeats itself every 400 years.
    datetime.fromisoformat(f"{2000 + year % 400}{rest}")
    return written != "0000" and (year, rest) >= _FIRST and year <= _LAST_YEAR
