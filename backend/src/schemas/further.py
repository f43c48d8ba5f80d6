"""Members of a resource that the service does not know: it keeps them as they were sent.

They become one text of JSON, as PostgreSQL writes it, so that both measure the same bytes.
"""

from collections.abc import Mapping
from decimal import Decimal
from json import dumps
from math import isinf
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

FURTHER = "\0further"
"""What they have as a name while a body is validated. No client can send this one."""

MOST_MEMBERS = 32
LONGEST_NAME = 64
"""Characters."""

MOST_BYTES = 16 * 1024
"""Of all names and values, as PostgreSQL writes them."""

MOST_LEVELS = 8
"""How deep arrays and objects may be in one another."""

LONGEST_CHANGE = 4 * MOST_BYTES
"""A change is longer than its result if it removes much."""

ONE_TOO_MANY = f"is one too many; a task may have {MOST_MEMBERS} members of its own"
TOO_LONG = f"is too long; a task's own members may have {MOST_BYTES} bytes of JSON in all"

FurtherText = Annotated[SkipJsonSchema[str | None], Field(validation_alias=FURTHER)]

SENT: dict[str, Any] = {"description": "Other members are kept."}
"""The JSON schema of such a member: short, because an agent's tool for batches has it twice."""

ANSWERED: dict[str, Any] = {
    "description": f"Any other member that was sent: up to {MOST_MEMBERS}, with names of 1 to "
    f"{LONGEST_NAME} characters, {MOST_BYTES // 1024} KiB of JSON in all."
}


def whole_text(members: Mapping[str, object]) -> str | None:
    """Return the text of all members of a new resource, None if there are none.

    Raises ValidationError, which names the member, for what is beyond a limit.
    """
    texts = _texts({name: value for name, value in members.items() if value is not None})
    if len(texts) > MOST_MEMBERS:
        raise _refused([*texts][MOST_MEMBERS], ONE_TOO_MANY)
    return _joined(texts, MOST_BYTES) if texts else None


def change_text(members: Mapping[str, object]) -> str:
    """Return the text of members to change, of which null removes one.

    PostgreSQL knows the others, and refuses too many. Raises as `whole_text` does.
    """
    return _joined(_texts(members), LONGEST_CHANGE)


def _texts(members: Mapping[str, object]) -> dict[str, str]:
    texts = {}
    for name, value in members.items():
        if not 1 <= len(name) <= LONGEST_NAME:
            raise _refused(name, f"a member's name must have 1 to {LONGEST_NAME} characters")
        try:
            texts[name] = f"{_text(name)}: {_text(value)}"
        except PydanticCustomError as error:
            raise _refused(name, error.message()) from None
    return texts


def _joined(texts: Mapping[str, str], most_bytes: int) -> str:
    text = f"{{{', '.join(texts.values())}}}"
    if len(text.encode()) > most_bytes:
        raise _refused(max(texts, key=lambda name: len(texts[name])), TOO_LONG)
    return text


def _text(value: object, levels: int = MOST_LEVELS) -> str:
    if isinstance(value, dict | list):
        if not levels:
            raise PydanticCustomError(
                "levels", "must have at most {most} levels", {"most": MOST_LEVELS}
            )
        if isinstance(value, list):
            return f"[{', '.join(_text(each, levels - 1) for each in value)}]"
        pairs = (f"{_text(name)}: {_text(each, levels - 1)}" for name, each in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, str) and "\0" in value:
        raise PydanticCustomError("string_nul", "must not contain the NUL character")
    if isinstance(value, float):
        if isinf(value):
            raise PydanticCustomError("number", "must have numbers that a double can hold")
        return format(Decimal(repr(value)), "f")
    return dumps(value, ensure_ascii=False)


def _refused(name: str, message: str) -> ValidationError:
    error = PydanticCustomError("further_member", message)
    return ValidationError.from_exception_data(
        "Further", [{"type": error, "loc": (name[:100],), "input": None}]
    )
