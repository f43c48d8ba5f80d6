"""A batch of operations: what clients send and what they get."""

from functools import partial
from typing import Annotated, Any, Literal, NotRequired, TypeAlias
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from typing_extensions import TypedDict

from src.schemas.fields import ETAGS, EXAMPLE_ID, check_etags
from src.schemas.task import SentUpdate, TaskCreate, TaskPublic

MAX_OPERATIONS = 100

MAX_IF_MATCH = 1000
"""Characters of an operation's `if_match`: 26 of our ETags, all of which PostgreSQL compares."""

_ETAG = '"5d41402abc4b2a765d41402abc4b2a76"'


OperationIfMatch = Annotated[
    str,
    AfterValidator(partial(check_etags, most=MAX_IF_MATCH)),
    Field(
        description="Works like If-Match.",
        json_schema_extra={"pattern": ETAGS["pattern"], "maxLength": MAX_IF_MATCH},
    ),
]


class CreateOperation(TypedDict):
    op: Literal["create"]
    task: TaskCreate


class UpdateOperation(TypedDict):
    op: Literal["update"]
    id: UUID
    if_match: NotRequired[OperationIfMatch]
    task: SentUpdate


class DeleteOperation(TypedDict):
    op: Literal["delete"]
    id: UUID
    if_match: NotRequired[OperationIfMatch]


class _Kind(TypedDict):
    op: Literal["create", "update", "delete"]


_KIND = TypeAdapter(_Kind)
_OPERATIONS: dict[str, TypeAdapter[Any]] = {
    "create": TypeAdapter(CreateOperation),
    "update": TypeAdapter(UpdateOperation),
    "delete": TypeAdapter(DeleteOperation),
}


def _operation(sent: object, info: ValidationInfo) -> object:
    """Read one operation. A tagged union would add its tag to the path of each error.

    The context may say what to do about unknown names.
    """
    kind = _KIND.validate_python(sent)["op"]
    return _OPERATIONS[kind].validate_python(sent, **(info.context or {}))


Operation: TypeAlias = CreateOperation | UpdateOperation | DeleteOperation
SentOperation = Annotated[
    Operation,
    # With a discriminator, the tools that agents get would lose what each kind requires.
    PlainValidator(_operation, json_schema_input_type=Operation),
]


def _is_not_too_long(operations: object) -> object:
    """Refuse a list that is too long before its operations are read."""
    if isinstance(operations, list) and not 1 <= len(operations) <= MAX_OPERATIONS:
        raise PydanticCustomError(
            "operations", "must have 1 to {maximum} operations", {"maximum": MAX_OPERATIONS}
        )
    return operations


def _name_each_task_once(operations: list[Operation]) -> list[Operation]:
    """Refuse two operations on one row: PostgreSQL would apply only one, without an error."""
    first: dict[UUID, int] = {}
    errors: list[InitErrorDetails] = []
    for number, operation in enumerate(operations):
        if operation["op"] == "create":
            continue
        before = first.setdefault(operation["id"], number)
        if before != number:
            repeated = PydanticCustomError(
                "repeated",
                "is in operation {number} already; send one operation for each task",
                {"number": before},
            )
            errors.append({"type": repeated, "loc": (number, "id"), "input": operation["id"]})
    if errors:
        raise ValidationError.from_exception_data("Batch", errors)
    return operations


BATCH_EXAMPLES: dict[str, Any] = {
    "Create two tasks": {
        "value": {
            "operations": [
                {"op": "create", "task": {"title": "Buy milk"}},
                {"op": "create", "task": {"title": "Buy bread", "priority": "high"}},
            ]
        }
    },
    "Update a task and delete another": {
        "value": {
            "operations": [
                {"op": "update", "id": EXAMPLE_ID, "if_match": _ETAG, "task": {"completed": True}},
                {"op": "delete", "id": EXAMPLE_ID[:-1] + "0"},
            ]
        }
    },
}
"""The first example works for any user."""


class Batch(BaseModel):
    operations: Annotated[
        list[SentOperation],
        BeforeValidator(_is_not_too_long),
        AfterValidator(_name_each_task_once),
        Field(
            description=f"1 to {MAX_OPERATIONS} operations, on different tasks.",
            json_schema_extra={"minItems": 1, "maxItems": MAX_OPERATIONS},
        ),
    ]


class TaskResult(BaseModel):
    """The task that was created (201) or updated (200)."""

    status: Literal[200, 201]
    etag: Annotated[str, Field(description="The ETag with its quotes, as If-Match needs it.")]
    task: TaskPublic


class DeleteResult(BaseModel):
    status: Literal[200]
    message: str


class BatchResults(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "results": [
                    {
                        "status": 201,
                        "etag": _ETAG,
                        "task": TaskPublic.model_config["json_schema_extra"]["example"],  # type: ignore[index]  # a dict, as written there
                    },
                    {"status": 200, "message": "Task deleted successfully"},
                ]
            }
        }
    )

    results: Annotated[
        list[TaskResult | DeleteResult],
        Field(description="One result for each operation, in the same order."),
    ]
