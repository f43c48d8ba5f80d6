"""What lists take: filters, orders, and the names that other clients have for them."""

from datetime import UTC, datetime, timedelta
from itertools import combinations, permutations
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest

from src.framework.web.preferences import preferences, seconds_to_wait, weights
from src.schemas.task_listing import TaskListing
from tests.tasks import Task, assert_problem, create, tasks_path, unknown_path

NOW = datetime.now(UTC)
PAST, FUTURE = (NOW - timedelta(hours=1)).isoformat(), (NOW + timedelta(hours=1)).isoformat()


def get(api: httpx.Client, user: str, query: object = None, **headers: str) -> httpx.Response:
    params: Any = query
    return api.get(tasks_path(user), params=params, headers=headers)


def titles(api: httpx.Client, user: str, query: object) -> list[str]:
    response = get(api, user, query)
    assert response.status_code == 200, response.text
    return [task["title"] for task in response.json()]


@pytest.fixture
def tasks(api: httpx.Client, user: str) -> list[Task]:
    create(api, f"{user}-other", title="Not mine", priority="high", tags=["home"])
    return [
        create(api, user, title="a", priority="low", due_date="2026-12-01", tags=["home"]),
        create(api, user, title="b", priority="high", due_date="2026-12-24T15:00Z"),
        create(api, user, title="c", completed=True, due_date="2026-12-24", tags=["home", "x"]),
        create(api, user, title="d", priority="urgent", tags=["x", "home"]),
    ]


FILTERS: list[tuple[object, str]] = [
    ({"priority": "high"}, "b"),
    ({"priority": "HIGH,low"}, "ab"),
    ({"priority": ["high", "urgent"]}, "bd"),
    ({"priority": ["high,urgent", "low"]}, "abd"),
    ({"priority": "all"}, "abcd"),
    ({"priority": ""}, "abcd"),
    ({"tags": "home"}, "acd"),
    ({"tags": "home,x"}, "cd"),
    ({"tags": ["x", " home "]}, "cd"),
    ({"tag": "x"}, "cd"),
    ({"tag": ["x", "home"]}, "cd"),
    ({"tag": "x", "tags": "home"}, "cd"),
    ({"tags": "Home"}, ""),
    ({"tags": ""}, "abcd"),
    ({"due_date_from": "2026-12-24"}, "bc"),
    ({"due_date_from": "2026-12-24T00:00:00.000001Z"}, "b"),
    ({"due_date_to": "2026-12-01"}, "a"),
    ({"due_date_to": "2026-12-24"}, "abc"),
    ({"due_date_to": "2026-12-24T00:00Z"}, "ac"),
    ({"due_date_to": "2026-12-24T16:00+01:00"}, "abc"),
    ({"due_date_from": "2026-12-24", "due_date_to": "2026-12-24"}, "bc"),
    ({"due_date_from": "", "due_date_to": ""}, "abcd"),
    ({"due_date_from": "2027-01-01"}, ""),
    ({"tags": "home", "completed": "false", "priority": "low,urgent"}, "ad"),
    ({"tags": "home", "q": "C"}, "c"),
    ({"offset": "1"}, "bcd"),
    ({"offset": "4"}, ""),
    ({"offset": "2147483647"}, ""),
    ({"offset": "1", "limit": "2", "tags": "home"}, "cd"),
]


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize(("query", "expected"), FILTERS)
def test_a_filter_lets_the_right_tasks_through(
    api: httpx.Client, user: str, query: object, expected: str
) -> None:
    assert titles(api, user, query) == [*expected]


@pytest.mark.parametrize(
    "query",
    [
        "due_date_from=2026-12-24T16:00:00+01:00",
        "due_date_from=2026-12-24T16:00+0100",
        "due_date_from=2026-12-24T16:00:00.000+01",
        "due_date=2026-12-24T16:00:00+01:00",
        "due_date_from=2026-12-24 15:00",  # as in a body, a time without an offset
        "due_date_from=2026-12-24+15:00:00&due_date_to=2026-12-24+15:00",
    ],
)
def test_an_offset_that_was_not_encoded_is_read(api: httpx.Client, user: str, query: str) -> None:
    create(api, user, title="a", due_date="2026-12-24T15:00Z")
    create(api, user, title="b", due_date="2026-12-24T14:59Z")

    response = api.get(f"{tasks_path(user)}?{query}")

    assert [task["title"] for task in response.json()] == ["a"]


def test_an_overdue_task_was_due_before_now_and_is_not_completed(
    api: httpx.Client, user: str
) -> None:
    create(api, user, title="late", due_date=PAST)
    create(api, user, title="done", due_date=PAST, completed=True)
    create(api, user, title="coming", due_date=FUTURE)
    create(api, user, title="some day")

    assert titles(api, user, {"overdue": "true"}) == ["late"]
    assert titles(api, user, {"overdue": "false"}) == ["done", "coming", "some day"]


def walked(api: httpx.Client, user: str, **query: object) -> list[str]:
    response = get(api, user, query)
    found = [task["title"] for task in response.json()]
    while "next" in response.links:
        response = api.get(response.links["next"]["url"])
        found += [task["title"] for task in response.json()]
    return found


ORDERS = {
    "priority": ["low", "medium 1", "medium 2", "high", "urgent"],
    "-priority": ["urgent", "high", "medium 2", "medium 1", "low"],
    "due_date": ["high", "medium 1", "low", "medium 2", "urgent"],
    "-due_date": ["medium 1", "high", "urgent", "medium 2", "low"],
}


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("sort", ORDERS)
def test_pages_by_rank_and_due_date_have_each_task_once(
    api: httpx.Client, user: str, sort: str, limit: int
) -> None:
    """Tasks without a due date come last in both directions."""
    create(api, user, title="low", priority="low")
    create(api, user, title="medium 1", due_date="2026-12-24")
    create(api, user, title="medium 2")
    create(api, user, title="urgent", priority="urgent")
    create(api, user, title="high", priority="high", due_date="2026-12-01")

    assert walked(api, user, sort=sort, limit=limit) == ORDERS[sort]


# Pairs of queries with one meaning: the names of another client, and our names.
SAME: list[tuple[object, object]] = [
    ({"status": "all"}, {}),
    ({"status": ""}, {}),
    ({"status": "pending"}, {"completed": "false"}),
    ({"status": "Completed"}, {"completed": "true"}),
    ({"status": "open"}, {"completed": "false"}),
    ({"status": "done"}, {"completed": "true"}),
    ({"status": "incomplete"}, {"completed": "false"}),
    ({"status_filter": "completed"}, {"completed": "true"}),
    ({"status": "all", "sort": "created"}, {"sort": "created_at"}),
    ({"search": "B"}, {"q": "b"}),
    ({"search": ""}, {}),
    ({"sort_by": "title"}, {"sort": "title"}),
    ({"sort_by": "due_date", "sort_order": "desc"}, {"sort": "-due_date"}),
    ({"sort_by": "priority", "order": "ASC"}, {"sort": "priority"}),
    ({"sort": "title", "order": "desc"}, {"sort": "-title"}),
    ({"sort": "-title", "order": "desc"}, {"sort": "-title"}),
    ({"sort": "-updated"}, {"sort": "-updated_at"}),
    ({"order": "desc"}, {"sort": "-created_at"}),
    ({"skip": "1"}, {"offset": "1"}),
    ({"skip": "1", "limit": "2"}, {"offset": "1", "limit": "2"}),
    ({"page": "2", "limit": "3"}, {"offset": "3", "limit": "3"}),
    ({"page": "2", "page_size": "3"}, {"offset": "3", "limit": "3"}),
    ({"page": "2", "per_page": "1"}, {"offset": "1", "limit": "1"}),
    ({"page": "1"}, {}),
    ({"page": "2"}, {"offset": "2147483647"}),
    ({"status": "completed", "completed": "true"}, {"completed": "true"}),
    ({"search": "a", "q": "a"}, {"q": "a"}),
    ({"limit": "2", "per_page": "2", "page_size": "2"}, {"limit": "2"}),
    ({"sort": "title", "sort_by": "title"}, {"sort": "title"}),
    ({"order": "desc", "sort_order": "desc"}, {"sort": "-created_at"}),
]


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize(("theirs", "ours"), SAME)
def test_other_names_mean_the_same_filters(
    api: httpx.Client, user: str, theirs: object, ours: object
) -> None:
    assert titles(api, user, theirs) == titles(api, user, ours)


CONTRADICTIONS: list[tuple[dict[str, str], str]] = [
    ({"status": "pending", "completed": "true"}, "status: contradicts completed"),
    ({"status": "all", "completed": "true"}, "status: contradicts completed"),
    ({"status": "done", "status_filter": "open"}, "status_filter: contradicts completed"),
    ({"search": "a", "q": "b"}, "search: contradicts q"),
    ({"limit": "1", "page_size": "2"}, "page_size: contradicts limit"),
    ({"skip": "1", "offset": "2"}, "skip: contradicts offset"),
    ({"page": "2", "limit": "2", "skip": "1"}, "page: contradicts offset"),
    ({"sort": "title", "sort_by": "created_at"}, "sort_by: contradicts sort"),
    ({"sort": "-title", "order": "asc"}, "order: contradicts sort"),
    ({"order": "desc", "sort_order": "asc"}, "sort_order: contradicts order"),
]


@pytest.mark.parametrize(("query", "detail"), CONTRADICTIONS)
def test_names_that_contradict_each_other_are_refused(
    api: httpx.Client, user: str, query: dict[str, str], detail: str
) -> None:
    for ordered in permutations(query.items()):
        assert_problem(get(api, user, [*ordered]), 422, detail)


WRONG: list[tuple[dict[str, str], str]] = [
    ({"status": "maybe"}, "status"),
    ({"order": "up"}, "order"),
    ({"sort_by": "colour"}, "sort"),
    ({"sort": "completed"}, "sort"),
    ({"page": "0"}, "page"),
    ({"page": "-1"}, "page"),
    ({"page": "two"}, "page"),
    ({"page": "1", "limit": "0"}, "limit"),
    ({"skip": "-1"}, "offset"),
    ({"offset": "2147483648"}, "offset"),
    ({"page_size": "1001"}, "limit"),
    ({"priority": "high,purple"}, "priority.1"),
    ({"tags": "x" * 51}, "tags.0"),
    ({"tags": "a\0"}, "tags.0"),
    ({"tags": ",".join(map(str, range(21)))}, "tags"),
    ({"priority": ",".join(map(str, range(21)))}, "priority"),
    ({"due_date_from": "soon"}, "due_date_from"),
    ({"due_date_to": "2026-02-30"}, "due_date_to"),
    ({"due_date_to": "9999-12-31T23:59:59-01:00"}, "due_date_to"),
    ({"overdue": "maybe"}, "overdue"),
]


@pytest.mark.parametrize(("query", "name"), WRONG)
def test_a_wrong_value_is_refused_by_name(
    api: httpx.Client, user: str, query: dict[str, str], name: str
) -> None:
    response = get(api, user, query)

    assert_problem(response, 422)
    assert response.json()["detail"].startswith(f"{name}: ")


@pytest.mark.parametrize("query", ["tags=a&tag=a,a&tags= a ,b", "priority=high,HIGH&priority=low"])
def test_a_repeated_value_reaches_no_statement(query: str) -> None:
    """PostgreSQL would compare each repeated value with each row."""
    sent: dict[str, list[str]] = parse_qs(query)

    listing = TaskListing.model_validate(sent)

    assert (listing.tags, listing.priority) in [(("a", "b"), ()), ((), ("high", "low"))]


@pytest.mark.parametrize(
    ("query", "message", "kind"),
    [
        (
            {"tags": ",".join(map(str, range(21)))},
            "must have at most 20 different values",
            "too_many",
        ),
        (
            {"time_zone": "New York"},
            "must be the name of a time zone, such as America/New_York",
            "time_zone",
        ),
    ],
)
def test_a_refused_value_has_a_sentence_and_a_type(
    api: httpx.Client, user: str, query: dict[str, str], message: str, kind: str
) -> None:
    [name] = query

    assert get(api, user, query).json()["errors"] == [
        {"loc": ["query", name], "msg": message, "type": kind}
    ]


def test_a_list_takes_thousands_of_repeats(api: httpx.Client, user: str, tasks: list[Task]) -> None:
    assert titles(api, user, {"tags": ",".join(["home"] * 2000)}) == ["a", "c", "d"]
    assert titles(api, user, {"priority": ",".join(["low"] * 4000)}) == ["a"]
    assert len(tasks) == 4


def test_a_filter_can_name_the_last_day(api: httpx.Client, user: str) -> None:
    create(api, user, title="last", due_date="9999-12-31T23:59:59.999998Z")

    assert titles(api, user, {"due_date_to": "9999-12-31"}) == ["last"]


def test_a_cursor_and_an_offset_contradict_each_other(
    api: httpx.Client, user: str, tasks: list[Task]
) -> None:
    link = get(api, user, {"limit": 2}).links["next"]["url"]

    assert len(tasks) == 4
    assert_problem(api.get(f"{link}&offset=1"), 422, "offset: contradicts cursor")


@pytest.mark.parametrize(
    ("query", "steps"),
    [
        ({"page": "1", "limit": "3"}, ["1", "2", "3", "4"]),
        ({"page": "1", "per_page": "3"}, ["1", "2", "3", "4"]),
        ({"offset": "0", "limit": "3"}, ["0", "3", "6", "9"]),
        ({"skip": "0", "limit": "3"}, ["0", "3", "6", "9"]),
    ],
)
def test_a_list_with_page_numbers_links_both_ways_by_number(
    api: httpx.Client, user: str, query: dict[str, str], steps: list[str]
) -> None:
    for number in range(10):
        create(api, user, title=str(number))
    name = next(iter(query))

    there, response = [], get(api, user, query)
    pages = [response.json()]
    while "next" in response.links:
        there.append(response.url.params[name])
        response = api.get(response.links["next"]["url"])
        pages.append(response.json())
    there.append(response.url.params[name])
    back = [there[-1]]
    while "prev" in response.links:
        response = api.get(response.links["prev"]["url"])
        assert response.json() == pages[len(pages) - len(back) - 1]
        back.append(response.url.params[name])

    assert there == steps
    assert back == steps[::-1]
    assert [task["title"] for page in pages for task in page] == [str(n) for n in range(10)]


def test_a_page_by_number_with_a_small_offset_links_to_the_first_page(
    api: httpx.Client, user: str, tasks: list[Task]
) -> None:
    response = get(api, user, {"offset": 1, "limit": 3})

    assert len(tasks) == 4
    assert response.links["prev"]["url"].endswith("offset=0")
    assert "next" not in response.links


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize(
    ("query", "total"),
    [
        ({}, 4),
        ({"limit": "1"}, 4),
        ({"tags": "home", "limit": "1"}, 3),
        ({"q": "b"}, 1),
        ({"q": "nothing"}, 0),
        ({"offset": "9"}, 4),
        ({"page": "3", "limit": "2", "status": "pending"}, 3),
    ],
)
@pytest.mark.parametrize(
    "prefer", ["count=exact", 'respond-async, Count="exact"; a=b', "count = exact"]
)
def test_a_client_that_prefers_a_count_gets_the_number_of_all_tasks(
    api: httpx.Client, user: str, prefer: str, query: dict[str, str], total: int
) -> None:
    counted, uncounted = get(api, user, query, Prefer=prefer), get(api, user, query)

    assert counted.headers["x-total-count"] == str(total)
    assert counted.headers["preference-applied"] == "count=exact"
    assert counted.json() == uncounted.json()
    assert counted.links == uncounted.links
    assert "x-total-count" not in uncounted.headers


@pytest.mark.parametrize("prefer", ["count=planned", "count", "return=minimal", "", ",;=", "é"])
def test_other_preferences_are_ignored(api: httpx.Client, user: str, prefer: str) -> None:
    response = api.get(tasks_path(user), headers=[(b"Prefer", prefer.encode())])

    assert response.status_code == 200
    assert "preference-applied" not in response.headers


@pytest.mark.parametrize(
    ("prefer", "read"),
    [
        (None, {}),
        ("", {}),
        ("count=exact", {"count": "exact"}),
        ("respond-async", {"respond-async": ""}),
        ('Wait = "10"; unit=s , RETURN=minimal;x', {"wait": "10", "return": "minimal"}),
        ("count=exact, count=planned", {"count": "exact"}),
        ('count="", =, ;', {"count": ""}),
    ],
)
def test_parameters_of_preferences_are_ignored_and_the_first_of_two_counts(
    prefer: str | None, read: dict[str, str]
) -> None:
    assert preferences(prefer) == read


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("wait", 0),
        ("wait=x", 0),
        ("wait=1.5", 0),
        ("wait=20", 20),
        ("wait=60", 60),
        ("wait=61", 60),
        ("wait=999999999", 60),
        ("wait=1000000000", 0),
    ],
)
def test_a_preference_to_wait_counts_only_up_to_the_longest_wait(
    prefer: str | None, seconds: int
) -> None:
    assert seconds_to_wait(prefer, 60) == seconds


@pytest.mark.parametrize(
    ("accept", "read"),
    [
        ("text/html", {"text/html": 1}),
        ("Text/HTML;Q=0.5", {"text/html": 0.5}),
        ("a ; q=0.25 , b;q=1.000", {"a": 0.25, "b": 1}),
        ("a;level=1;q=0;q=0.5", {"a": 0}),
        ("a;q=2, b;q=0.1234, c;q=", {"a": 1, "b": 1, "c": 1}),
        ('a;of="b, c;q=0\\", d";q=0.5, e', {"a": 0.5, "e": 1}),
        ('a;of="b, c;q=0', {"a": 1}),
    ],
)
def test_weights_are_read_whatever_other_parameters_say(
    accept: str, read: dict[str, float]
) -> None:
    assert weights(accept) == read


def test_a_cursor_does_not_change_the_number_of_all_tasks(
    api: httpx.Client, user: str, tasks: list[Task]
) -> None:
    link = get(api, user, {"limit": 3}).links["next"]["url"]

    response = api.get(link, headers={"Prefer": "count=exact"})

    assert [len(response.json()), response.headers["x-total-count"]] == [1, str(len(tasks))]


def test_a_counted_list_has_an_etag_of_its_own(api: httpx.Client, user: str) -> None:
    create(api, user)
    create(api, user)
    count = {"Prefer": "count=exact"}
    first = get(api, user, {"limit": 1}, **count)

    known = get(api, user, {"limit": 1}, **count, **{"If-None-Match": first.headers["etag"]})
    create(api, user)
    changed = get(api, user, {"limit": 1}, **count, **{"If-None-Match": first.headers["etag"]})

    assert (known.status_code, changed.status_code) == (304, 200)
    assert known.headers["x-total-count"] == "2"


def test_both_filters_of_every_pair_apply(api: httpx.Client, user: str, tasks: list[Task]) -> None:
    single: list[tuple[str, str]] = [
        ("completed", "false"),
        ("priority", "low,high"),
        ("tags", "home"),
        ("due_date_from", "2026-12-01"),
        ("due_date_to", "2026-12-24"),
        ("overdue", "false"),
        ("q", "a"),
    ]
    alone = {name: {*titles(api, user, {name: text})} for name, text in single}

    assert len(tasks) == 4
    for first, second in combinations(single, 2):
        both = {*titles(api, user, dict([first, second]))}
        assert both == alone[first[0]] & alone[second[0]]


def test_another_users_tasks_are_never_counted_or_listed(
    api: httpx.Client, user: str, tasks: list[Task]
) -> None:
    assert tasks
    response = get(api, f"{user}-nobody", {"tags": "home", "page": 1}, Prefer="count=exact")

    assert response.json() == []
    assert response.headers["x-total-count"] == "0"
    assert api.get(unknown_path(user)).status_code == 404


def test_the_first_hundred_items_of_a_field_count() -> None:
    many = [f"a{number}" for number in range(20_000)]

    assert [*preferences(",".join(many))] == many[:100]
    assert [*weights(",".join(many))] == many[:100]


@pytest.mark.parametrize(
    ("query", "links"),
    [
        ({"offset": "2"}, {}),
        ({"page": "2", "offset": "2", "limit": "2"}, {"prev": {"page": "1", "limit": "2"}}),
        ({"skip": "1", "offset": "1", "limit": "1"}, {"prev": {"offset": "0", "limit": "1"}}),
    ],
)
@pytest.mark.usefixtures("tasks")
def test_no_link_leads_to_itself_or_to_a_refusal(
    api: httpx.Client, user: str, query: dict[str, str], links: dict[str, dict[str, str]]
) -> None:
    response = get(api, user, query)

    linked = {relation: link["url"] for relation, link in response.links.items()}
    assert {name: dict(parse_qsl(urlsplit(linked[name]).query)) for name in links} == links
    assert ("prev" in linked) == ("prev" in links)
    assert all(api.get(url).status_code == 200 for url in linked.values())
