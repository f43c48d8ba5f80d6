"""A request sends one statement, which reads only its owner's rows, by the key's index."""

import asyncio
import json
import re
from collections.abc import Iterator
from itertools import combinations, starmap
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import asyncpg
import httpx
import pytest
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy import literal, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.sql import statements as statements_of
from src.framework.sql.embedded import embedded_server
from src.framework.sql.engine import Statement, compiled, compiled_answer, create_engine
from src.framework.sql.sharing import How
from src.framework.sql.uuid7 import instant, next_tick, uuid7
from src.schemas.paging import kinds_of
from src.schemas.task import TaskCreate, TaskUpdate
from src.schemas.task_listing import Sort
from src.services import batch_service, task_service
from src.services.task_service import list_statement
from tests import sql
from tests.conftest import database, execute
from tests.serving import serving
from tests.tasks import create, task_path, tasks_path, unknown_path

FIELDS = sorted(TaskUpdate.__annotations__)
UPDATES = [
    task_service.update_statement(frozenset(fields), conditional=conditional)
    for count in (0, 1, len(FIELDS))
    for fields in combinations(FIELDS, count)
    for conditional in (False, True)
]
OTHERS = [
    make(conditional=conditional)
    for make in (task_service.toggle_statement, task_service.delete_statement)
    for conditional in (False, True)
]
SORTS = get_args(Sort)
LISTS = {
    f"list {sort} {' '.join(by)}": (sort, frozenset(by))
    for sort in SORTS
    for count in range(5)
    for by in combinations(("completed", "text", "position", "more"), count)
}
FINDING = {
    "get": task_service.GET,
    **{f"change {number}": statement for number, statement in enumerate([*UPDATES[1:], *OTHERS])},
}
KINDS = {
    "create": task_service.CREATE.at_once,
    "update": task_service.update_statement(frozenset({"title"})),
    "toggle": task_service.toggle_statement(),
    "delete": task_service.delete_statement(),
}
WRITES: Any = task_service.CREATE.at_once.shared
SHARED = [
    f"{how} {' '.join(kinds)}"
    for how in get_args(How)
    for number in (1, 2, 3, 4)
    for kinds in combinations(KINDS, number)
]
GET_MANY: Any = task_service.GET.shared


BATCHES = [each for each in batch_service.BATCH if isinstance(each, Statement)]

PLANNED_EARLY = [
    "get",
    *(
        f"{how} {kinds}"
        for how in ("skip", "wait")
        for kinds in ("update", "toggle", "delete", "update delete")
    ),
]


def shared(name: str) -> Statement:
    """Write a statement that requests share. To write all takes half a second."""
    statement: Statement
    if name == "get":
        statement = GET_MANY(frozenset([task_service.GET]), "skip")
    else:
        how, *kinds = name.split()
        statement = WRITES(frozenset(KINDS[kind] for kind in kinds), how)
    return statement


def test_every_statement_is_scoped_by_its_owner() -> None:
    for statement in [
        task_service.GET,
        *UPDATES,
        *OTHERS,
        *starmap(list_statement, LISTS.values()),
    ]:
        owner = statement.parameters.index("user_id") + 1
        of_tasks = statement.sql.count("FROM tasks") + statement.sql.count("UPDATE tasks")
        assert of_tasks
        assert statement.sql.count(f"WHERE tasks.user_id = ${owner}::VARCHAR") == of_tasks
    assert len(SHARED) == 45
    for name in ["get", *SHARED]:
        statement = shared(name)
        of_tasks = statement.sql.count("FROM tasks") + statement.sql.count("UPDATE tasks")
        scopes = re.findall(
            r"WHERE tasks\.user_id = (asked|locked)\.user_id AND tasks\.id = \1\.id",
            statement.sql,
        )
        assert len(scopes) == of_tasks
        assert (of_tasks == 0) == name.endswith(" create")
    for creation in [task_service.CREATE, task_service.CREATE_ONCE]:
        for statement in filter(None, creation):
            assert "FROM tasks" not in statement.sql
            assert "UPDATE tasks" not in statement.sql
    for statement in [task_service.CREATE_ONCE.at_once, task_service.CREATE_ONCE.written]:
        owner = statement.parameters.index("user_id") + 1
        of_keys = statement.sql.count("FROM idempotency_keys")
        assert of_keys
        assert statement.sql.count(f"WHERE idempotency_keys.user_id = ${owner}::VARCHAR") == of_keys


def test_a_batchs_statements_are_scoped_by_their_owner() -> None:
    assert len(BATCHES) == 8
    for statement in BATCHES:
        owner = statement.parameters.index("user_id") + 1
        for table in ("tasks", "idempotency_keys"):
            named = statement.sql.count(f"FROM {table}") + statement.sql.count(f"UPDATE {table}")
            assert statement.sql.count(f"WHERE {table}.user_id = ${owner}::VARCHAR") == named


def test_the_scope_is_written_in_one_place() -> None:
    folder = Path(statements_of.__file__).parent
    service = Path(task_service.__file__).read_text()

    assert sum(path.read_text().count("table.c.user_id") for path in folder.glob("*.py")) == 1
    assert "c.user_id" not in service
    assert "Task.user_id" not in service


def test_only_a_search_counts_as_a_list_that_takes_long() -> None:
    for by in (frozenset[str](), frozenset({"completed", "position", "more"})):
        assert not list_statement("title", by).takes_long
        assert list_statement("title", by | {"text"}).takes_long
        assert list_statement("title", by | {"text"}, counted=True).takes_long


def values(user: str, task_id: object, position: object = None) -> dict[str, object]:
    return {
        "user_id": user,
        "id": task_id,
        "title": "Buy milk",
        "description": None,
        "completed": False,
        "priority": "high",
        "priorities": ["high"],
        "due_date": None,
        "tags": ["home"],
        "due_date_from": None,
        "due_date_to": None,
        "has_due_date": None,
        "overdue": False,
        "all_day": True,
        "further": '{"recurrence": {"every": "week"}}',
        "due_date_from_day": None,
        "due_date_to_day": None,
        "completed_from": None,
        "completed_to": None,
        "completed_from_day": None,
        "completed_to_day": None,
        "time_zone": "Asia/Kolkata",
        "offset": 0,
        "wanted": False,
        "etags": ["a"],
        "text": "milk",
        "position": position,
        "position_id": task_id,
        "limit": 10,
    }


POSITIONS = {"title": "Buy milk", "priority": "high"}
COPIED = ["id", "user_id", "title", "description", "completed", "created_at", "updated_at"]


async def insert(
    engine: AsyncEngine, users: int, each: int, *, analyze: bool = True
) -> list[tuple[str, Any]]:
    rows = []
    for number in range(users * each):
        tick = next_tick()
        user = f"user-{number % users}"
        rows.append((uuid7(tick), user, "Buy milk", None, False, instant(tick), instant(tick)))
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, asyncpg.Connection)
        await driver.copy_records_to_table("tasks", records=rows, columns=COPIED)
        if analyze:
            await driver.execute("ANALYZE tasks")
    return [(row[1], row[0]) for row in rows]


async def fetch_value(url: str, sql: str, *arguments: object) -> Any:  # noqa: ANN401 - as asyncpg has it
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql, *arguments)
    finally:
        await connection.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.fixture(scope="module")
def large(postgres: str, template: str) -> Iterator[tuple[str, str, UUID]]:
    """A database with 20,000 tasks, and the owner and id of one of them."""
    with database(postgres, template) as url:
        yield url, *asyncio.run(fill(url))


async def fill(url: str) -> tuple[str, UUID]:
    engine = create_engine(url, pool_size=1)
    rows = await insert(engine, users=500, each=40)
    await engine.dispose()
    return rows[1234]


@pytest.mark.anyio
@pytest.mark.parametrize("statement", FINDING.values(), ids=FINDING)
async def test_a_statement_finds_its_tasks_by_the_keys_index(
    large: tuple[str, str, UUID], statement: Statement
) -> None:
    url, owner, task_id = large
    arguments = values(owner, task_id)

    explained = await fetch_value(
        url,
        f"EXPLAIN (FORMAT JSON) {statement.sql}",
        *[arguments[name] for name in statement.parameters],
    )
    plan = list(nodes(json.loads(explained)[0]["Plan"]))

    indexed = [node for node in plan if "Index Name" in node]
    assert indexed
    assert {node["Index Name"] for node in indexed} == {"tasks_pkey"}
    assert all("user_id" in node["Index Cond"] for node in indexed)
    assert not [node for node in plan if node["Node Type"] == "Seq Scan"]


@pytest.mark.anyio
async def test_no_statement_is_compiled_to_machine_code(direct_database: str) -> None:
    """PostgreSQL would compile for seconds, because it expects the scan to be expensive."""
    engine = create_engine(direct_database, pool_size=1)
    async with engine.connect() as connection:
        assert await connection.scalar(text("SHOW enable_seqscan")) == "off"
        assert await connection.scalar(text("SHOW jit")) == "off"
    await engine.dispose()


@pytest.mark.anyio
@pytest.mark.parametrize("name", PLANNED_EARLY)
async def test_a_shared_plan_for_an_empty_table_does_not_read_all_of_a_large_table(
    engine: AsyncEngine, name: str
) -> None:
    """A statement is planned once for each connection. Both indexes begin with the owner."""
    statement = shared(name)
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, asyncpg.Connection)
        await driver.execute(f"PREPARE planned AS {statement.sql}")
        of_none = ", ".join(["'[]'"] if "asked" in statement.parameters else ["'{}'", "'{}'"])
        await driver.execute(f"EXECUTE planned({of_none})")
        user, task_id = (await insert(engine, users=500, each=40, analyze=False))[1234]
        asked = to_json([values(user, task_id)]).decode()
        of_one = (
            f"$${asked}$$" if "asked" in statement.parameters else f"'{{{user}}}', '{{{task_id}}}'"
        )
        explained = await driver.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE planned({of_one})")

    scans = [
        node
        for node in nodes(json.loads(explained)[0]["Plan"])
        if node.get("Relation Name") == "tasks" and "Scan" in node["Node Type"]
    ]
    assert scans
    for scan in scans:
        condition = scan["TID Cond"] if scan["Node Type"] == "Tid Scan" else scan["Index Cond"]
        assert "ctid" in condition or ("user_id" in condition and "id = " in condition)


@pytest.mark.anyio
async def test_no_plan_for_empty_tables_reads_all_tasks_of_an_owner_for_each_row(
    engine: AsyncEngine,
) -> None:
    """A statement is planned once for each connection. A nested loop repeats its inner scans."""
    repeated: list[tuple[str, str, str]] = []
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, asyncpg.Connection)
        for name, statement in sql.statements():
            await driver.execute(f"PREPARE planned AS {statement.sql}")
            arguments = ", ".join(["NULL"] * len(statement.parameters))
            explained = await driver.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE planned({arguments})")
            await driver.execute("DEALLOCATE planned")
            repeated += [
                (name, scan["Index Name"], scan.get("Index Cond", ""))
                for loop in nodes(json.loads(explained)[0]["Plan"])
                if loop["Node Type"] == "Nested Loop"
                for inner in loop["Plans"]
                if inner["Parent Relationship"] == "Inner"
                for scan in nodes(inner)
                if scan.get("Relation Name") == "tasks" and "Index Name" in scan
            ]

    assert len(repeated) > 10
    assert [each for each in repeated if not re.search(r"\bid (=|<=) ", each[2])] == []
    assert {index for name, index, _ in repeated if name == "changes_since"} == {"tasks_pkey"}


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["at_once", "once"])
async def test_a_batch_planned_for_an_empty_table_finds_its_tasks_by_their_ids(
    engine: AsyncEngine, name: str
) -> None:
    """A statement is planned once for each connection. Both indexes begin with the owner."""
    statement: Statement = getattr(batch_service.BATCH, name)
    arguments = {
        "user_id": "'user-3'",
        "key": "'key'",
        "kept_since": "now() - interval '1 day'",
        "fingerprint": "'of the batch'",
        "earlier_fingerprint": "''",
        "created_at": "now()",
    }
    others = [arguments.get(name, "{}") for name in statement.parameters]
    execute = f"EXECUTE planned({', '.join(others)})"
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, asyncpg.Connection)
        await driver.execute(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, created_at) "
            "SELECT 'user-3', 'key-' || n, '', now() FROM generate_series(1, 1000) AS n"
        )
        await driver.execute("ANALYZE idempotency_keys")
        await driver.execute(f"PREPARE planned AS {statement.sql}")
        await driver.execute(execute.format("'[]'"))
        rows = await insert(engine, users=5, each=2000, analyze=False)
        ids = [row_id for owner, row_id in rows if owner == "user-3"][:100]
        kinds = ["update", "delete"] * 50
        sent = [
            {"n": n, "op": op, "id": row_id, "etags": ["a"], "fields": {"title": "New"}}
            for n, (op, row_id) in enumerate(zip(kinds, ids, strict=True))
        ]
        operations = execute.format(f"'{to_json(sent).decode()}'")
        explained = await driver.fetchval(f"EXPLAIN (FORMAT JSON) {operations}")

    plan = list(nodes(json.loads(explained)[0]["Plan"]))
    searches = {(node["Index Name"], node["Index Cond"]) for node in plan if "Index Name" in node}
    by_key = [each for index, each in searches if index == "idempotency_keys_pkey"]
    of_tasks = [each for index, each in searches if index.startswith("tasks")]
    assert len(of_tasks) == 3
    assert all("user_id" in each and "id = " in each for each in of_tasks)
    assert len(by_key) == (2 if name == "once" else 0)
    assert all("key" in each for each in by_key)
    assert not [node for node in plan if node["Node Type"] == "Seq Scan"]


@pytest.mark.anyio
async def test_a_list_finds_its_tasks_by_an_index_of_their_owner(engine: AsyncEngine) -> None:
    """The order of creation needs no sort; other orders and rare filters sort the user's tasks."""
    owner, task_id = (await insert(engine, users=5, each=2000))[1234]
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver = raw.driver_connection
        assert isinstance(driver, asyncpg.Connection)
        plans = {}
        for name, (sort, by) in LISTS.items():
            statement = list_statement(sort, by)
            column = name.split()[1].removeprefix("-")
            arguments = values(owner, task_id, POSITIONS.get(column, "2026-11-21T09:30:00+00:00"))
            explained = await driver.fetchval(
                f"EXPLAIN (FORMAT JSON) {statement.sql}",
                *[arguments[parameter] for parameter in statement.parameters],
            )
            plans[name] = list(nodes(json.loads(explained)[0]["Plan"]))

    assert len(plans) == len(SORTS) * 16
    in_order = 0
    for name, plan in plans.items():
        indexed = {node["Index Name"]: node["Index Cond"] for node in plan if "Index Name" in node}
        assert indexed, name
        assert all("user_id" in searched_for for searched_for in indexed.values()), name
        if name.split()[1].removeprefix("-") == "created_at" and "more" not in name:
            in_order += 1
            assert list(indexed) == ["tasks_in_order"], name
            assert not [node for node in plan if "Sort" in node["Node Type"]], name
    assert in_order == 2 * 8


@pytest.mark.anyio
@pytest.mark.parametrize("condition", [None, Condition([], wanted=False)], ids=["plain", "if"])
@pytest.mark.parametrize("change", ["update", "toggle"])
async def test_updated_at_never_goes_back(
    engine: AsyncEngine, own_database: str, change: str, condition: Condition | None
) -> None:
    """The database's clock may be behind the clock that dated the row."""
    task = json.loads(await task_service.create_task(engine, "ada", TaskCreate(title="Buy milk")))
    await execute(own_database, "UPDATE tasks SET updated_at = '2999-01-01T00:00:00Z'")

    if change == "update":
        changed = await task_service.update_task(
            engine, "ada", UUID(task["id"]), {"title": "Buy bread"}, condition
        )
    else:
        changed = await task_service.toggle_task(engine, "ada", UUID(task["id"]), condition)

    assert json.loads(changed)["updated_at"] == "2999-01-01T00:00:00.000000+00:00"


def statements(log: Path, start: int) -> list[str]:
    """The statements that PostgreSQL has logged from this position on."""
    text = log.read_text()[start:]
    return [line for line in text.splitlines() if "LOG:  statement:" in line or "execute " in line]


def test_every_statement_of_a_create_can_be_sent_again() -> None:
    for creation in [task_service.CREATE, task_service.CREATE_ONCE]:
        assert all(each.repeatable for each in creation if each is not None)


def test_a_request_is_one_statement_with_no_transaction_around_it(tmp_path: Path) -> None:
    with embedded_server(tmp_path / "data") as url:
        log = tmp_path / "data" / "postgres" / "log"
        config = tmp_path / "data" / "postgres" / "postgresql.auto.conf"
        config.write_text("log_statement = 'all'\n")
    with (
        embedded_server(tmp_path / "data"),
        serving(tmp_path / "log", DATABASE_URL=url, DATABASE_POOL_SIZE="1") as server,
        server.client() as api,
    ):
        task = create(api, "ada")
        requests: list[tuple[str, str, Any, int]] = [
            ("GET", tasks_path("ada"), None, 200),
            ("POST", tasks_path("ada"), {"title": "Buy bread"}, 201),
            ("GET", task_path(task), None, 200),
            ("PUT", task_path(task), {"title": "Buy bread"}, 200),
            ("PUT", task_path(task), {}, 200),
            ("PATCH", f"{task_path(task)}/complete", None, 200),
            ("PATCH", f"{task_path(task)}/complete", {"completed": True}, 200),
            ("PATCH", task_path(task), {"title": "Buy bread"}, 200),
            ("GET", f"{tasks_path('ada')}?limit=1&q=milk&completed=true&sort=-title", None, 200),
            ("GET", unknown_path("ada"), None, 404),
            ("PUT", unknown_path("ada"), {"completed": True}, 404),
            ("DELETE", unknown_path("ada"), None, 404),
            ("DELETE", task_path(task), None, 200),
        ]
        for method, path, body, status in requests:
            before = len(log.read_text())
            answer: httpx.Response = api.request(method, path, json=body)
            assert answer.status_code == status
            [statement] = statements(log, before)
            assert "WITH row AS" in statement
        for method, path, headers, status in [
            ("DELETE", task_path(create(api, "ada")), {"If-Match": '"other"'}, 412),
            ("PUT", task_path(create(api, "ada")), {"If-Match": '"other"'}, 412),
            ("PUT", task_path(create(api, "ada")), {"If-None-Match": '"other"'}, 200),
            ("PATCH", task_path(create(api, "ada")), {"If-None-Match": "*"}, 412),
            ("GET", task_path(create(api, "ada")), {"If-Match": '"other"'}, 412),
            ("POST", tasks_path("ada"), {"Idempotency-Key": "one"}, 201),
            ("POST", tasks_path("ada"), {"Idempotency-Key": "one"}, 201),
        ]:
            before = len(log.read_text())
            answer = api.request(method, path, json={"title": "Buy eggs"}, headers=headers)
            assert answer.status_code == status
            [statement] = statements(log, before)
        keep = {"op": "update", "id": create(api, "ada")["id"], "task": {"completed": True}}
        for operations, key, status in [
            ([{"op": "create", "task": {"title": "Buy milk"}}] * 100, {}, 200),
            ([keep, {"op": "delete", "id": task["id"]}], {}, 404),
            ([keep | {"if_match": '"other"'}], {}, 412),
            (
                [keep, {"op": "create", "task": {"title": "Buy rye"}}],
                {"Idempotency-Key": "b"},
                200,
            ),
            (
                [keep, {"op": "create", "task": {"title": "Buy rye"}}],
                {"Idempotency-Key": "b"},
                200,
            ),
            ([keep], {"Idempotency-Key": "b"}, 422),
        ]:
            before = len(log.read_text())
            content = {"operations": operations}
            answer = api.post(f"{tasks_path('ada')}/batch", json=content, headers=key)
            assert answer.status_code == status
            [statement] = statements(log, before)


class Counted(BaseModel):
    count: float


def test_a_cursor_can_say_every_order_of_a_list() -> None:
    with pytest.raises(TypeError, match=r"^cannot order by <class 'float'>$"):
        kinds_of(Counted, ["-count"])


def test_a_statement_takes_each_value_as_a_parameter() -> None:
    with pytest.raises(TypeError, match="every value of a statement must be a bindparam"):
        compiled(select(literal(7)))
    with pytest.raises(TypeError, match="every value of a statement must be a bindparam"):
        compiled_answer(select(literal(7)), repeatable=True)
