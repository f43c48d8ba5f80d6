"""What clients send of a task and what they get."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, get_args
from unicodedata import normalize
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from src.schemas.fields import EXAMPLE_ID, Characters, SentTime, day_of, is_day, without_default
from src.schemas.further import ANSWERED, FURTHER, SENT, FurtherText, change_text, whole_text
from src.schemas.other_names import PRIORITY_WORDS, task_in_our_words, without_spellings

MAX_TAGS = 20

Priority: TypeAlias = Literal["low", "medium", "high", "urgent"]

Title = Annotated[
    str, Characters(1, 500, strips=True), Field(description="Trimmed.", examples=["Buy milk"])
]

Description = Annotated[str, Characters(0, 5000)]


def _or_text_or_null(schema: dict[str, Any]) -> None:
    array = {"type": schema.pop("type"), "items": schema.pop("items"), "maxItems": MAX_TAGS}
    tag = "[^,]{0,50}"
    text = {"type": "string", "pattern": f"^{tag}(,{tag}){{0,{MAX_TAGS - 1}}}$"}
    schema["anyOf"] = [array, text, {"type": "null"}]


def _rank(value: object) -> object:
    if value is None or value == "":
        return "medium"
    if isinstance(value, str):
        value = value.strip().lower()
        return PRIORITY_WORDS.get(value, value)
    return value


def _few(tags: object) -> object:
    """Refuse a list that is too long before its items are read."""
    if isinstance(tags, list) and len(tags) > MAX_TAGS:
        raise PydanticCustomError("tags", "must have at most {maximum} tags", {"maximum": MAX_TAGS})
    return [] if tags is None else tags


def _distinct(tags: list[str]) -> list[str]:
    """Keep the first of several tags that are the same text, however the text is composed."""
    if "".join(tags).isascii():
        return [*dict.fromkeys(tags)]
    first: dict[str, str] = {}
    for tag in tags:
        first.setdefault(normalize("NFC", tag), tag)
    return [*first.values()]


def _without_comma(tag: str) -> str:
    if "," in tag:
        raise PydanticCustomError("tag_comma", "must not contain a comma")
    return tag


SentPriority = Annotated[
    Priority,
    BeforeValidator(_rank),
    Field(description="Any capitals; empty means `medium`.", examples=["high"]),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": [*get_args(Priority)]},
                {"type": "string", "maxLength": 0},
                {"type": "null"},
            ]
        }
    ),
]

SentDueDate = Annotated[
    SentTime,
    Field(description="A day or a time (RFC 3339; UTC without offset).", examples=["2026-12-24"]),
]


def _with_completed(task: object) -> object:
    """Let `completed_at` say that a new task is completed, unless `completed` says otherwise."""
    if isinstance(task, dict) and task.get("completed_at") and "completed" not in task:
        return task | {"completed": True}
    return task


SentPast = Annotated[
    SentTime,
    Field(description="A future time becomes now.", examples=["2026-11-20T18:00:00+00:00"]),
    # The service takes a day and an empty text, too. The schema leaves both out: an agent's tool
    # for batches has all schemas, so each schema must be short.
    WithJsonSchema({"type": ["string", "null"], "format": "date-time"}),
]

_WHETHER_A_DAY = Field(
    description="Whether `due_date` is a day. Unset: `true` without a time.", examples=[True]
)


def _with_all_day(task: object) -> object:
    """Set `all_day` to whether `due_date` is a day. None means that the row's due date decides."""
    if not isinstance(task, dict) or task.keys().isdisjoint({"due_date", "all_day"}):
        return task
    due_date, all_day = task.get("due_date"), task.get("all_day")
    if all_day is None:
        said = {name: value for name, value in task.items() if name != "all_day"}
        return said | ({"all_day": is_day(due_date) or None} if "due_date" in task else {})
    if all_day is not True or (due_date in (None, "") and "due_date" in task):
        return task | ({"all_day": False} if all_day is True else {})
    if (day := day_of(due_date)) is not None:
        return task | {"due_date": day}
    wrong = PydanticCustomError("all_day", "needs a due_date that is a day, or a time at midnight")
    raise ValidationError.from_exception_data(
        "Task", [{"type": wrong, "loc": ("all_day",), "input": all_day}]
    )


Tag = Annotated[
    StrictStr,
    AfterValidator(str.strip),
    AfterValidator(_without_comma),
    AfterValidator(Characters(1, 50).check),
    Field(json_schema_extra={"minLength": 1, "maxLength": 50, "pattern": "^[^,]*$"}),
]

SentTags = Annotated[
    list[Tag],
    FailFast(),  # a batch may have 2,000 wrong tags
    BeforeValidator(_few),
    AfterValidator(_distinct),
    Field(
        description="Or a text with commas.",
        examples=[["home", "errands"]],
        json_schema_extra=_or_text_or_null,
    ),
]


class TaskCreate(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "additionalProperties": SENT,
            "example": {
                "title": "Buy milk",
                "description": "Two litres, whole",
                "priority": "high",
                "due_date": "2026-12-24",
                "tags": ["home", "errands"],
                "recurrence": {"every": "week"},
            },
        }
    )

    title: Title
    description: Description | None = None
    completed: StrictBool = Field(default=False, json_schema_extra=without_default)
    priority: SentPriority = Field(default="medium", json_schema_extra=without_default)
    tags: SentTags = Field(default_factory=list)
    all_day: Annotated[StrictBool | None, AfterValidator(bool), _WHETHER_A_DAY] = Field(
        default=False, json_schema_extra=without_default
    )
    completed_at: SentPast = None
    due_date: SentDueDate = None
    created_at: SentPast = None
    further: FurtherText = None

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, task: object, info: ValidationInfo) -> object:
        keep = None if info.context else _keep_all
        return _with_all_day(_with_completed(task_in_our_words(task, _OWN_OF_CREATE, keep)))


_OWN_OF_CREATE = TaskCreate.model_fields.keys() - {"further"}


class TaskUpdate(TypedDict, total=False):
    """Absent fields stay as they are; `null` clears a field."""

    __pydantic_config__ = ConfigDict(  # type: ignore[misc]  # where pydantic looks for it
        json_schema_extra={
            "additionalProperties": SENT,
            "example": {"title": "Buy oat milk", "completed": True},
        }
    )

    title: Title
    description: Description | None
    completed: StrictBool
    priority: SentPriority
    tags: SentTags
    all_day: Annotated[StrictBool | None, _WHETHER_A_DAY]
    due_date: SentDueDate
    further: FurtherText


_OWN = TaskUpdate.__annotations__.keys() - {"further"}


def _update_in_our_words(task: object, info: ValidationInfo) -> object:
    keep = None if info.context else _keep_changes
    return _with_all_day(task_in_our_words(task, _OWN, keep))


def _keep_all(unknown: dict[str, object]) -> dict[str, object]:
    return {FURTHER: whole_text(_not_answered(unknown))}


def _keep_changes(unknown: dict[str, object]) -> dict[str, object]:
    further = _not_answered(unknown)
    return {FURTHER: change_text(further)} if further else {}


def _not_answered(unknown: dict[str, object]) -> dict[str, object]:
    """Leave out names that the service itself answers, such as `created_at`.

    In the feed, `deleted` says that a task is gone.
    """
    return without_spellings(unknown, [*TaskPublic.model_fields, "deleted"])


SentUpdate = Annotated[TaskUpdate, BeforeValidator(_update_in_our_words)]


class Completion(TypedDict, total=False):
    """With `completed`, the request can be repeated; an empty object toggles the task."""

    __pydantic_config__ = ConfigDict(json_schema_extra={"example": {"completed": True}})  # type: ignore[misc]  # where pydantic looks for it

    completed: StrictBool


def _says_completed(body: object) -> object:
    """Without `completed`, refuse other members: the client meant to set something."""
    if not isinstance(body, dict) or not body or "completed" in body:
        return body
    ours = task_in_our_words(body, Completion.__annotations__.keys())
    if isinstance(ours, dict) and "completed" in ours:
        return ours
    missing = PydanticCustomError(
        "missing", 'is missing; send {"completed": true}, or send no body to toggle the task'
    )
    raise ValidationError.from_exception_data(
        "Completion", [{"type": missing, "loc": ("completed",), "input": body}]
    )


def _as_object(schema: dict[str, Any]) -> None:
    """Leave `null` out of the contract: agents' tools take the members of one object."""
    schema.update(schema.pop("anyOf")[0])


SentCompletion = Annotated[
    Completion | None, BeforeValidator(_says_completed), Field(json_schema_extra=_as_object)
]
"""None and an empty object toggle."""


class TaskPublic(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "additionalProperties": ANSWERED,
            "example": {
                "id": EXAMPLE_ID,
                "user_id": "ada",
                "title": "Buy milk",
                "description": "Two litres, whole",
                "completed": True,
                "priority": "high",
                "tags": ["home", "errands"],
                "all_day": True,
                "completed_at": "2026-11-22T18:00:00.654321+00:00",
                "due_date": "2026-12-24T00:00:00.000000+00:00",
                "created_at": "2026-11-21T09:30:00.123456+00:00",
                "updated_at": "2026-11-22T18:00:00.654321+00:00",
                "recurrence": {"every": "week"},
            },
        }
    )

    id: UUID
    user_id: str
    title: str
    description: str | None
    completed: bool
    priority: Priority
    tags: list[str]
    all_day: bool
    completed_at: datetime | None
    due_date: datetime | None
    created_at: datetime
    updated_at: datetime
