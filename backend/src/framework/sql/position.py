"""Where a client is in a feed: an opaque token, which no other database takes for its own."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic_core import to_json

_ZERO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Position:
    """The number of a change and its time, in microseconds since 1970.

    A restored database gives the same numbers again, but at other times. Before the first change,
    the number is 0 and the time is the database's `feed_epoch`.
    """

    seq: int
    at: int

    @property
    def time(self) -> datetime:
        return _ZERO + timedelta(microseconds=self.at)


_LAST = (datetime.max.replace(tzinfo=UTC) - _ZERO) // timedelta(microseconds=1)
_READ = TypeAdapter(
    tuple[Annotated[int, Field(ge=0, lt=2**63)], Annotated[int, Field(ge=0, le=_LAST)]]
)


def encode(position: Position) -> str:
    return urlsafe_b64encode(to_json((position.seq, position.at))).decode().rstrip("=")


def decode(text: str) -> Position:
    """Raises ValueError for a text that `encode` never returns."""
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    position = Position(*_READ.validate_json(urlsafe_b64decode(padded)))
    if encode(position) != text:
        raise ValueError("written in another way")
    return position
