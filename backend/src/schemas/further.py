"""Further members: members for which a resource has no field. The service keeps them as sent.

All further members become one text of JSON. Its bytes are counted as PostgreSQL writes the text.
"""

from collections.abc import Mapping
from decimal import Decimal
from math import isinf
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from src.framework.long_numbers import json_text

FURTHER = "\0further"
"""The name of this text while a body is validated. No client can send a name with a NUL."""

MOST_MEMBERS = 32
LONGEST_NAME = 64
"""Characters."""

MOST_BYTES = 16 * 1024
"""The most bytes of all names and values together, as PostgreSQL writes them."""

MOST_LEVELS = 8
"""How deep arrays and objects may be in one another."""

LONGEST_CHANGE = 4 * MOST_BYTES
"""A change may be longer than the members that stay, because a change may remove members."""

ONE_TOO_MANY = f"does not fit; a task may have at most {MOST_MEMBERS} members beside its fields"
NUL = "must not contain the NUL character"
TOO_LONG = (
    f"does not fit; members beside a task's fields may have at most {MOST_BYTES} bytes in all"
)

FurtherText = Annotated[SkipJsonSchema[str | None], Field(validation_alias=FURTHER)]

SENT: dict[str, Any] = {"description": "The service keeps other members."}
"""The JSON schema of a further member: short, because an agent's tool for batches has it twice."""

ANSWERED: dict[str, Any] = {
    "description": f"Other members that a client sent: up to {MOST_MEMBERS}, with names of 1 to "
    f"{LONGEST_NAME} characters, {MOST_BYTES // 1024} KiB of JSON in all."
}


def whole_text(members: Mapping[str, object]) -> str | None:
    """Return the text of all members of a new resource, None if there are none.

    Raises ValidationError, which names the member, if a member is beyond a limit.
    """
    kept = {name: value for name, value in members.items() if value is not None}
    return _text(kept, MOST_BYTES) if kept else None


def change_text(members: Mapping[str, object]) -> str:
    """Return the text of a change. A member that is null is removed.

    Only PostgreSQL knows the task's other members, so PostgreSQL refuses too many members. Raises
    ValidationError as `whole_text` does.
    """
    return _text(members, LONGEST_CHANGE)


def _text(members: Mapping[str, object], most_bytes: int) -> str:
    kept = [name for name, value in members.items() if value is not None]
    if len(kept) > MOST_MEMBERS:
        raise _refused(kept[MOST_MEMBERS], ONE_TOO_MANY)
    digits: dict[str, int] = {}
    for name, value in members.items():
        if not 1 <= len(name) <= LONGEST_NAME:
            raise _refused(name, f"a member's name must have 1 to {LONGEST_NAME} characters")
        if "\0" in name:
            raise _refused(name, NUL)
        try:
            digits[name] = _further_digits(value)
        except ValueError as error:
            raise _refused(name, str(error)) from None
        if digits[name] > most_bytes:
            raise _refused(name, TOO_LONG)
    text = json_text(members)
    if len(text.encode()) + sum(digits.values()) > most_bytes:

        def size(name: str) -> int:
            return len(json_text(members[name]).encode()) + digits[name]

        raise _refused(max(kept or members, key=size), TOO_LONG)
    if _has_nul(text):
        raise _refused(next(name for name in kept if _has_nul(json_text(members[name]))), NUL)
    return text


def _further_digits(value: object) -> int:
    """Return how many more digits PostgreSQL writes than Python: PostgreSQL writes no exponents.

    Raises ValueError for too many levels, and for a number that no double holds.
    """
    digits = 0
    level = [value]
    for depth in range(MOST_LEVELS + 1):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict | list):
                inner += each.values() if isinstance(each, dict) else each
                if depth == MOST_LEVELS:
                    raise ValueError(f"must have at most {MOST_LEVELS} levels")
            elif isinstance(each, float):
                if isinf(each):
                    raise ValueError("must not have a number too large for a double")
                if "e" in (short := repr(each)):
                    digits += len(format(Decimal(short), "f")) - len(short)
                if digits > LONGEST_CHANGE:
                    return digits
        level = inner
    return digits


def _has_nul(json: str) -> bool:
    return "\\u0000" in json and "\\u0000" in json.replace("\\\\", "")


def _refused(name: str, message: str) -> ValidationError:
    error = PydanticCustomError("further_member", message)
    return ValidationError.from_exception_data(
        "Further", [{"type": error, "loc": (name[:100],), "input": None}]
    )
