"""Where a page of a list ended: opaque to clients, and right however the list changes since."""

from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, datetime
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

    @property
    def position(self) -> datetime | str:
        if self.sort.endswith("title"):
            return self.value
        return datetime.fromisoformat(self.value)


_Value = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
_READ = TypeAdapter(tuple[Sort, _Value, UUID])


def encode(sort: Sort, last: bytes) -> str:
    """Make the cursor after this task, an object in JSON."""
    task = from_json(last)
    cursor = [sort, task[sort.removeprefix("-")], task["id"]]
    return urlsafe_b64encode(to_json(cursor)).decode().rstrip("=")


def decode(text: str) -> Cursor:
    """Raises ValueError for what `encode` never made."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    cursor = Cursor(*_READ.validate_json(b64decode(padded, altchars=b"-_", validate=True)))
    time = cursor.position
    if isinstance(time, datetime) and (time.tzinfo is None or time.year in {MINYEAR, MAXYEAR}):
        raise ValueError("a time that UTC may have no word for")
    return cursor
