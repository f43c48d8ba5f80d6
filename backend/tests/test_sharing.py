"""Requests that wait together share a statement, and no client can notice this."""

import asyncio
import json
import re
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.sql import engine as engine_room
from src.framework.sql.engine import Statement, create_engine
from src.framework.sql.exceptions import (
    DatabaseUnavailable,
    LockTimedOut,
    MembersRefused,
    NoConnectionFree,
    NotFound,
    OutcomeUnknown,
)
from src.framework.sql.sharing import ALONE, MANY, MOST, WAIT_SECONDS, Answers, Group, Queue
from src.schemas.task import TaskCreate, TaskUpdate
from src.services import batch_service, task_service
from tests.conftest import name_of
from tests.faults.gate import gate
from tests.faults.load import connected
from tests.pgbouncer import host

Driver: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
WAITING = "SELECT count(*) FROM pg_locks WHERE relation IS NOT NULL AND NOT granted"


@dataclass
class Sent:
    statement: Statement
    arguments: list[Any]

    @property
    def asked(self) -> int:
        """How many requests shared the statement."""
        arguments = dict(zip(self.statement.parameters, self.arguments, strict=True))
        if "asked" in arguments:
            return len(json.loads(arguments["asked"]))
        return len(arguments["ids"]) if "ids" in arguments else 1


TEST_SECONDS = 60


@pytest.fixture(autouse=True)
async def limit() -> AsyncIterator[None]:
    """End a test in which a request gets no answer."""
    async with asyncio.timeout(TEST_SECONDS):
        yield


@pytest.fixture
def is_shared(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("citus"):
        pytest.skip("nothing is shared where Citus distributes the tables")


@pytest.fixture
def sent(is_shared: None, monkeypatch: pytest.MonkeyPatch) -> list[Sent]:  # noqa: ARG001 - skips
    """Every statement that the service sends."""
    logged: list[Sent] = []
    fetch_once = engine_room._fetch_once

    def log(
        connection: Any,  # noqa: ANN401 - SQLAlchemy's
        statement: Statement,
        *arguments: list[object],
        requests: int = 1,
        by: float = inf,
    ) -> Awaitable[Any]:
        logged.extend(Sent(statement, each) for each in arguments)
        return fetch_once(connection, statement, *arguments, requests=requests, by=by)

    monkeypatch.setattr(engine_room, "_fetch_once", log)
    return logged


async def created(engine: AsyncEngine, user: str, title: str = "Buy milk") -> UUID:
    task = await task_service.create_task(engine, user, TaskCreate(title=title))
    return UUID(json.loads(task)["id"])


async def some_tasks(engine: AsyncEngine, number: int) -> list[tuple[str, UUID]]:
    """Tasks of different users."""
    return [(user, await created(engine, user)) for user in (f"user-{n}" for n in range(number))]


async def outcomes(requests: Iterable[Awaitable[object]]) -> list[Any]:
    return await asyncio.gather(*requests, return_exceptions=True)


@pytest.mark.anyio
@pytest.mark.parametrize("at_once", [1, 2])
async def test_a_few_requests_at_once_share_no_statement(
    engine: AsyncEngine, sent: list[Sent], at_once: int
) -> None:
    tasks = await some_tasks(engine, at_once)
    sent.clear()

    await asyncio.gather(*(task_service.get_task(engine, *task) for task in tasks))

    assert [each.statement for each in sent] == [task_service.GET] * at_once


@pytest.mark.anyio
async def test_many_requests_at_once_share_statements(
    engine: AsyncEngine, sent: list[Sent]
) -> None:
    tasks = await some_tasks(engine, 40)
    sent.clear()

    answers = await asyncio.gather(*(task_service.get_task(engine, *task) for task in tasks))

    assert [json.loads(answer)["user_id"] for answer in answers] == [user for user, _ in tasks]
    assert sorted(each.asked for each in sent)[:ALONE] == [1] * ALONE
    assert sum(each.asked for each in sent) == len(tasks)
    assert len(sent) <= ALONE + 2
    assert engine_room._pool(engine).reads.under_way == 0


@pytest.mark.anyio
async def test_after_many_requests_even_the_first_request_waits_for_the_others(
    engine: AsyncEngine, sent: list[Sent]
) -> None:
    tasks = await some_tasks(engine, 40)

    async def statements_for(number: int) -> list[int]:
        sent.clear()
        await asyncio.gather(*(task_service.get_task(engine, *task) for task in tasks[:number]))
        return [each.asked for each in sent]

    await statements_for(40)
    assert min(await statements_for(40)) >= MANY
    for number in range(MANY, 0, -1):
        assert await statements_for(number) == [number]
    assert await statements_for(ALONE) == [1] * ALONE


def queue_with(connecting: float, sizes: list[int]) -> Queue:
    """A queue whose statements take no time, and note how many requests share each statement."""

    async def together(choose: Callable[[], Group]) -> Answers:
        await asyncio.sleep(connecting)
        turns = choose().turns
        sizes.append(len(turns))
        await asyncio.sleep(0)
        return {turn.key: [b""] for turn in turns}

    return Queue(together, seconds=10)


ANY = Statement("")


async def at_once(_came: float) -> bytes:
    await asyncio.sleep(0)
    return b""


async def ask(queue: Queue, clients: int, times: int = 1) -> None:
    async def client(number: int) -> None:
        for _ in range(times):
            await queue.answer(ANY, (number, number), {}, at_once)

    await asyncio.gather(*(client(number) for number in range(clients)))


@pytest.mark.anyio
async def test_clients_take_turns_in_two_halves() -> None:
    sizes: list[int] = []

    await ask(queue_with(0, sizes), clients=16, times=30)

    assert len(sizes) > 40
    assert statistics.mode(sizes) == 8  # on a busy machine, more requests may share a statement


@pytest.mark.anyio
async def test_all_requests_that_waited_for_a_connection_share_a_statement() -> None:
    sizes: list[int] = []

    await ask(queue_with(2 * WAIT_SECONDS, sizes), clients=ALONE + 16)

    assert sizes == [16]


@pytest.mark.anyio
async def test_only_after_a_full_statement_the_next_statement_begins_at_once() -> None:
    begun: list[tuple[int, bool]] = []

    async def together(choose: Callable[[], Group]) -> Answers:
        await asyncio.sleep(2 * WAIT_SECONDS)
        turns = choose().turns
        begun.append((len(turns), queue.is_calling))
        return {turn.key: [b""] for turn in turns}

    queue = Queue(together, seconds=10)

    await ask(queue, clients=ALONE + MOST + 1)

    assert begun == [(MOST, True), (1, False)]


@pytest.mark.anyio
async def test_a_third_request_at_once_does_not_go_alone() -> None:
    sizes: list[int] = []

    await ask(queue_with(0, sizes), clients=2)
    assert sizes == []

    await ask(queue_with(0, sizes), clients=3)
    assert sizes == [1]


@pytest.mark.anyio
async def test_requests_wait_for_each_other_until_a_request_goes_alone() -> None:
    queue = queue_with(2 * WAIT_SECONDS, [])

    for clients, is_busy in [
        (ALONE + MANY - 1, False),
        (ALONE + MANY, True),
        (2, True),
        (1, False),
    ]:
        await ask(queue, clients)
        assert queue.is_busy == is_busy


@pytest.mark.anyio
async def test_a_request_that_is_given_up_as_its_turn_comes_frees_its_place() -> None:
    queue = Queue(queue_with(0, []).together, seconds=10, room=1)

    async def give_up_the_next(_came: float) -> bytes:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(given_up.cancel)
        return b""

    first = asyncio.create_task(queue.alone("ada", give_up_the_next))
    given_up = asyncio.create_task(queue.alone("ada", at_once))
    answers = await outcomes([first, given_up])

    assert isinstance(answers[1], asyncio.CancelledError)
    assert await queue.alone("ada", at_once) == b""
    assert (queue.room, queue.under_way, queue.waiting) == (1, 0, 0)


@pytest.mark.anyio
async def test_a_statement_that_does_not_return_delays_no_other_request(
    engine: AsyncEngine, sent: list[Sent], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = await some_tasks(engine, 16)
    await asyncio.gather(*(task_service.get_task(engine, *task) for task in tasks))
    sent.clear()
    all_sent = asyncio.Event()
    fetch_once = engine_room._fetch_once

    async def wait_for_others(
        connection: Any,  # noqa: ANN401 - SQLAlchemy's
        statement: Statement,
        *arguments: list[object],
        requests: int = 1,
        by: float = inf,
    ) -> list[asyncpg.Record]:
        if sum(each.asked for each in sent) + requests == len(tasks):
            all_sent.set()
        sending = fetch_once(connection, statement, *arguments, requests=requests, by=by)
        await all_sent.wait()
        return await sending

    monkeypatch.setattr(engine_room, "_fetch_once", wait_for_others)

    async with asyncio.timeout(5):
        await asyncio.gather(*(task_service.get_task(engine, *task) for task in tasks))

    assert sum(each.asked for each in sent) == len(tasks)


@pytest.mark.anyio
async def test_a_statement_is_shared_by_a_limited_number(
    engine: AsyncEngine, sent: list[Sent]
) -> None:
    task = (await some_tasks(engine, 1))[0]
    others = [task_service.get_task(engine, "nobody", uuid4()) for _ in range(2 * MOST)]
    sent.clear()

    answers = await outcomes([task_service.get_task(engine, *task), *others])

    assert json.loads(answers[0])["user_id"] == task[0]
    assert all(isinstance(answer, NotFound) for answer in answers[1:])
    assert max(each.asked for each in sent) == MOST


@pytest.mark.anyio
async def test_a_shared_statement_gives_each_request_the_bytes_of_its_own_statement(
    engine: AsyncEngine,
) -> None:
    given = TaskCreate.model_validate(
        {
            "title": 'Ünï "q" \\ \n 🥛',
            "description": None,
            "priority": "urgent",
            "due_date": "2026-12-24T23:59:59.123456+09:00",
            "tags": ["a b", "c'd", '"e"', "{f}"],
        }
    )
    users = [f"user {n} / ü" for n in range(30)]

    made = await asyncio.gather(*(task_service.create_task(engine, user, given) for user in users))
    tasks = [(user, UUID(json.loads(task)["id"])) for user, task in zip(users, made, strict=True)]

    async def alone() -> list[bytes]:
        return [await task_service.get_task(engine, *task) for task in tasks]

    assert made == await alone()
    assert {json.loads(task)["due_date"] for task in made} == {"2026-12-24T14:59:59.123456+00:00"}
    assert {tuple(json.loads(task)["tags"]) for task in made} == {tuple(given.tags)}
    got = await asyncio.gather(*(task_service.get_task(engine, *task) for task in tasks))
    assert got == made
    changes: Any = {
        "title": "é",
        "description": "",
        "priority": "low",
        "tags": [],
        "due_date": None,
        "all_day": False,
    }
    assert {*changes, "completed", "further"} == TaskUpdate.__annotations__.keys()
    updated = await asyncio.gather(
        *(task_service.update_task(engine, *task, changes) for task in tasks)
    )
    assert updated == await alone()
    assert all(json.loads(task) | changes == json.loads(task) for task in updated)
    toggled = await asyncio.gather(*(task_service.toggle_task(engine, *task) for task in tasks))
    assert toggled == await alone()
    assert all(json.loads(task)["completed"] for task in toggled)


IN_FULL = json.dumps({f"m{number}": {"a": number} for number in range(32)})
ONE_MORE: Any = {"further": '{"one": 1}'}


@pytest.mark.anyio
async def test_a_shared_statement_merges_and_replaces_members_like_a_single_statement(
    engine: AsyncEngine, sent: list[Sent]
) -> None:
    tasks = await some_tasks(engine, 40)
    before: Any = {"further": '{"it": {"a": 1}, "gone": 1}'}
    change: Any = {"further": '{"it": {"b": 2}, "gone": null}'}
    await asyncio.gather(*(task_service.update_task(engine, *task, before) for task in tasks))
    sent.clear()

    def changed(number: int) -> Awaitable[bytes]:
        if number % 4 == 0:
            return task_service.toggle_task(engine, *tasks[number])
        return task_service.update_task(engine, *tasks[number], change, replaces=number % 4 == 1)

    answers = [json.loads(each) for each in await asyncio.gather(*map(changed, range(40)))]

    assert max(each.asked for each in sent) > MANY
    for number, answer in enumerate(answers):
        members = {name: answer[name] for name in ("it", "gone") if name in answer}
        if number % 4 == 0:
            assert members == {"it": {"a": 1}, "gone": 1}
        else:
            assert members == {"it": {"b": 2} if number % 4 == 1 else {"a": 1, "b": 2}}


@pytest.mark.anyio
@pytest.mark.parametrize("mixed", [False, True])
async def test_too_many_members_refuse_one_task_and_no_other_is_sent_again(
    engine: AsyncEngine, sent: list[Sent], mixed: bool
) -> None:
    tasks = await some_tasks(engine, 40)
    full: Any = {"further": IN_FULL}
    await task_service.update_task(engine, *tasks[20], full)
    sent.clear()

    def changed(number: int) -> Awaitable[bytes]:
        if mixed and number % 2:
            return task_service.toggle_task(engine, *tasks[number])
        return task_service.update_task(engine, *tasks[number], ONE_MORE)

    answers = await outcomes(map(changed, range(40)))

    refused = answers.pop(20)
    assert isinstance(refused, MembersRefused)
    assert (refused.member, refused.is_many, refused.number) == ("one", True, None)
    assert all(isinstance(each, bytes) for each in answers)
    assert sum(each.asked for each in sent) <= len(tasks) + 3


@pytest.mark.anyio
async def test_only_the_writes_with_too_many_members_of_one_user_are_refused(
    engine: AsyncEngine,
) -> None:
    tasks = [("ada", await created(engine, "ada")) for _ in range(30)]
    full: Any = {"further": IN_FULL}
    await task_service.update_task(engine, *tasks[20], full)

    answers = await outcomes(task_service.update_task(engine, *task, ONE_MORE) for task in tasks)

    assert isinstance(answers.pop(20), MembersRefused)
    assert all(json.loads(answer)["one"] == 1 for answer in answers)


@pytest.mark.anyio
async def test_a_locked_task_delays_no_other_request(
    engine: AsyncEngine, own_database: str
) -> None:
    tasks = await some_tasks(engine, 30)
    locked = tasks[20]

    async with connected(own_database) as admin:
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute(
            "SELECT * FROM tasks WHERE user_id = $1 AND id = $2 FOR UPDATE", *locked
        )
        toggles = [asyncio.create_task(task_service.toggle_task(engine, *task)) for task in tasks]
        others = [toggle for toggle in toggles if toggle is not toggles[20]]
        answers = await asyncio.gather(*others)
        assert not toggles[20].done()
        await transaction.rollback()
    answers.insert(20, await toggles[20])

    assert [json.loads(answer)["id"] for answer in answers] == [str(task[1]) for task in tasks]
    assert all(json.loads(answer)["completed"] for answer in answers)
    await asyncio.sleep(0)
    writes = engine_room._pool(engine).writes
    assert (writes.waiting, writes.under_way, writes.calls) == (0, 0, set())


@pytest.mark.anyio
async def test_absent_and_foreign_tasks_are_not_found_in_a_shared_statement(
    engine: AsyncEngine,
) -> None:
    tasks = await some_tasks(engine, 30)
    foreign = [("eve", task_id) for _, task_id in tasks]
    absent = [(user, uuid4()) for user, _ in tasks]
    before = [await task_service.get_task(engine, *task) for task in tasks]
    changes: Any = {"title": "Stolen"}

    not_theirs = [*foreign, *absent]
    refused = [
        await outcomes(task_service.get_task(engine, *task) for task in not_theirs),
        await outcomes(
            task_service.update_task(engine, user, task_id, changes) for user, task_id in not_theirs
        ),
        await outcomes(task_service.toggle_task(engine, *task) for task in not_theirs),
        await outcomes(task_service.delete_task(engine, *task) for task in not_theirs),
    ]
    for answers in refused:
        assert [type(answer) for answer in answers] == [NotFound] * 60
    mixed = [task for three in zip(tasks, foreign, absent, strict=True) for task in three]
    answers = await outcomes(task_service.get_task(engine, *task) for task in mixed)

    assert answers[::3] == before
    assert {type(answer) for answer in answers[1::3] + answers[2::3]} == {NotFound}


@pytest.mark.anyio
async def test_many_changes_of_one_task_are_each_applied_and_answered(engine: AsyncEngine) -> None:
    [task] = await some_tasks(engine, 1)
    titles: list[Any] = [{"title": f"Title {n}"} for n in range(40)]

    toggled = await asyncio.gather(*(task_service.toggle_task(engine, *task) for _ in range(40)))
    updated = await asyncio.gather(
        *(task_service.update_task(engine, *task, title) for title in titles)
    )
    deleted = await outcomes(task_service.delete_task(engine, *task) for _ in range(40))

    assert sum(json.loads(answer)["completed"] for answer in toggled) == 20
    assert [json.loads(answer)["title"] for answer in updated] == [each["title"] for each in titles]
    assert deleted.count(None) == 1
    assert [type(each) for each in deleted].count(NotFound) == 39


@pytest.mark.anyio
async def test_two_changes_of_one_task_at_once_are_both_applied_in_order(
    engine: AsyncEngine, sent: list[Sent]
) -> None:
    tasks = await some_tasks(engine, ALONE + 1)
    titles: list[Any] = [{"title": "First"}, {"title": "Second"}]
    sent.clear()

    *_, first, second = await asyncio.gather(
        *(task_service.update_task(engine, *task, titles[0]) for task in tasks),
        task_service.update_task(engine, *tasks[-1], titles[1]),
    )

    assert [each.asked for each in sent] == [1] * (ALONE + 2)
    assert json.loads(first)["title"] == "First"
    assert json.loads(second)["title"] == "Second"
    assert await task_service.get_task(engine, *tasks[-1]) == second


@pytest.mark.anyio
@pytest.mark.parametrize("refused", ["\x00", "\ud800"], ids=["by PostgreSQL", "by the encoding"])
async def test_a_request_that_is_refused_fails_alone(engine: AsyncEngine, refused: str) -> None:
    tasks = await some_tasks(engine, 30)
    tasks.insert(20, (refused, uuid4()))

    answers = await outcomes(task_service.get_task(engine, *task) for task in tasks)

    assert isinstance(answers.pop(20), Exception)
    del tasks[20]
    assert [json.loads(answer)["user_id"] for answer in answers] == [user for user, _ in tasks]


@pytest.mark.anyio
async def test_a_request_that_is_given_up_fails_no_other_request(engine: AsyncEngine) -> None:
    tasks = await some_tasks(engine, 30)

    requests = [asyncio.create_task(task_service.get_task(engine, *task)) for task in tasks]
    await asyncio.sleep(0)
    for given_up in requests[10:20]:
        given_up.cancel()
    answers = await outcomes(requests)

    assert {type(answer) for answer in answers[10:20]} == {asyncio.CancelledError}
    served = answers[:10] + answers[20:]
    assert [json.loads(each)["user_id"] for each in served] == [
        user for user, _ in tasks[:10] + tasks[20:]
    ]


@pytest.mark.anyio
async def test_without_postgresql_each_request_fails_as_unavailable() -> None:
    engine = create_engine("postgresql://nobody@127.0.0.1:1/none?sslmode=disable", pool_size=5)

    answers = await outcomes(task_service.get_task(engine, "ada", uuid4()) for _ in range(200))

    assert {type(answer) for answer in answers} == {DatabaseUnavailable}
    assert len(answers) == 200


@pytest.mark.anyio
async def test_the_end_of_a_session_under_a_shared_statement_fails_no_request(
    direct_database: str,
) -> None:
    engine = create_engine(direct_database, pool_size=5)
    tasks = await some_tasks(engine, 30)
    async with connected(direct_database) as admin, held(direct_database, "changes"):
        toggles = [asyncio.create_task(task_service.toggle_task(engine, *task)) for task in tasks]
        await until_waiting(admin, ALONE + 1)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE relation = 'changes'::regclass AND NOT granted"
        )
    toggled = await asyncio.gather(*toggles)
    await engine.dispose()

    assert all(json.loads(answer)["completed"] for answer in toggled)


@pytest.mark.anyio
async def test_a_connection_that_breaks_fails_only_the_changes_in_its_statement(
    direct_database: str,
) -> None:
    """Creates are sent again. Nobody knows whether a change was applied."""
    with gate(host(direct_database)) as link:
        engine = create_engine(link.url.replace("/postgres?", f"/{name_of(direct_database)}?"), 10)
        tasks = await some_tasks(engine, 60)
        users, changed = [user for user, _ in tasks[:30]], tasks[30:]
        async with connected(direct_database) as admin, held(direct_database, "changes"):
            creates = [asyncio.create_task(created(engine, user)) for user in users]
            toggles = [asyncio.create_task(task_service.toggle_task(engine, *t)) for t in changed]
            await until_waiting(admin, ALONE + 1)
            link.cut()
        ids = await asyncio.gather(*creates)
        refused = await outcomes(toggles)
        async with connected(direct_database) as admin:
            made = await admin.fetchval(
                "SELECT count(*) FROM tasks WHERE user_id = ANY($1)", [*users]
            )
        await asyncio.gather(*(task_service.toggle_task(engine, *task) for task in tasks))
        await engine.dispose()

    assert len(set(ids)) == 30
    assert made == 30 + len(users)
    assert {type(error) for error in refused} == {OutcomeUnknown}


@pytest.mark.anyio
async def test_reads_whose_connection_breaks_are_sent_again(direct_database: str) -> None:
    with gate(host(direct_database)) as link:
        engine = create_engine(link.url.replace("/postgres?", f"/{name_of(direct_database)}?"), 10)
        tasks = await some_tasks(engine, 30)
        async with connected(direct_database) as admin, held(direct_database, "tasks"):
            reads = [asyncio.create_task(task_service.get_task(engine, *task)) for task in tasks]
            await until_waiting(admin, ALONE + 1)
            link.cut()
        answers = await asyncio.gather(*reads)
        await engine.dispose()

    assert [json.loads(answer)["user_id"] for answer in answers] == [user for user, _ in tasks]


@pytest.mark.usefixtures("is_shared")
@pytest.mark.anyio
async def test_a_slow_statement_is_logged_with_the_number_of_its_requests(
    engine: AsyncEngine, own_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = await some_tasks(engine, 20)
    async with connected(own_database) as locking:
        transaction = locking.transaction()
        await transaction.start()
        await locking.execute("LOCK TABLE tasks")
        reads = [asyncio.create_task(task_service.get_task(engine, *task)) for task in tasks]
        await until_waiting(locking, ALONE + 1)
        await asyncio.sleep(engine_room.SLOW_SECONDS)
        await transaction.rollback()
    await asyncio.gather(*reads)

    lines = [record.getMessage() for record in caplog.records]
    for_requests = [int(found[1]) for line in lines if (found := SLOW_LINE.match(line))]
    assert sorted(for_requests) == [*[1] * ALONE, len(tasks) - ALONE]


# One user, and rows that others hold


async def some_of_one(engine: AsyncEngine, user: str, number: int) -> list[UUID]:
    return [await created(engine, user) for _ in range(number)]


@pytest.mark.anyio
async def test_one_users_writes_of_all_kinds_go_together(
    engine: AsyncEngine, sent: list[Sent], own_database: str
) -> None:
    ids = await some_of_one(engine, "ada", 48)
    update: Any = {"title": "Changed"}
    sent.clear()

    await asyncio.gather(
        *(created(engine, "ada", "New") for _ in range(16)),
        *(task_service.update_task(engine, "ada", task, update) for task in ids[:16]),
        *(task_service.toggle_task(engine, "ada", task) for task in ids[16:32]),
        *(task_service.delete_task(engine, "ada", task) for task in ids[32:]),
    )

    assert sum(each.asked for each in sent) == 64
    assert len(sent) <= 4
    titles = "SELECT count(*) FROM tasks WHERE title = $1"
    async with connected(own_database) as admin:
        assert await admin.fetchval(titles, "New") == 16
        assert await admin.fetchval(titles, "Changed") == 16
        assert await admin.fetchval("SELECT count(*) FROM tasks WHERE completed") == 16
        assert await admin.fetchval("SELECT count(*) FROM tasks") == 48
        assert await admin.fetchval("SELECT seq FROM feeds") == 48 + 64


@pytest.mark.anyio
async def test_many_changes_of_one_task_are_few_transactions_and_all_are_in_the_feed(
    engine: AsyncEngine, own_database: str
) -> None:
    [task] = await some_of_one(engine, "ada", 1)

    toggled = await asyncio.gather(
        *(task_service.toggle_task(engine, "ada", task) for _ in range(64))
    )

    states = [json.loads(answer)["completed"] for answer in toggled]
    assert states == [True, False] * 32
    async with connected(own_database) as admin:
        assert await admin.fetchval("SELECT count(*) FROM changes") == 65
        assert await admin.fetchval("SELECT count(DISTINCT xmin::text) FROM changes") <= 5


@asynccontextmanager
async def holding(database: str, *users: str) -> AsyncIterator[Driver]:
    """Hold all rows of these users by hand, until the block ends."""
    async with connected(database) as hand:
        transaction = hand.transaction()
        await transaction.start()
        await hand.execute("UPDATE tasks SET title = title WHERE user_id = ANY($1)", [*users])
        yield hand
        await transaction.rollback()


WAITING_FOR_ROWS = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    " AND datname = current_database()"
)


async def until_rows_wait(admin: Driver, number: int) -> None:
    while await admin.fetchval(WAITING_FOR_ROWS) < number:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("is_shared")
@pytest.mark.anyio
async def test_one_statement_of_a_user_waits_for_rows_that_others_hold(
    engine: AsyncEngine, own_database: str
) -> None:
    """Each kind of write waits."""
    ids = await some_of_one(engine, "ada", 20)
    update: Any = {"title": "Changed"}
    one = TaskCreate(title="New")
    any_tag = Condition(["none"], wanted=False)

    async with connected(own_database) as admin, holding(own_database, "ada"):
        requests = [
            asyncio.ensure_future(request)
            for request in (
                *(task_service.toggle_task(engine, "ada", task) for task in ids[:8]),
                *(task_service.delete_task(engine, "ada", task) for task in ids[8:10]),
                *(task_service.update_task(engine, "ada", task, update) for task in ids[10:12]),
                *(
                    task_service.update_task(engine, "ada", task, update, any_tag)
                    for task in ids[12:14]
                ),
                *(task_service.create_task(engine, "ada", one) for _ in range(4)),
                *(task_service.create_task(engine, "ada", one, f"key {n}") for n in range(4)),
                *(
                    batch_service.apply_batch(engine, "ada", [{"op": "create", "task": one}])
                    for _ in range(2)
                ),
            )
        ]
        await until_rows_wait(admin, 1)
        for _ in range(20):
            await asyncio.sleep(0.02)
            assert await admin.fetchval(WAITING_FOR_ROWS) == 1
        assert not any(request.done() for request in requests)
    answers = await outcomes(requests)

    assert not [answer for answer in answers if isinstance(answer, Exception)]
    pool = engine_room._pool(engine)
    assert (pool.writes.room, pool.writes.under_way) == (2, 0)


@pytest.mark.anyio
async def test_writes_that_waited_see_what_the_other_transaction_committed(
    engine: AsyncEngine, sent: list[Sent], own_database: str
) -> None:
    """The snapshot of the requests' statement is older than the commit."""
    ids = await some_of_one(engine, "ada", 12)
    await asyncio.gather(*(task_service.toggle_task(engine, "ada", task) for task in ids))
    sent.clear()

    async with connected(own_database) as admin, connected(own_database) as hand:
        transaction = hand.transaction()
        await transaction.start()
        await hand.execute("UPDATE tasks SET title = 'By hand'")
        await hand.execute("DELETE FROM tasks WHERE id = $1", ids[11])
        requests = [
            *(asyncio.ensure_future(task_service.toggle_task(engine, "ada", t)) for t in ids[:5]),
            *(asyncio.ensure_future(task_service.delete_task(engine, "ada", t)) for t in ids[8:]),
            *(asyncio.ensure_future(task_service.toggle_task(engine, "ada", t)) for t in ids[:5]),
        ]
        await until_rows_wait(admin, 1)
        assert sent[0].asked > 5
        await transaction.commit()
    answers = await outcomes(requests)

    changed = [json.loads(answer) for answer in answers[:5] + answers[9:]]
    assert [each["title"] for each in changed] == ["By hand"] * 10
    assert [each["completed"] for each in changed] == [False] * 5 + [True] * 5
    assert answers[5:8] == [None] * 3
    assert isinstance(answers[8], NotFound)


@pytest.mark.usefixtures("is_shared")
@pytest.mark.anyio
async def test_held_users_leave_half_of_the_connections_to_other_users(
    engine: AsyncEngine, own_database: str
) -> None:
    tasks = await some_tasks(engine, 20)
    others = [("other", task) for task in await some_of_one(engine, "other", 20)]

    async with (
        connected(own_database) as admin,
        holding(own_database, *(user for user, _ in tasks)),
    ):
        held = [
            asyncio.create_task(task_service.toggle_task(engine, *task))
            for task in tasks
            for _ in "12"
        ]
        await until_rows_wait(admin, 2)
        for _ in range(5):
            await asyncio.gather(
                *(task_service.toggle_task(engine, *task) for task in others),
                *(task_service.get_task(engine, *task) for task in others),
                *(created(engine, "other") for _ in range(20)),
            )
            assert await admin.fetchval(WAITING_FOR_ROWS) == 2
        assert not any(request.done() for request in held)
    answers = await asyncio.gather(*held)

    states = [json.loads(answer)["completed"] for answer in answers]
    assert (states.count(True), states.count(False)) == (20, 20)


@pytest.mark.anyio
async def test_a_request_waits_its_own_time_for_a_connection() -> None:
    free = asyncio.Event()

    async def together(choose: Callable[[], Group]) -> Answers:
        try:
            await asyncio.wait_for(free.wait(), 0.3)
        except TimeoutError:
            raise NoConnectionFree from None
        return {turn.key: [b""] for turn in choose().turns}

    queue = Queue(together, seconds=0.3, room=0)

    def ask(number: int) -> asyncio.Task[bytes | None]:
        return asyncio.create_task(queue.answer(ANY, ("ada", number), {}, at_once))

    early = [ask(1), ask(2)]
    await asyncio.sleep(0.2)
    late = ask(3)
    refused = await outcomes(early)
    assert not late.done()
    free.set()

    assert [*map(repr, refused)] == ["DatabaseUnavailable('no connection in time')"] * 2
    assert await late == b""
    assert not queue.waiting


@pytest.mark.anyio
async def test_a_statement_over_several_owners_changes_each_row_once() -> None:
    groups: list[tuple[str, list[object]]] = []

    async def together(choose: Callable[[], Group]) -> Answers:
        turns, how = choose()
        groups.append((how, [turn.key for turn in turns]))
        return {turn.key: [b""] for turn in turns}

    queue = Queue(together, seconds=10, room=2, is_busy=True)
    keys = [("ada", 1), ("ada", 2), ("ada", 1), ("bob", 1)]
    await asyncio.gather(*(queue.answer(ANY, key, {}, at_once) for key in keys))

    assert groups == [("skip", [("ada", 1), ("ada", 2), ("bob", 1)]), ("wait", [("ada", 1)])]


@pytest.mark.anyio
async def test_an_owner_whose_rows_others_hold_goes_before_owners_who_came_later() -> None:
    groups: list[tuple[str, list[object]]] = []
    have_come = asyncio.Event()

    async def together(choose: Callable[[], Group]) -> Answers:
        if groups:
            await have_come.wait()
        turns, how = choose()
        groups.append((how, [turn.key[0] for turn in turns]))
        return {turn.key: [b""] for turn in turns if how == "wait" or turn.key[0] != "held"}

    queue = Queue(together, seconds=10, room=2, is_busy=True)

    def ask(owner: str) -> asyncio.Task[bytes | None]:
        change = Statement("", repeatable=False)
        return asyncio.create_task(queue.answer(change, (owner, 1), {}, at_once))

    held, first = ask("held"), ask("ada")
    await first
    later = [ask("bob"), ask("cleo")]
    await asyncio.sleep(0)
    have_come.set()
    await asyncio.gather(held, *later)

    assert groups == [("skip", ["held", "ada"]), ("wait", ["held"]), ("skip", ["bob", "cleo"])]


@pytest.mark.usefixtures("is_shared")
@pytest.mark.anyio
async def test_a_deadlock_with_a_transaction_by_hand_is_sent_again(
    engine: AsyncEngine, own_database: str
) -> None:
    """The transaction by hand has locked one task, and waits for the task of the request."""
    update: Any = {"title": "Changed"}
    any_tag = Condition(["none"], wanted=False)
    requests: list[Callable[[str, UUID], Awaitable[object]]] = [
        lambda user, task: task_service.update_task(engine, user, task, update),
        lambda user, task: task_service.update_task(engine, user, task, update, any_tag),
        lambda user, task: task_service.toggle_task(engine, user, task),
        lambda user, task: task_service.toggle_task(engine, user, task, any_tag),
        lambda user, task: task_service.delete_task(engine, user, task),
        lambda user, task: task_service.delete_task(engine, user, task, any_tag),
        lambda user, task: batch_service.apply_batch(engine, user, [{"op": "delete", "id": task}]),
        lambda user, task: batch_service.apply_batch(
            engine, user, [{"op": "delete", "id": task}], "key"
        ),
    ]

    async def beside_a_hand(
        number: int, request: Callable[[str, UUID], Awaitable[object]], admin: Driver
    ) -> None:
        user = f"user-{number}"
        first, second = await some_of_one(engine, user, 2)
        change = "UPDATE tasks SET title = 'By hand' WHERE user_id = $1 AND id = $2"
        async with connected(own_database) as hand:
            transaction = hand.transaction()
            await transaction.start()
            # To solve the deadlock, PostgreSQL has to end the other transaction.
            await hand.execute("SET LOCAL deadlock_timeout = '60s'")
            await hand.execute(change, user, first)
            asked = asyncio.ensure_future(request(user, second))
            await until_rows_wait(admin, 1)
            await hand.execute(change, user, second)
            await transaction.commit()
            await asked

    async with connected(own_database) as admin:
        before = await admin.fetchval(DEADLOCKS)
        for number, request in enumerate(requests):
            await beside_a_hand(number, request, admin)
        while await admin.fetchval(DEADLOCKS) < before + len(requests):  # noqa: ASYNC110 - counted late
            await asyncio.sleep(0.05)


DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.mark.usefixtures("is_shared")
@pytest.mark.anyio
async def test_a_lock_timeout_counts_as_a_database_that_is_unavailable(
    engine: AsyncEngine, own_database: str
) -> None:
    ids = await some_of_one(engine, "ada", 20)
    async with connected(own_database) as admin:
        await admin.execute(f"ALTER DATABASE {name_of(own_database)} SET lock_timeout = '50ms'")
    impatient = create_engine(own_database, pool_size=5)

    async with holding(own_database, "ada"):
        refused = await outcomes(task_service.toggle_task(impatient, "ada", task) for task in ids)
        bobs = await asyncio.gather(*(created(impatient, "bob") for _ in range(20)))
    toggled = await asyncio.gather(
        *(task_service.toggle_task(impatient, "ada", task) for task in ids)
    )
    await impatient.dispose()

    assert {type(error) for error in refused} == {LockTimedOut}
    assert len(set(bobs)) == 20
    assert all(json.loads(answer)["completed"] for answer in toggled)


# New users


@pytest.mark.anyio
async def test_first_tasks_of_new_users_go_together(
    engine: AsyncEngine, sent: list[Sent], own_database: str
) -> None:
    await asyncio.gather(*(created(engine, f"new-{n}") for n in range(64)))

    assert len(sent) <= ALONE + 4
    async with connected(own_database) as admin:
        assert await admin.fetchval("SELECT count(*) FROM feeds WHERE seq = 1") == 64


@pytest.mark.anyio
async def test_processes_that_make_the_same_new_users_do_not_deadlock(
    engine: AsyncEngine, own_database: str
) -> None:
    other = create_engine(own_database, pool_size=5)
    users = [f"new-{n}" for n in range(60)]

    async def create_in(engine: AsyncEngine, order: list[str]) -> None:
        for user in order[:20], order[20:40], order[40:]:
            await asyncio.gather(*(created(engine, each) for each in user))

    await asyncio.gather(create_in(engine, users), create_in(other, users[::-1]))
    await other.dispose()

    async with connected(own_database) as admin:
        assert await admin.fetchval("SELECT count(*) FROM feeds WHERE seq = 2") == 60
        assert await admin.fetchval(DEADLOCKS) == 0


@pytest.mark.usefixtures("is_shared")
@pytest.mark.anyio
async def test_a_new_user_who_is_held_delays_no_other_new_user(
    engine: AsyncEngine, own_database: str
) -> None:
    async with connected(own_database) as hand:
        transaction = hand.transaction()
        await transaction.start()
        await hand.execute("INSERT INTO feeds VALUES ('new-20', 0)")
        creates = [asyncio.create_task(created(engine, f"new-{n}")) for n in range(40)]
        await asyncio.gather(*(create for create in creates if create is not creates[20]))
        assert not creates[20].done()
        await transaction.rollback()
    await creates[20]


SLOW_LINE = re.compile(
    r"A slow statement took [1-9]\d*\.\d s for (\d+) requests: .* FROM tasks WHERE"
)


@asynccontextmanager
async def held(database: str, table: str) -> AsyncIterator[None]:
    """Let statements wait for a table.

    For `changes`, a statement waits in PostgreSQL, after the service has sent it.
    """
    async with connected(database) as holder, holder.transaction():
        await holder.execute(f"LOCK TABLE {table}")
        yield


async def until_waiting(admin: "asyncpg.Connection[asyncpg.Record]", number: int) -> None:
    while await admin.fetchval(WAITING) < number:  # noqa: ASYNC110 - PostgreSQL has no event for it
        await asyncio.sleep(0.01)
