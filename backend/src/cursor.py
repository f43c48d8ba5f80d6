"""Where a page of a list ended: opaque to clients, and right however the list changes since."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

from pydantic import TypeAdapter
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

    @property
    def position(self) -> datetime | str:
        if self.sort.endswith("title"):
            return self.value
        return datetime.fromisoformat(self.value)


_READ = TypeAdapter(tuple[Sort, str, UUID])


def encode(sort: Sort, last: bytes) -> str:
    """Make the cursor after this task, an object in JSON."""
    task = from_json(last)
    cursor = [sort, task[sort.removeprefix("-")], task["id"]]
    return urlsafe_b64encode(to_json(cursor)).decode().rstrip("=")


def decode(text: str) -> Cursor:
    """Raises ValueError for what `encode` never made."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    cursor = Cursor(*_READ.validate_json(urlsafe_b64decode(padded)))
    if isinstance(cursor.position, datetime) and cursor.position.tzinfo is None:
        raise ValueError("a time without its zone")
    return cursor
