"""Every time in an answer has one form, which clients in many languages read."""

import json
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Column, DateTime, MetaData, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine

from src.framework.condition import Condition
from src.framework.sql import json_times
from src.framework.sql.etag import etag
from src.framework.sql.json_times import as_postgresql_writes, with_six_digits
from src.framework.sql.row_end import RowEnd, row_end
from src.framework.sql.statements import select_list
from src.schemas.task import TaskCreate
from src.schemas.task_listing import TaskListing
from src.services import feed_service, task_service
from tests.conftest import execute, tool
from tests.serving import NO_TLS, Server
from tests.streams import streaming
from tests.tasks import create, listed, task_path, tasks_path

FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00")

TIMES = [
    "0001-01-01T00:00:00.000001+00:00",
    "1969-12-31T23:59:59.999990+00:00",
    "2026-12-24T00:00:00.000000+00:00",
    "2026-12-24T09:30:00.000000+00:00",
    "2026-12-24T09:30:00.100000+00:00",
    "2026-12-24T09:30:00.120000+00:00",
    "2026-12-24T09:30:00.123000+00:00",
    "2026-12-24T09:30:00.123400+00:00",
    "2026-12-24T09:30:00.123450+00:00",
    "2026-12-24T09:30:00.123456+00:00",
    "2026-12-24T09:30:00.000007+00:00",
    "9999-12-31T23:59:59.999998+00:00",
]
"""Times in the one form, with every number of zeros at the end."""


NAMES = {"completed_at", "created_at", "due_date", "updated_at"}


def times_in(answer: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    if isinstance(answer, list):
        for each in answer:
            yield from times_in(each)
    elif isinstance(answer, dict):
        for name, value in answer.items():
            if name in NAMES and value is not None:
                yield value
            yield from times_in(value)


def assert_one_form(answer: Any, count: int) -> None:  # noqa: ANN401 - any JSON
    times = [*times_in(answer)]
    assert len(times) == count
    assert [time for time in times if not FORM.fullmatch(time)] == []


def test_every_answer_has_its_times_in_one_form(api: httpx.Client, user: str) -> None:
    """Of 300 creates, the clock gives some a time that ends in zeros."""
    path = tasks_path(user)
    since = api.get(f"{path}/changes").json()["next"]
    creates = [
        {"op": "create", "task": {"title": "Buy milk", "due_date": TIMES[n % len(TIMES)]}}
        for n in range(100)
    ]
    for key in ('"first"', '"second"', '"third"'):
        batch = api.post(
            f"{path}/batch", json={"operations": creates}, headers={"Idempotency-Key": key}
        )
        again = api.post(
            f"{path}/batch", json={"operations": creates}, headers={"Idempotency-Key": key}
        )
        assert_one_form(batch.json(), 300)
        assert again.content == batch.content
    tasks = listed(api, user)
    assert [task["due_date"] for task in tasks[:100]] == [TIMES[n % len(TIMES)] for n in range(100)]
    assert_one_form(tasks, 900)
    assert_one_form(api.get(path, params={"page": 2, "page_size": 50}).json(), 150)
    assert_one_form(api.get(path, params={"sort": "due_date", "q": "milk"}).json(), 900)
    assert_one_form(api.get(f"{path}/changes", params={"since": since}).json(), 900)


def test_a_task_has_its_times_in_one_form_after_every_change(api: httpx.Client, user: str) -> None:
    for due in TIMES:
        key = {"Idempotency-Key": f'"{due}"'}
        made = api.post(tasks_path(user), json={"title": "Buy milk", "due_date": due}, headers=key)
        task = made.json()
        assert task["due_date"] == due
        again = api.post(tasks_path(user), json={"title": "Buy milk", "due_date": due}, headers=key)
        assert again.content == made.content
        for answer, count in (
            (api.put(task_path(task), json={"title": "Buy bread"}), 3),
            (api.patch(task_path(task), json={"due_date": due}), 3),
            (api.patch(f"{task_path(task)}/complete"), 4),
            (api.get(task_path(task)), 4),
        ):
            assert_one_form(answer.json(), count)
            assert answer.json()["due_date"] == due
        operation = {"op": "update", "id": task["id"], "if_match": answer.headers["etag"]}
        batch = {"operations": [operation | {"task": {"title": "Buy oats"}}]}
        assert api.post(f"{tasks_path(user)}/batch", json=batch).status_code == 200


@pytest.mark.anyio
async def test_a_stream_has_its_times_in_one_form(server: Server, user: str) -> None:
    async with httpx.AsyncClient(base_url=server.url, verify=NO_TLS) as client:
        since = (await client.get(f"{tasks_path(user)}/changes")).json()["next"]
        await client.post(tasks_path(user), json={"title": "Buy milk", "due_date": "2026-12-24"})
        async with streaming(client, user, since) as stream:
            event = await stream.event()
    assert_one_form(event.data, 3)


@pytest.mark.anyio
@pytest.mark.parametrize("time", TIMES)
async def test_times_written_by_hand_have_the_form_and_the_etags_of_their_rows_hold(
    engine: AsyncEngine, own_database: str, time: str
) -> None:
    position = (await feed_service.changes(engine, "ada", None, 1)).position
    made = await task_service.create_task(engine, "ada", TaskCreate(title="Buy milk"))
    task_id = UUID(json.loads(made)["id"])
    await execute(
        own_database,
        f"UPDATE tasks SET created_at = '{time}', updated_at = '{time}', due_date = '{time}', "
        f"completed = true, completed_at = '{time}'",
    )

    row = await task_service.get_task(engine, "ada", task_id)
    page = await task_service.list_tasks(engine, "ada", TaskListing(), counted=True)
    changes = await feed_service.changes(engine, "ada", position, 10)

    assert [*times_in(json.loads(row))] == [time] * 4
    assert b"".join(page.rows.pieces()) == b"[%b]" % row
    assert b"[%b]" % row in b"".join(changes.content.pieces())
    same = Condition([etag(row)], wanted=True)
    changed = await task_service.update_task(engine, "ada", task_id, {"title": "Buy milk"}, same)
    assert json.loads(changed)["created_at"] == time


@pytest.mark.anyio
async def test_the_form_of_a_time_is_the_form_that_python_writes(
    engine: AsyncEngine, own_database: str
) -> None:
    await execute(
        own_database,
        """
        INSERT INTO tasks (id, user_id, title, completed, created_at, updated_at, due_date)
        SELECT gen_random_uuid(), 'ada', 'Buy milk', false, at, at, at
        FROM generate_series(
            timestamptz '0001-01-01 00:00:00.000001+00', '9999-12-31 23:59:59+00',
            interval '3651 days 17:13:57.1234'
        ) AS at
        """,
    )
    page = await task_service.list_tasks(engine, "ada", TaskListing())
    times = [*times_in(json.loads(b"".join(page.rows.pieces())))]

    step = timedelta(days=3651, hours=17, minutes=13, seconds=57, microseconds=123_400)
    first = datetime(1, 1, 1, microsecond=1, tzinfo=UTC)
    assert len(times) == 3 * 1001
    assert times == [
        (first + n // 3 * step).isoformat(timespec="microseconds") for n in range(len(times))
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("time", ["infinity", "-infinity", "0044-03-15T12:00:00+00:00 BC"])
async def test_times_that_no_client_can_send_keep_the_form_of_postgresql(
    engine: AsyncEngine, own_database: str, time: str
) -> None:
    await task_service.create_task(engine, "ada", TaskCreate(title="Buy milk"))
    await execute(own_database, f"UPDATE tasks SET due_date = '{time}', created_at = '{time}'")

    page = await task_service.list_tasks(engine, "ada", TaskListing())

    [task] = json.loads(b"".join(page.rows.pieces()))
    assert [task["due_date"], task["created_at"]] == [time, time]
    assert FORM.fullmatch(task["updated_at"])


TRICKS = [
    "2026-12-24T09:30:00+00:00",
    '","due_date":"2026-12-24T09:30:00+00:00","x":"',
    '"due_date":"2026-12-24T09:30:00+00:00"',
    '\\","created_at":"2026-12-24T09:30:00+00:00","updated_at":"2026-12-24T09:30:00+00:00"}',
    "_at",
    "due_date",
]


def test_texts_that_look_like_times_stay_unchanged(api: httpx.Client, user: str) -> None:
    for text in TRICKS:
        tags = [text.replace(",", ";")[:50], "created_at", ":"]
        task = create(api, user, title=text, description=text, tags=tags, due_date="2026-12-24")
        assert [task["title"], task["description"], task["tags"]] == [text, text, tags]
        assert_one_form(task, 3)
        etag = api.get(task_path(task)).headers["etag"]
        changed = api.patch(task_path(task), json={"completed": True}, headers={"If-Match": etag})
        assert changed.status_code == 200


@pytest.mark.parametrize("due_date", ["null", *(f'"{time}"' for time in TIMES)])
@pytest.mark.parametrize("updated", TIMES)
def test_the_form_of_a_row_can_be_changed_back(due_date: str, updated: str) -> None:
    for created in TIMES:
        full = (
            f'{{"due_date":{due_date},"created_at":"{created}","updated_at":"{updated}"}}'.encode()
        )
        short = re.sub(rb"(\.[0-9]*?)0+\+", rb"\1+", full).replace(b".+", b"+")
        assert with_six_digits(short) == full
        assert as_postgresql_writes(full) == short


LIST = RowEnd(["completed_at", "due_date"], ["created_at", "updated_at"], "further")


def sent_row(*times: str | None, further: str = "null") -> bytes:
    """A row as PostgreSQL sends the row, but with six digits in each time."""
    return row_of(*times, further=f',"further":{further}')


def row_of(*times: str | None, further: str = "") -> bytes:
    """A row as the service answers the row."""
    names = ("completed_at", "due_date", "created_at", "updated_at")
    pairs = [
        f'"{name}":{json.dumps(time)}'
        for name, time in zip(names[-len(times) :], times, strict=True)
    ]
    return f'{{"title":"Buy milk",{",".join(pairs)}{further}}}'.encode()


def test_rows_of_a_list_have_the_form_whichever_times_need_zeros() -> None:
    every = [*product([None, *TIMES], [None, *TIMES], TIMES[::2], TIMES[1::2])]
    sent = [as_postgresql_writes(sent_row(*times)) for times in every]

    assert LIST.completed(sent) == [row_of(*times) for times in every]


WHOLE = TIMES[-1]


def test_rows_that_need_no_zeros_are_not_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(json_times, "_NEEDS_ZEROS", None)
    ends = [time for time in TIMES if not time.endswith("0+00:00")]
    every = [(first, None, *times) for first in [None, *ends] for times in product(ends, ends)]

    assert len(every) == 5 * 4 * 4
    assert LIST.completed([sent_row(*times) for times in every]) == [
        row_of(*times) for times in every
    ]


@pytest.mark.anyio
async def test_a_list_of_tasks_without_dates_is_not_searched(
    engine: AsyncEngine, own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for title in ("Buy milk", "Buy bread"):
        await task_service.create_task(engine, "ada", TaskCreate(title=title))
    await execute(own_database, f"UPDATE tasks SET created_at = '{WHOLE}', updated_at = '{WHOLE}'")
    monkeypatch.setattr(json_times, "_NEEDS_ZEROS", None)

    for listing in (TaskListing(), TaskListing(limit="1")):
        page = await task_service.list_tasks(engine, "ada", listing)
        assert {*times_in(json.loads(b"".join(page.rows.pieces())))} == {WHOLE}


def test_a_single_row_that_needs_no_zeros_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_times, "_NEEDS_ZEROS", None)
    alone = [task_service.GET, task_service.CREATE.at_once, task_service.toggle_statement()]
    shared = [each.shared(frozenset([each]), "skip") for each in alone if each.shared]
    every = [(first, None, WHOLE, WHOLE) for first in (None, WHOLE)]
    sent = [sent_row(*times) for times in every]

    ends = [each.end for each in [*alone, *shared]]

    assert [end and end.completed(sent) for end in ends] == [
        [row_of(*times) for times in every]
    ] * 6


def test_a_member_that_looks_like_the_end_of_a_row_hides_no_time() -> None:
    short = "2026-12-24T09:30:00+00:00"
    looks_whole = row_of(None, None, WHOLE, WHOLE)[:-2].decode().replace('"', "'")
    further = f'"note": "{looks_whole}"'
    full = row_of(None, None, WHOLE, WHOLE, further=f",{further}")
    row = row_of(None, None, WHOLE, short, further=f",{further}")
    sent = [sent_row(None, None, WHOLE, time, further=f"{{{further}}}") for time in (short, WHOLE)]

    assert LIST.completed(sent) == [row.replace(b"30:00+", b"30:00.000000+"), full]


def test_further_members_stand_beside_the_columns_whatever_they_look_like() -> None:
    for further in (
        '"further": null',
        '"a": {"b": 1,"further":{"c": 2}}',
        '"x": "\\",\\"further\\":null}"',
    ):
        sent = sent_row(None, WHOLE, WHOLE, WHOLE, further=f"{{{further}}}")

        assert LIST.completed([sent]) == [row_of(None, WHOLE, WHOLE, WHOLE, further=f",{further}")]


def test_a_row_without_any_further_member_has_no_place_for_members() -> None:
    for further in ("null", "{}"):
        sent = sent_row(None, WHOLE, None, WHOLE, further=further)

        assert LIST.completed([sent]) == [row_of(None, WHOLE, None, WHOLE)]


def test_further_members_that_are_not_the_last_column_are_refused() -> None:
    columns = [Column("further", JSONB), Column("updated_at", DateTime(timezone=True))]

    with pytest.raises(TypeError, match="further must be the last column"):
        row_end(columns)


def test_short_rows_are_searched_too() -> None:
    row = row_of("2026-12-24T09:30:00+00:00")

    assert LIST.completed([b"100", row]) == [
        b"100",
        row.replace(b"30:00+", b"30:00.000000+"),
    ]


def test_a_time_apart_from_the_other_times_has_six_digits() -> None:
    texts = [Column(name, Text, nullable=False) for name in ("user_id", "id", "body")]
    remind, *others = [
        Column(name, DateTime(timezone=True), nullable=False)
        for name in ("remind_at", "created_at", "updated_at")
    ]
    table = Table("notes", MetaData(), remind, *texts, *others)
    row = (
        f'{{"remind_at":"2026-12-24T09:30:00+00:00","user_id":"ada","id":"1","body":"{WHOLE}",'
        f'"created_at":"{WHOLE}","updated_at":"{WHOLE}"}}'
    ).encode()

    end = select_list(table, "id", frozenset(), {}).end

    assert end is not None
    assert end.completed([row]) == [row.replace(b"30:00+", b"30:00.000000+")]


def test_a_text_before_the_last_two_times_stays_unchanged() -> None:
    row = (
        f'{{"body":"2026-12-24T09:30:00+00:00","created_at":"{TIMES[-1]}",'
        f'"updated_at":"{TIMES[-1]}"}}'
    ).encode()

    assert with_six_digits(row) == row


READERS = {
    "python": (
        "py",
        """
import datetime, sys
for line in sys.stdin:
    time = datetime.datetime.fromisoformat(line.strip())
    since = time - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    print(since // datetime.timedelta(milliseconds=1))
""",
    ),
    "node": (
        "js",
        """
const lines = require("fs").readFileSync(0, "utf8").trim().split("\\n");
for (const line of lines) console.log(new Date(line).getTime());
""",
    ),
    "go": (
        "go",
        """
package main

import ("bufio"; "fmt"; "os"; "time")

func main() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		at, err := time.Parse(time.RFC3339Nano, lines.Text())
		if err != nil { panic(err) }
		fmt.Println(at.UnixMilli())
	}
}
""",
    ),
}


@pytest.mark.parametrize("language", ["python3.9", "python3.10", "node", "go"])
def test_other_languages_read_the_form_of_a_time(tmp_path: Path, language: str) -> None:
    """Each language has a function for RFC 3339: fromisoformat, Date and time.RFC3339Nano."""
    program, arguments = tool(language), ["run"] if language == "go" else []
    suffix, source = READERS["python" if language.startswith("python") else language]
    (file := tmp_path / f"read.{suffix}").write_text(source)
    read = subprocess.run(
        [program, *arguments, file],
        input="\n".join(TIMES),
        capture_output=True,
        text=True,
        check=False,
    )
    if "pyenv" in read.stderr:  # pyenv has the command also for a version that nobody has chosen
        pytest.skip(f"needs {language}")
    assert read.returncode == 0, read.stderr
    milliseconds = [
        (datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=UTC))
        // timedelta(milliseconds=1)
        for time in TIMES
    ]
    assert [*map(int, read.stdout.split())] == milliseconds
