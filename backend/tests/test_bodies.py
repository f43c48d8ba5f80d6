"""The service limits the time and memory of bodies and heads before it reads any of them."""

import asyncio
import gc
import json
from contextlib import suppress
from pathlib import Path
from time import thread_time
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from src.config import Settings
from src.framework.long_numbers import LONG, MOST_DIGITS, LongNumber, json_text, read_json
from src.framework.sql.engine import create_engine
from src.framework.turns import Turns
from src.framework.web import bodies
from src.framework.web.bodies import MIB, MOST_VALUES, has_too_many_values, hold, release
from src.framework.web.routing import parsed_body
from src.main import create_app
from src.schemas.batch import Batch
from src.services import task_service
from tests.connections import connected, request
from tests.serving import FRONTEND_ORIGIN, Server, serving, with_limits
from tests.tasks import assert_problem, create, listed, task_path, tasks_path
from tests.test_fastapi import calling
from tests.test_properties import storable, thorough

JSON = {"Content-Type": "application/json"}
LATER = "Too many large bodies are arriving; try again in a moment"

# Values

TOO_MANY = {
    "nested lists": b"[" * 150 + b"[]," * MOST_VALUES + b"[]" + b"]" * 150,
    "objects": b"[" + b"{}," * MOST_VALUES + b"{}]",
    "numbers": b"[" + b"1," * MOST_VALUES + b"1]",
    "texts": b"[" + b'"",' * MOST_VALUES + b'""]',
    "members": b"{" + b",".join(b'"%x":1' % n for n in range(MOST_VALUES + 1)) + b"}",
}


@pytest.mark.parametrize("value", TOO_MANY.values(), ids=TOO_MANY)
def test_a_body_with_more_values_than_any_legal_body_is_not_read(
    api: httpx.Client, user: str, value: bytes
) -> None:
    task = create(api, user)
    operation = b'{"op":"create","task":{"title":"Buy rice","more":%b}}' % value
    sent = {
        ("POST", tasks_path(user)): b'{"title":"Buy rice","more":%b}' % value,
        ("PUT", task_path(task)): b'{"title":"Buy rice","more":%b}' % value,
        ("PATCH", f"{task_path(task)}/complete"): b'{"completed":true,"more":%b}' % value,
        ("POST", f"{tasks_path(user)}/batch"): b'{"operations":[%b]}' % operation,
    }

    for (method, path), body in sent.items():
        answer = api.request(method, path, content=body, headers=JSON)
        assert_problem(answer, 422, "body: must have at most 10000 values")
    assert listed(api, user) == [task]


def test_a_text_may_look_like_values(api: httpx.Client, user: str) -> None:
    text = '[{,"\\' * 1000
    operations = [
        {"op": "create", "task": {"title": f"Task {n}", "description": text}} for n in range(20)
    ]

    answer = api.post(f"{tasks_path(user)}/batch", json={"operations": operations})

    assert answer.status_code == 200
    assert [task["description"] for task in listed(api, user)] == [text] * 20


values = st.recursive(
    st.none() | st.integers() | st.text('[]{},"\\\n:a'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('{,"\\'), inner, max_size=4)
    ),
    max_leaves=20,
)


def count(value: object) -> int:
    """Count the commas, brackets and braces outside of texts."""
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(0, len(value) - 1) + sum(map(count, inner))


@given(value=values, most=st.integers(1, 20))
def test_a_body_has_as_many_values_as_a_parser_counts(value: object, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "MOST_VALUES", most)

        assert has_too_many_values(json.dumps(value).encode()) == (count(value) > most)


# Numbers

numbers = st.integers() | st.builds(
    lambda digits, sign: sign * (10**digits + 7),
    st.integers(1, 4000),  # Python's own parser refuses numbers with more digits
    st.sampled_from([-1, 1]),
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(storable),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(storable), inner),
    max_leaves=10,
)


def as_ours(value: object) -> object:
    """Replace each number of more than MOST_DIGITS digits with a LongNumber."""
    if isinstance(value, dict):
        return {name: as_ours(each) for name, each in value.items()}
    if isinstance(value, list):
        return [*map(as_ours, value)]
    is_long = type(value) is int and len(str(value)) > MOST_DIGITS
    return LongNumber(str(value)) if is_long else value


@settings(thorough)
@given(value=json_values, indent=st.none() | st.integers(0, 3))
def test_numbers_are_read_and_written_at_any_length(value: object, indent: int | None) -> None:
    text = json.dumps([value, 10**LONG], indent=indent)

    got = read_json(text.encode())

    assert got == as_ours([value, 10**LONG])
    assert json.loads(json_text(got)) == [value, 10**LONG]
    assert read_json(json.dumps(value).encode()) in (value, as_ours(value))


@pytest.mark.parametrize("place", range(16))
def test_a_number_of_128_digits_is_seen_at_any_place(place: int) -> None:
    number = "1" * 128

    assert read_json((" " * place + number).encode()) == LongNumber(number)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "NaN",
            "[Infinity]",
            "[-Infinity]",
            '"\\ud800"',
            '{"\\udfff": 1}',
            "01",
            "+1",
            "1.",
            ".5",
        ),
        *('"\0"', "{1: 1}", "[" * 300 + "]" * 300, "[" * 5000 + "]" * 5000, "1 1", "[1,]", "'1'"),
    ],
)
def test_json_with_a_long_number_is_read_as_strictly_as_other_json(text: str) -> None:
    for sent in (f"[{text}, 1]", f"[{text}, {'1' * LONG}]", f"[{text}, {'1' * 5000}]"):
        with pytest.raises(ValueError, match=r"\w"):
            read_json(sent.encode())
    with pytest.raises(ValueError, match="utf-8"):
        read_json(b'["\xff", %b]' % (b"1" * LONG))


# Time

ALMOST_3_MIB = 3 * MIB - 1000
TASK = b'{"op":"create","task":{"title":"x",%b}}'
LARGE = {
    "a number": TASK % (b'"it":%b' % (b"1" * ALMOST_3_MIB)),
    "numbers of 4,300 digits": TASK % (b'"it":[%b1]' % (b"%b," % (b"1" * 4300) * 725)),
    "tasks with such numbers": b",".join(
        [TASK % (b'"it":[%b1]' % ((b"1" * 4300 + b",") * 3))] * 100
    ),
    "the longest numbers": b",".join([TASK % (b'"it":%b' % (b"1" * 16_000))] * 100),
    "what looks like a NUL": TASK % (b'"it":"%b"' % (rb"\\u0000" * (ALMOST_3_MIB // 7))),
    "backslashes and a NUL": TASK % (rb'"it":"%b\u0000"' % (rb"\\" * (ALMOST_3_MIB // 2))),
    "a name of marks": TASK % (b'"%b":1' % (b"a-" * (ALMOST_3_MIB // 2))),
    "names of marks": TASK % b",".join(b'"%b%d":1' % (b"n-" * 140, n) for n in range(9000)),
    "a word of marks": TASK % (b'"status":"%b"' % (b"a-" * (ALMOST_3_MIB // 2))),
    "tags in a text": TASK % (b'"tags":"[%b0]"' % (b"[]," * (ALMOST_3_MIB // 3))),
}


@pytest.mark.parametrize("operations", LARGE.values(), ids=LARGE)
def test_no_body_takes_long_to_read(operations: bytes) -> None:
    """Each of these bodies once took 0.12 s to 1 s, and now takes 0.05 s or less."""
    body = b'{"operations":[%b]}' % operations
    took = []
    for _ in range(5):
        began = thread_time()
        sent = parsed_body(body, "application/json", "POST")
        with suppress(ValidationError):
            Batch.model_validate(sent)
        took.append(thread_time() - began)

    assert len(body) <= 3 * MIB
    assert min(took) < 0.1


# Memory


@pytest.mark.anyio
async def test_parsed_members_without_a_field_are_freed_before_the_endpoint_waits(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = [7, 77, 777]
    kept: list[object] = []

    async def create_task(*_: Any) -> bytes:  # noqa: ANN401 - as it has them
        gc.collect()
        kept.extend(each for each in gc.get_objects() if type(each) is list and each == marker)
        return b'{"id":"x"}'

    monkeypatch.setattr(task_service, "create_task", create_task)
    app = create_app(Settings(auth_mode="open", log_level="warning"))
    app.engine = create_engine("postgresql://nobody@localhost/nowhere", pool_size=1)
    body = json.dumps({"title": "Buy milk", "more": marker})
    async with calling(app) as api:
        answer = await api.post(tasks_path(user), content=body, headers=JSON)

    assert answer.status_code == 201
    assert [each for each in kept if each is not marker] == []


@pytest.mark.anyio
async def test_large_bodies_are_read_one_at_a_time_and_users_take_turns() -> None:
    read: list[str] = []

    async def arrive(user: str, size: int) -> None:
        if size:
            await bodies.turn_to_work({"path_params": {"user_id": user}})
        read.append(f"{user} {size}")

    async with asyncio.TaskGroup() as group:
        for user, size in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 0), ("c", 5)]:
            group.create_task(arrive(user, size))

    assert read == ["a 1", "c 0", "a 2", "b 4", "c 5", "a 3"]


@pytest.mark.anyio
async def test_after_work_the_next_turn_waits_three_times_as_long_as_the_work_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns, later = Turns(1), []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", lambda seconds, _: later.append(seconds))
    clock = iter([10.0, 10.5])
    monkeypatch.setattr("src.framework.turns.perf_counter", lambda: next(clock))

    await turns.work("ada", 3)
    await asyncio.sleep(0)

    assert (later, turns.free) == ([1.5], 0)


def test_an_error_names_only_the_first_wrong_tag_of_each_task(api: httpx.Client, user: str) -> None:
    operations = [{"op": "create", "task": {"title": "Buy milk", "tags": ["home", *[""] * 19]}}]

    answer = api.post(f"{tasks_path(user)}/batch", json={"operations": operations * 100})

    assert_problem(answer, 422)
    assert [error["loc"] for error in answer.json()["errors"]] == [
        ["body", "operations", number, "task", "tags", 1] for number in range(100)
    ]


# Memory


def test_the_bodies_of_one_user_and_of_all_users_have_a_budget() -> None:
    def scope(user: str) -> Any:  # noqa: ANN401 - of ASGI
        return {"path_params": {"user_id": user}}

    users = bodies.MOST_OF_ALL // bodies.MOST_OF_USER
    first, others = scope("ada"), [scope(f"user-{n}") for n in range(users - 1)]
    hold(first, bodies.MOST_OF_USER)
    with pytest.raises(HTTPException, match="429"):
        hold(scope("ada"), 1)
    for other in others:
        hold(other, bodies.MOST_OF_USER)
    with pytest.raises(HTTPException, match="503"):
        hold(scope("another"), 1)
    for each in [first, *others]:
        release(each)
        release(each)  # a second release changes nothing

    assert bodies.held == {}


@pytest.mark.parametrize("app", ["src.main:app", "tests.plain:app"])
def test_slow_bodies_beyond_the_budget_are_refused_until_other_bodies_end(
    postgres: str, user: str, tmp_path: Path, app: str
) -> None:
    command = with_limits(app, bodies_MOST_OF_USER=150_000)
    body = json.dumps({"title": "Buy milk"}).encode() + b" " * 100_000
    whole = request("POST", tasks_path(user), body=body)
    with serving(tmp_path / "log", command, DATABASE_URL=postgres) as server:
        with connected(server) as slow, connected(server) as late:
            slow.send(whole[:1000], whole[1000:-10])
            late.send(whole[:1000], whole[1000:])
            refused = late.read()
            slow.send(whole[-10:])
            accepted = slow.read()
        with connected(server) as later:
            later.send(whole[:1000], whole[1000:])
            again = later.read()
        with server.client() as api:
            small = api.post(tasks_path(user), json={"title": "Buy milk"})

    assert (refused.status, refused.json["detail"]) == (429, LATER)
    assert refused.headers["retry-after"] == "5"
    assert (accepted.status, again.status, small.status_code) == (201, 201, 201)


# Heads


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_a_path_longer_than_any_user_needs_is_414(api: httpx.Client, method: str) -> None:
    path = f"/api/{'%2F' * 1400}/tasks"

    response = api.request(method, path)

    assert response.status_code == 414
    if method != "HEAD":
        assert_problem(response, 414, "The path may have at most 4096 bytes")


def test_a_path_and_a_query_at_their_limits_are_read_and_one_byte_more_is_414(
    api: httpx.Client, user: str
) -> None:
    path, query = f"/nothing/{'a' * 4087}", f"ignored={'a' * (24 * 1024 - 8)}"

    assert len(path) == 4096
    assert api.get(path).status_code == 404
    assert api.get(f"{path}a").status_code == 414
    assert api.get(f"{tasks_path(user)}?{query}").status_code == 200
    assert api.get(f"{tasks_path(user)}?{query}a").status_code == 414


def test_a_query_has_at_most_a_hundred_parameters(api: httpx.Client, user: str) -> None:
    path = tasks_path(user)

    assert api.get(f"{path}?{'tags=&' * 100}".rstrip("&")).status_code == 200
    assert_problem(
        api.get(f"{path}?{'tags=&' * 101}".rstrip("&")),
        400,
        "The query may have at most 100 parameters",
    )


def test_a_query_is_no_longer_than_its_longest_texts(api: httpx.Client, user: str) -> None:
    path, letter = tasks_path(user), "%F0%9F%92%A1"
    tags = ",".join(f"{number:02}{letter * 48}" for number in range(20))

    assert api.get(f"{path}?q={letter * 500}&tags={tags}&limit=10").json() == []
    assert_problem(
        api.get(f"{path}?q={letter * 500}&x={letter * 1600}"),
        414,
        "The query may have at most 24576 bytes",
    )


@pytest.mark.parametrize(
    "field", ['"\\' * 30_000, '"a",' * 15_000, ";" * 60_000, "a/b;q=0.1;" * 6000, '"' * 60_000]
)
@pytest.mark.parametrize("name", ["Accept", "Accept-Encoding", "Prefer"])
def test_a_header_field_of_marks_is_read_at_once(
    api: httpx.Client, user: str, name: str, field: str
) -> None:
    answer = api.get(f"{tasks_path(user)}/changes", headers={name: field})

    assert answer.json()["changes"] == []


def test_a_list_of_etags_has_at_most_4096_characters(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    etags = {"If-Match": '"a",' * 1000 + '"b"', "If-None-Match": '"a",' * 1000 + '"b"'}
    too_long = {"If-None-Match": '"a",' * 1100 + '"b"'}

    assert api.get(task_path(task), headers=etags).status_code == 412
    assert_problem(
        api.get(task_path(task), headers=too_long),
        422,
        "If-None-Match: must have at most 4096 characters",
    )


def test_255_escaped_characters_are_a_key_and_a_longer_key_is_not_read(
    api: httpx.Client, user: str
) -> None:
    def create_with(key: str) -> httpx.Response:
        return api.post(
            tasks_path(user), json={"title": "Buy milk"}, headers={"Idempotency-Key": key}
        )

    assert create_with('"%s"' % ('\\"' * 255)).status_code == 201
    assert_problem(
        create_with('"%s"' % ('\\"' * 20_000)),
        422,
        "Idempotency-Key: must have 1 to 255 visible ASCII characters",
    )


# Browsers


def test_no_browser_may_take_an_answer_for_another_type(
    api: httpx.Client, user: str, server: Server
) -> None:
    task = create(api, user)
    preflight = {"Origin": FRONTEND_ORIGIN, "Access-Control-Request-Method": "GET"}
    answers = [
        api.get(task_path(task)),
        api.get(tasks_path(user)),
        api.get(f"{tasks_path(user)}/none"),
        api.get("/docs"),
        api.get("/nowhere"),
        api.post("/health/live"),
        api.options(tasks_path(user)),
        api.options(tasks_path(user), headers=preflight),
        api.delete(task_path(task)),
    ]
    with connected(server) as connection:
        connection.send(b"nonsense\r\n\r\n")
        refused = connection.read()

    for answer in answers:
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert refused.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_frames_the_documentation(api: httpx.Client, path: str) -> None:
    policy = api.get(path).headers["content-security-policy"]

    assert "frame-ancestors 'none'" in policy.split("; ")
