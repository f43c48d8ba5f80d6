"""Many operations on a user's tasks in one statement: all are applied, or none."""

from collections.abc import Sequence
from hashlib import sha256
from itertools import repeat

from pydantic_core import to_json
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.sql import batch_rows
from src.framework.sql.batch_rows import RowChange
from src.framework.sql.batch_statements import change_rows
from src.schemas.batch import Operation
from src.schemas.task import TaskCreate
from src.services.task_service import KEYS, TASKS, said_of

BATCH = change_rows(TASKS, TaskCreate.model_fields, KEYS, "task_id")


async def apply_batch(
    engine: AsyncEngine,
    user_id: str,
    operations: list[Operation],
    key: str | None = None,
    conditions: Sequence[Condition | None] | None = None,
) -> list[bytes | None]:
    """Apply all operations or none; return each task's new state, or None if it was deleted.

    If the operations were applied before with the key, return the states from then. `conditions`
    has a condition or None for each operation. Raises BatchRefused, KeyReused for a key that came
    with another request, TooManyKeys, and DatabaseUnavailable.
    """
    changes = [*map(_change, operations, conditions or repeat(None))]
    if key is None:
        return await batch_rows.apply_changes(engine, BATCH, changes, user_id=user_id)
    return await batch_rows.apply_changes(
        engine,
        BATCH,
        changes,
        user_id=user_id,
        key=key,
        fingerprint=batch_fingerprint(operations, "in part"),
        earlier_fingerprint=batch_fingerprint(operations),
    )


def _change(operation: Operation, condition: Condition | None) -> RowChange:
    if operation["op"] == "create":
        return RowChange("create", fields=vars(operation["task"]))
    if operation["op"] == "delete":
        return RowChange("delete", operation["id"], condition=condition)
    return RowChange("update", operation["id"], dict(operation["task"]), condition)


def batch_fingerprint(operations: list[Operation], *kept: str) -> str:
    """Hash the operations that came with a key. Default values do not count, as for a task.

    An earlier release stored whole answers, and would take stored parts for a whole answer. So this
    release has another fingerprint for the same batch.
    """
    return sha256(to_json([*map(_said, operations), *kept])).hexdigest()


def _said(operation: Operation) -> object:
    if operation["op"] == "delete":
        return operation
    if operation["op"] == "create":
        task = operation["task"].model_dump(exclude_defaults=True)
    else:
        task = dict(operation["task"])
    return operation | {"task": said_of(task)}
