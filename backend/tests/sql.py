"""Write every statement that the service sends, formatted, into a file each: `make contract`."""

from collections.abc import Iterator
from typing import get_args

from pglast import prettify

from src.framework.sql.engine import Statement
from src.framework.sql.sharing import How
from src.schemas.task_listing import Sort
from src.services import batch_service, expiry_service, feed_service, personal_token_service
from src.services.task_service import (
    CREATE,
    CREATE_ONCE,
    GET,
    delete_statement,
    list_statement,
    toggle_statement,
    update_statement,
)
from tests.serving import BACKEND

FOLDER = BACKEND.parent / "specs/001-backend-api-database/sql"

WRITES = {
    "create": CREATE.at_once,
    "update": update_statement(frozenset({"title"})),
    "toggle": toggle_statement(),
    "delete": delete_statement(),
}
FILTERS = ("completed", "text", "position", "more")


def statements() -> Iterator[tuple[str, Statement]]:
    """Yield each statement with its name.

    If a statement depends on fields, filters or orders, yield a statement of each kind.
    """
    yield from of_one_task()
    yield from of_many_tasks()
    for step, statement in batch_service.BATCH._asdict().items():
        if isinstance(statement, Statement):
            yield f"batch_{step}", statement
    for name in ("NOW", "SINCE", "MOVED"):
        yield f"changes_{name.lower()}", getattr(feed_service, name)
    yield from of_tokens()
    for name, statement in vars(expiry_service).items():
        if isinstance(statement, Statement):
            yield f"expiry{name.lower()}", statement


def of_tokens() -> Iterator[tuple[str, Statement]]:
    for name, statement in vars(personal_token_service).items():
        if isinstance(statement, Statement):
            yield name.lower(), statement
    creation = personal_token_service.CREATE_TOKEN
    yield "create_token_inserted", creation.inserted
    yield "create_token_written", creation.written
    yield "list_tokens", personal_token_service.list_statement_of_tokens("name", frozenset())


def of_many_tasks() -> Iterator[tuple[str, Statement]]:
    for sort in get_args(Sort):
        yield f"list_{sort.replace('-', 'descending_')}", list_statement(sort)
    for name in FILTERS:
        yield f"list_by_{name}", list_statement(by=frozenset({name}))
    yield "list_by_all", list_statement("-due_date", frozenset(FILTERS))
    yield "list_by_time_zone", list_statement("due_date", frozenset({*FILTERS, "time_zone"}))
    yield "list_counted", list_statement(counted=True)
    read, write = GET.shared, WRITES["create"].shared
    assert read is not None
    assert write is not None
    yield "shared_get", read(frozenset([GET]), "skip")
    for how in get_args(How):
        for name, statement in WRITES.items():
            yield f"shared_{how}_{name}", write(frozenset([statement]), how)
        yield f"shared_{how}_all", write(frozenset(WRITES.values()), how)


def of_one_task() -> Iterator[tuple[str, Statement]]:
    yield "get", GET
    for name, creation in {"create": CREATE, "create_with_key": CREATE_ONCE}.items():
        for step, statement in creation._asdict().items():
            if statement is not None:
                yield name if step == "at_once" else f"{name}_{step}", statement
    for name in ("update", "toggle", "delete"):
        yield name, WRITES[name]
    yield "update_if_match", update_statement(frozenset({"title"}), conditional=True)
    yield "toggle_if_match", toggle_statement(conditional=True)
    yield "delete_if_match", delete_statement(conditional=True)


def files() -> dict[str, str]:
    return {
        f"{name}.sql": prettify(statement.sql, comma_at_eoln=True, compact_lists_margin=100) + "\n"
        for name, statement in statements()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.sql"):
        path.unlink()
    for name, text in files().items():
        (FOLDER / name).write_text(text)
