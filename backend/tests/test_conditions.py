"""Conditional requests: RFC 9110 §13."""

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine
from hashlib import sha256
from http.client import HTTPResponse
from itertools import combinations, product
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import execute
from tests.serving import Server, serving
from tests.tasks import assert_problem, create, listed, task_path, tasks_path, unknown_path
from tests.tokens import bearer, token

CHANGED = "The task has changed since you read it; get it again"
NOT_AS_ASKED = "The task does not meet If-Match or If-None-Match"
LIST_IS_WEAK = "If-Match cannot use the ETag of a list; send the request without If-Match"
LIST_IS_KNOWN = "If-None-Match matches the list; send the request without If-None-Match"
OTHER = '"0123456789abcdef0123456789abcdef"'

CHANGES: dict[str, tuple[str, str, Any]] = {
    "put": ("PUT", "", {"title": "Buy bread"}),
    "patch": ("PATCH", "", {"completed": True}),
    "delete": ("DELETE", "", None),
    "toggle": ("PATCH", "/complete", None),
    "set": ("PATCH", "/complete", {"completed": True}),
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)

few = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=60)


Result = TypeVar("Result")


def etag_of(api: httpx.Client, path: str) -> str:
    return api.get(path).headers["etag"]


def send(
    api: httpx.Client,
    path: str,
    change: tuple[str, str, Any],
    condition: str,
    header: str = "If-Match",
) -> httpx.Response:
    method, end, body = change
    return api.request(method, path + end, json=body, headers={header: condition})


# ETags


def test_a_tasks_etag_is_strong_and_hashes_the_json_that_postgresql_writes(
    api: httpx.Client, user: str
) -> None:
    """PostgreSQL writes the times without the zeros at the end of their fractions."""
    response = api.get(task_path(create(api, user)))

    written = re.sub(rb"\.?0+\+00:00", b"+00:00", response.content)
    assert response.headers["etag"] == f'"{sha256(written).hexdigest()[:32]}"'
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["vary"] == "Origin"


def test_a_lists_etag_is_weak_and_the_same_in_every_encoding(api: httpx.Client, user: str) -> None:
    create(api, user)

    response = api.get(tasks_path(user))

    assert response.headers["etag"].startswith('W/"')
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["vary"] == "Accept-Encoding, Origin"


def test_creates_and_changes_return_the_etag_that_get_returns(api: httpx.Client, user: str) -> None:
    created = api.post(tasks_path(user), json={"title": "Buy milk"})
    path = task_path(created.json())
    assert created.headers["etag"] == etag_of(api, path)

    for method, end in [("PATCH", ""), ("PATCH", "/complete"), ("PUT", "")]:
        changed = api.request(method, path + end, json={"completed": True})
        assert changed.headers["etag"] == etag_of(api, path)


@pytest.mark.parametrize("name", ["ada", "ä/ö %", "a'b(c)*", '<>"|'])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_answer_to_a_put_has_a_content_location(
    api: httpx.Client, user: str, name: str, slash: str
) -> None:
    """Without the header, the ETag would belong to the request's body: RFC 9110 §8.7, §9.3.4."""
    path = task_path(create(api, f"{user} {name}")) + slash

    response = api.put(path, json={"title": " Buy bread "})

    location = response.headers["content-location"]
    assert location == path
    got = api.get(location)
    assert got.content == response.content
    assert got.headers["etag"] == response.headers["etag"]


def test_every_state_keeps_an_etag_of_its_own(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    etags = [(etag_of(api, task_path(task)), etag_of(api, tasks_path(user)))]
    for changes in [{"title": "Buy bread"}, {"description": ""}, {"description": None}, {}]:
        api.patch(task_path(task), json=changes)
        etags.append((etag_of(api, task_path(task)), etag_of(api, tasks_path(user))))

    assert etags[-1] == etags[-2]
    for one, other in combinations(etags[:-1], 2):
        assert one[0] != other[0]
        assert one[1] != other[1]


def test_a_list_has_another_etag_with_each_task_order_filter_and_page(
    api: httpx.Client, user: str
) -> None:
    etags = [etag_of(api, tasks_path(user))]
    for title in ["b", "a", "c"]:
        create(api, user, title=title)
        etags.append(etag_of(api, tasks_path(user)))
    for query in ["sort=title", "sort=-title", "q=a", "q=c", "limit=2", "limit=1"]:
        etags.append(etag_of(api, f"{tasks_path(user)}?{query}"))

    assert len(set(etags)) == len(etags)


def test_a_page_has_another_etag_once_another_page_follows(api: httpx.Client, user: str) -> None:
    """A client with the ETag of the last page learns that the page is no longer the last."""
    path = f"{tasks_path(user)}?limit=1"
    create(api, user)
    last = api.get(path)
    later = create(api, user)

    no_more_last = api.get(path, headers={"If-None-Match": last.headers["etag"]})
    api.delete(task_path(later))
    last_again = api.get(path, headers={"If-None-Match": no_more_last.headers["etag"]})

    assert no_more_last.status_code == last_again.status_code == 200
    assert "next" in no_more_last.links
    assert "next" not in last_again.links
    assert last_again.headers["etag"] == last.headers["etag"]


def test_two_servers_give_the_same_etags(own_database: str, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "log1", DATABASE_URL=own_database) as one,
        serving(tmp_path / "log2", DATABASE_URL=own_database) as other,
        one.client() as api,
        other.client() as api_too,
    ):
        task = create(api, "ada", description='ünï\u0308çødé \u0001 "\\ 😀')
        create(api_too, "ada")
        for path in [task_path(task), tasks_path("ada"), f"{tasks_path('ada')}?limit=1"]:
            assert etag_of(api, path) == etag_of(api_too, path)
        etag = etag_of(api, task_path(task))
        assert send(api_too, task_path(task), CHANGES["put"], etag).status_code == 200


# If-None-Match


@pytest.fixture(params=["task", "list"])
def path(request: pytest.FixtureRequest, api: httpx.Client, user: str) -> str:
    task = create(api, user)
    return {"task": task_path(task), "list": tasks_path(user)}[request.param]


KNOWN = [
    '"{own}"',
    'W/"{own}"',
    '"other", "{own}"',
    '"{own}","other"',
    'W/"other" ,\tW/"{own}"',
    '"a,b", "{own}"',
    '"", "{own}"',
    ', "{own}" ,,',
    "*",
]
NOT_KNOWN = ['"other"', 'W/"other"', '""', '"{own}x"', '"W/{own}"', '"{own},"', '"\xe4"']


@pytest.mark.parametrize("condition", KNOWN)
def test_a_current_copy_is_not_sent_again(api: httpx.Client, path: str, condition: str) -> None:
    got = api.get(path)
    own = got.headers["etag"].removeprefix("W/").strip('"')

    response = api.get(path, headers={"If-None-Match": condition.replace("{own}", own)})

    assert response.status_code == 304
    assert response.content == b""
    for name in ["etag", "cache-control", "vary"]:
        assert response.headers[name] == got.headers[name]
    assert not [name for name in response.headers if name.startswith("content-")]
    assert "transfer-encoding" not in response.headers


@pytest.mark.parametrize("condition", NOT_KNOWN)
def test_a_task_that_the_client_does_not_have_is_sent(
    api: httpx.Client, path: str, condition: str
) -> None:
    got = api.get(path)
    own = got.headers["etag"].removeprefix("W/").strip('"')
    sent = condition.replace("{own}", own).encode("latin-1")

    response = api.get(path, headers={b"If-None-Match": sent})

    assert response.status_code == 200
    assert response.content == got.content


def test_several_header_fields_are_one_list_of_etags(api: httpx.Client, path: str) -> None:
    etag = etag_of(api, path)

    response = api.get(path, headers=[("If-None-Match", '"other"'), ("If-None-Match", etag)])

    assert response.status_code == 304


def test_head_has_the_etag_of_get_and_is_304_like_get(api: httpx.Client, path: str) -> None:
    got, head = api.get(path), api.head(path)

    assert head.headers["etag"] == got.headers["etag"]
    assert api.head(path, headers={"If-None-Match": OTHER}).status_code == 200
    known = api.head(path, headers={"If-None-Match": got.headers["etag"]})
    assert known.status_code == 304
    assert known.headers["etag"] == got.headers["etag"]


def test_a_page_that_is_known_keeps_its_link(api: httpx.Client, user: str) -> None:
    create(api, user)
    create(api, user)
    got = api.get(f"{tasks_path(user)}?limit=1")

    response = api.get(
        f"{tasks_path(user)}?limit=1", headers={"If-None-Match": got.headers["etag"]}
    )

    assert response.status_code == 304
    assert response.headers["link"] == got.headers["link"]


def test_a_missing_task_is_404_whatever_the_client_has(api: httpx.Client, user: str) -> None:
    theirs = create(api, f"{user}-other")
    etag = etag_of(api, task_path(theirs))

    for header, condition in product(["If-Match", "If-None-Match"], ["*", OTHER, etag]):
        headers = {header: condition}
        assert_problem(api.get(unknown_path(user), headers=headers), 404, "Task not found")
        foreign = api.get(task_path(theirs | {"user_id": user}), headers=headers)
        assert_problem(foreign, 404, "Task not found")


MALFORMED = ["", ",", "x", '"x', 'x"', "W/x", 'w/"x"', '"a" "b"', '"a""b"', '*, "a"', "**", '"a b"']


@pytest.mark.parametrize("condition", MALFORMED)
def test_a_malformed_etag_list_is_refused(api: httpx.Client, user: str, condition: str) -> None:
    task = create(api, user)
    path, body = task_path(task), {"title": "Buy bread", "completed": True}
    requests = [("GET", tasks_path(user)), ("POST", tasks_path(user)), ("GET", path)]
    requests += [("PUT", path), ("PATCH", path), ("PATCH", f"{path}/complete"), ("DELETE", path)]

    for name, (method, url) in product(["If-None-Match", "If-Match"], requests):
        response = api.request(method, url, json=body, headers={name: condition})
        assert_problem(response, 422, f"{name}: must be * or a list of ETags in quotes")
    assert listed(api, user) == [task]


@pytest.mark.parametrize("condition", ["{etag} ", "{etag}\t ", "*\t", '"a", {etag} \t'])
def test_white_space_around_a_condition_is_not_part_of_it(
    server: Server, api: httpx.Client, user: str, condition: str
) -> None:
    """Clients and proxies send white space, and httptools leaves it at the end: RFC 9110 §5.5."""
    path = task_path(create(api, user))
    condition = condition.replace("{etag}", etag_of(api, path))
    [authorization] = bearer(token(user)).items()
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", ": ".join(authorization)]
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as client:
        client.sendall("\r\n".join([*lines, f"If-None-Match: {condition}", "", ""]).encode())
        answer = HTTPResponse(client)
        answer.begin()

    assert answer.status == 304


# If-Match


@every_change
@pytest.mark.parametrize(
    "condition",
    ["{etag}", "W/{etag}", '"other", {etag}', '{etag},W/"other"', ", W/{etag},", "*"],
)
def test_a_task_with_the_expected_etag_is_changed(
    api: httpx.Client, user: str, change: tuple[str, str, Any], condition: str
) -> None:
    task = create(api, user)
    etag = etag_of(api, task_path(task))

    response = send(api, task_path(task), change, condition.replace("{etag}", etag))

    assert response.status_code == 200
    assert listed(api, user) != [task]


@every_change
@pytest.mark.parametrize("condition", [OTHER, f"W/{OTHER}", '""', f'W/"", {OTHER}, "\\"'])
def test_a_task_with_another_etag_stays_unchanged(
    api: httpx.Client, user: str, change: tuple[str, str, Any], condition: str
) -> None:
    task = create(api, user)
    etag = etag_of(api, task_path(task))

    response = send(api, task_path(task), change, condition.replace("{etag}", etag))

    assert_problem(response, 412, CHANGED)
    assert listed(api, user) == [task]


@every_change
def test_a_lists_etag_does_not_match_a_task(
    api: httpx.Client, user: str, change: tuple[str, str, Any]
) -> None:
    """Not even the ETag of a list of only that task matches."""
    task = create(api, user)
    etag = etag_of(api, tasks_path(user))

    for condition in [etag, etag.removeprefix("W/")]:
        assert_problem(send(api, task_path(task), change, condition), 412, CHANGED)
    assert listed(api, user) == [task]


@every_change
def test_an_etag_from_before_a_change_does_not_match(
    api: httpx.Client, user: str, change: tuple[str, str, Any]
) -> None:
    path = task_path(create(api, user))
    before = etag_of(api, path)
    changed = api.put(path, json={"description": "Two litres"}).json()

    assert_problem(send(api, path, change, before), 412, CHANGED)
    assert listed(api, user) == [changed]


@every_change
def test_a_missing_task_is_404_before_412(
    api: httpx.Client, user: str, change: tuple[str, str, Any]
) -> None:
    theirs = create(api, f"{user}-other")
    etag = etag_of(api, task_path(theirs))

    for header, condition in product(["If-Match", "If-None-Match"], ["*", OTHER, etag]):
        missing = send(api, unknown_path(user), change, condition, header)
        foreign = send(api, task_path(theirs | {"user_id": user}), change, condition, header)
        assert_problem(missing, 404, "Task not found")
        assert_problem(foreign, 404, "Task not found")
    assert listed(api, f"{user}-other") == [theirs]


def test_a_wrong_body_is_422_before_412(api: httpx.Client, user: str) -> None:
    path = task_path(create(api, user))

    for header, condition in [("If-Match", OTHER), ("If-None-Match", "*")]:
        assert_problem(send(api, path, ("PUT", "", {"title": None}), condition, header), 422)


def test_an_empty_update_is_conditional_and_changes_nothing(api: httpx.Client, user: str) -> None:
    task = create(api, user)
    etag = etag_of(api, task_path(task))

    for method in ["PUT", "PATCH"]:
        assert_problem(send(api, task_path(task), (method, "", {}), OTHER), 412, CHANGED)
        assert send(api, task_path(task), (method, "", {}), etag).json() == task


@few
@given(title=text.filter(str.strip), description=st.none() | text)
def test_postgresql_computes_the_etag_that_is_sent(
    api: httpx.Client, user: str, title: str, description: str | None
) -> None:
    task = create(api, user, title=title, description=description)

    patched = send(
        api, task_path(task), ("PATCH", "", {"completed": True}), etag_of(api, task_path(task))
    )

    assert patched.status_code == 200
    toggled = send(api, task_path(task), CHANGES["toggle"], patched.headers["etag"])
    assert toggled.status_code == 200
    assert send(api, task_path(task), CHANGES["delete"], OTHER).status_code == 412
    assert send(api, task_path(task), CHANGES["delete"], toggled.headers["etag"]).is_success


EARLIER = r"""
CREATE TABLE tasks (
    id uuid PRIMARY KEY, user_id varchar(255) NOT NULL, title varchar(500) NOT NULL,
    description varchar, completed boolean NOT NULL,
    created_at timestamp NOT NULL, updated_at timestamp NOT NULL
);
CREATE INDEX ix_tasks_user_id ON tasks (user_id);
INSERT INTO tasks SELECT gen_random_uuid(), 'a/"ü\', title, description, false, at, at
FROM (VALUES
    ('', NULL, timestamp '2025-01-02 03:04:05'),
    (E'\t"\\/\u0001 ', '', '2025-01-02 03:04:05.000001'),
    ('💡', E'\u2028\x7f', '0001-01-01 00:00'),
    ('t', repeat('d', 6000), '9999-12-31 23:59:59.999999')
) earlier (title, description, at)
"""


def test_rows_of_the_earlier_version_have_etags_too(empty_database: str, tmp_path: Path) -> None:
    asyncio.run(execute(empty_database, EARLIER))
    with serving(tmp_path / "log", DATABASE_URL=empty_database) as server, server.client() as api:
        tasks = listed(api, 'a/"ü\\')
        assert len(tasks) == 4
        for task in tasks:
            etag = etag_of(api, task_path(task))
            assert send(api, task_path(task), CHANGES["put"], OTHER).status_code == 412
            assert send(api, task_path(task), CHANGES["put"], etag).status_code == 200


# If-Match on GET, If-None-Match on changes, and both: §13.2.2


@every_change
@pytest.mark.parametrize(
    "condition", ["{etag}", "W/{etag}", '"other", {etag}', '{etag},W/"other"', ", {etag},", "*"]
)
def test_a_task_with_an_excluded_etag_stays_unchanged(
    api: httpx.Client, user: str, change: tuple[str, str, Any], condition: str
) -> None:
    task = create(api, user)
    condition = condition.replace("{etag}", etag_of(api, task_path(task)))

    response = send(api, task_path(task), change, condition, "If-None-Match")

    assert_problem(response, 412, NOT_AS_ASKED)
    assert listed(api, user) == [task]


@every_change
@pytest.mark.parametrize("condition", [OTHER, f"W/{OTHER}", '""', f'W/"", {OTHER}, "\\"', "{list}"])
def test_a_task_with_no_excluded_etag_is_changed(
    api: httpx.Client, user: str, change: tuple[str, str, Any], condition: str
) -> None:
    task = create(api, user)
    condition = condition.replace("{list}", etag_of(api, tasks_path(user)))

    response = send(api, task_path(task), change, condition, "If-None-Match")

    assert response.status_code == 200
    assert listed(api, user) != [task]


ASKED = [None, "*", "{own}", "W/{own}", OTHER, f"{OTHER}, {{own}}", f"W/{OTHER}, W/{{own}}"]


@pytest.mark.parametrize("if_none_match", ASKED)
@pytest.mark.parametrize("if_match", ASKED)
def test_if_match_comes_before_if_none_match(
    api: httpx.Client, user: str, if_match: str | None, if_none_match: str | None
) -> None:
    path = task_path(create(api, user))
    asked = {"If-Match": if_match, "If-None-Match": if_none_match}
    headers = {
        name: condition.replace("{own}", etag_of(api, path))
        for name, condition in asked.items()
        if condition is not None
    }
    is_as_known = if_match in {None, "*"} or "own" in if_match
    is_ruled_out = if_none_match is not None and (if_none_match == "*" or "own" in if_none_match)
    got, changed = (304, 412) if is_ruled_out else (200, 200)

    statuses = {"GET": got, "HEAD": got, "PUT": changed, "PATCH": changed, "DELETE": changed}
    for method, status in statuses.items():
        response = api.request(method, path, json={}, headers=headers)
        assert response.status_code == (status if is_as_known else 412)


def test_get_with_if_match_is_412_when_the_task_has_changed(api: httpx.Client, user: str) -> None:
    path = task_path(create(api, user))
    known = {"If-Match": etag_of(api, path)}
    assert api.get(path, headers=known).status_code == 200
    api.patch(path, json={"completed": True})

    assert_problem(api.get(path, headers=known), 412, CHANGED)


@pytest.mark.parametrize("query", ["", "?limit=1", "?completed=true"])
def test_no_etag_of_a_list_matches_strongly(api: httpx.Client, user: str, query: str) -> None:
    """A list's ETags are weak: §8.8.3.2. `*` requires a list to exist, and a list always does."""
    path = tasks_path(user) + query
    etag = etag_of(api, path)

    for condition in [etag, etag.removeprefix("W/"), f"{OTHER}, {etag}"]:
        assert_problem(api.get(path, headers={"If-Match": condition}), 412, LIST_IS_WEAK)
    assert api.get(path, headers={"If-Match": "*"}).status_code == 200
    known = {"If-Match": "*", "If-None-Match": etag}
    assert api.get(path, headers=known).status_code == 304


@pytest.mark.parametrize("first", [[], ["Buy milk"]])
def test_a_create_can_depend_on_the_state_of_its_list(
    api: httpx.Client, user: str, first: list[str]
) -> None:
    for title in first:
        create(api, user, title=title)
    path, before = tasks_path(user), listed(api, user)
    etag = etag_of(api, path)

    for condition, detail in [
        ({"If-Match": etag}, LIST_IS_WEAK),
        ({"If-Match": OTHER}, LIST_IS_WEAK),
        ({"If-None-Match": "*"}, LIST_IS_KNOWN),
        ({"If-None-Match": etag}, LIST_IS_KNOWN),
        ({"If-None-Match": f"{OTHER}, {etag}"}, LIST_IS_KNOWN),
        ({"If-Match": "*", "If-None-Match": etag}, LIST_IS_KNOWN),
        ({"If-Match": OTHER, "If-None-Match": etag}, LIST_IS_WEAK),
    ]:
        response = api.post(path, json={"title": "Buy bread"}, headers=condition)
        assert_problem(response, 412, detail)
    assert listed(api, user) == before

    for condition in [{"If-Match": "*"}, {"If-None-Match": OTHER}, {"If-None-Match": etag}]:
        response = api.post(path, json={"title": "Buy bread"}, headers=condition)
        assert response.status_code == 201
    assert len(listed(api, user)) == len(before) + 3


def test_a_wrong_task_is_422_before_412(api: httpx.Client, user: str) -> None:
    for condition in [{"If-Match": OTHER}, {"If-None-Match": "*"}]:
        assert_problem(api.post(tasks_path(user), json={}, headers=condition), 422)


# Races


async def at_once(
    server: Server,
    count: int,
    request: Callable[[httpx.AsyncClient, int], Coroutine[None, None, Result]],
) -> list[Result]:
    async with server.async_client() as client:
        return await asyncio.gather(*(request(client, number) for number in range(count)))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "late"),
    [
        (CHANGES["put"], 412),
        (CHANGES["patch"], 412),
        (CHANGES["toggle"], 412),
        (CHANGES["set"], 412),
        (CHANGES["delete"], 404),
    ],
)
async def test_only_one_of_50_concurrent_changes_with_the_same_etag_is_made(
    server: Server, api: httpx.Client, user: str, change: tuple[str, str, Any], late: int
) -> None:
    """After the change, the task has another state, or is missing: 404 comes before 412."""
    task = create(api, user)
    path, headers = task_path(task), {"If-Match": etag_of(api, task_path(task))}
    method, end, body = change

    answers = await at_once(
        server,
        50,
        lambda client, _: client.request(method, path + end, json=body, headers=headers),
    )

    statuses = [answer.status_code for answer in answers]
    assert sorted(statuses) == [200] + [late] * 49
    winner = answers[statuses.index(200)].json()
    after = {412: [winner], 404: []}
    assert listed(api, user) == after[late]


SAME = {"If-Match": 200, "If-None-Match": 412}


@pytest.mark.anyio
@every_change
@pytest.mark.parametrize(
    ("meanwhile", "end", "status"),
    [
        ("UPDATE tasks SET description = 'new'", "COMMIT", {"If-Match": 412, "If-None-Match": 200}),
        ("UPDATE tasks SET description = 'new'", "ROLLBACK", SAME),
        ("UPDATE tasks SET title = title", "COMMIT", SAME),
        ("DELETE FROM tasks", "COMMIT", {"If-Match": 404, "If-None-Match": 404}),
        ("DELETE FROM tasks", "ROLLBACK", SAME),
    ],
)
@pytest.mark.parametrize("header", SAME)
async def test_a_change_that_waits_for_another_change_sees_its_result(
    api: httpx.Client,
    direct: str,
    locks: str,
    user: str,
    change: tuple[str, str, Any],
    meanwhile: str,
    end: str,
    status: dict[str, int],
    header: str,
) -> None:
    task = create(api, user)
    etag = etag_of(api, task_path(task))
    other = await asyncpg.connect(direct)
    await other.execute(f"BEGIN; {meanwhile} WHERE user_id = '{user}'")

    answer = asyncio.create_task(
        asyncio.to_thread(send, api, task_path(task), change, etag, header)
    )
    while not await other.fetchval(f"SELECT EXISTS (SELECT FROM {locks} WHERE NOT granted)"):
        assert not answer.done()
    await other.execute(end)
    await other.close()

    assert (await answer).status_code == status[header]


@pytest.mark.anyio
async def test_50_concurrent_changes_that_keep_the_etag_are_all_made(
    server: Server, api: httpx.Client, user: str
) -> None:
    task = create(api, user)
    headers = {"If-Match": etag_of(api, task_path(task))}

    answers = await at_once(
        server, 50, lambda client, _: client.put(task_path(task), json={}, headers=headers)
    )

    assert {answer.status_code for answer in answers} == {200}
    assert listed(api, user) == [task]


@pytest.mark.anyio
@every_change
async def test_none_of_50_concurrent_changes_is_made_to_a_task_with_an_excluded_etag(
    server: Server, api: httpx.Client, user: str, change: tuple[str, str, Any]
) -> None:
    task = create(api, user)
    path, headers = task_path(task), {"If-None-Match": etag_of(api, task_path(task))}
    method, end, body = change

    answers = await at_once(
        server,
        50,
        lambda client, _: client.request(method, path + end, json=body, headers=headers),
    )

    assert {answer.status_code for answer in answers} == {412}
    assert listed(api, user) == [task]


@pytest.mark.anyio
async def test_50_concurrent_changes_without_a_condition_are_all_made(
    server: Server, api: httpx.Client, user: str
) -> None:
    task = create(api, user)

    answers = await at_once(
        server,
        50,
        lambda client, number: client.put(task_path(task), json={"title": f"By {number}"}),
    )

    assert {answer.status_code for answer in answers} == {200}
    assert listed(api, user)[0] in [answer.json() for answer in answers]


@pytest.mark.anyio
async def test_no_update_is_lost_among_clients_that_read_before_they_write(
    server: Server, api: httpx.Client, user: str
) -> None:
    """Each of ten clients adds 1, three times, and tries again when another client was faster."""
    path = task_path(create(api, user, title="0"))

    async def add(client: httpx.AsyncClient, _: int) -> None:
        added = 0
        while added < 3:
            got = await client.get(path)
            body = {"title": str(int(got.json()["title"]) + 1)}
            headers = {"If-Match": got.headers["etag"]}
            answer = await client.patch(path, json=body, headers=headers)
            assert answer.status_code in {200, 412}
            added += answer.status_code == 200

    await at_once(server, 10, add)

    [task] = listed(api, user)
    assert task["title"] == "30"


@pytest.mark.anyio
async def test_no_concurrent_change_is_made_after_a_delete(
    server: Server, api: httpx.Client, user: str
) -> None:
    task = create(api, user)
    path, headers = task_path(task), {"If-Match": etag_of(api, task_path(task))}

    answers = await at_once(
        server,
        40,
        lambda client, number: client.request(
            ("DELETE", "PUT")[number % 2], path, json={"title": f"By {number}"}, headers=headers
        ),
    )

    assert sum(answer.status_code == 200 for answer in answers) == 1
    [made] = [answer.json() for answer in answers if answer.status_code == 200]
    lists = {"message": [], "title": [made]}
    outcomes = {"message": {200, 404}, "title": {200, 412}}
    [kind] = lists.keys() & made.keys()
    assert {answer.status_code for answer in answers} == outcomes[kind]
    assert listed(api, user) == lists[kind]
