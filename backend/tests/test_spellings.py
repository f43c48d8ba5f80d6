"""The service understands the words of other clients, or refuses a word and names it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import pytest

from src.framework.sql.engine import create_engine
from src.migrations import upgrade
from src.schemas.task import TaskCreate
from src.schemas.task_listing import TaskListing
from src.services import task_service
from tests.citus import beside
from tests.conftest import execute
from tests.tasks import assert_problem, create, listed, task_path, tasks_path
from tests.tokens import bearer, token

JSON = {"Content-Type": "application/json"}
SHELF = "spellings"
LATE = (datetime.now(UTC) - timedelta(days=3)).isoformat()


@pytest.fixture(scope="module")
def shelf(api: httpx.Client) -> str:
    """A user with four tasks, whose titles are the letters in the rows below."""
    user = f"shelf-{datetime.now(UTC).timestamp()}"
    create(api, user, title="d", priority="low", due_date="2030-01-10", tags=["home", "x"])
    create(api, user, title="b", priority="high", due_date=LATE)
    create(api, user, title="c", priority="urgent", completed=True, tags=["x", "home"])
    create(api, user, title="a", due_date="2030-01-20", tags=["home"], description="Milk")
    return user


TRUE, FALSE = "True TRUE 1 yes Yes on ON t y", "False FALSE 0 no No off f n"

# The query of a client, and the tasks of the answer, in their order. At least three rows of each
# kind come from nobody's report.
LISTS: dict[str, dict[str, str]] = {
    "an array in brackets": {
        "tags[]=home&tags[]=x": "dc",
        "tags[0]=x&tags[1]=home": "dc",
        "tags%5B%5D=x": "dc",
        "tag[]=x": "dc",
        "labels[]=x": "dc",
        "priority[]=high&priority[]=low": "db",
        "priority[0]=high": "b",
        "completed[]=true": "c",
        "filter[tags][]=x": "dc",
        "sort[]=title": "abcd",
        'tags=["x","home"]': "dc",
        'tags=["x"]&tags=home': "dc",
        'priority=["high","low"]': "db",
        "tags=[x": "",
    },
    "an operator that means the name alone": {
        "priority[in]=high,low": "db",
        "priority__in=high&priority__in=low": "db",
        "priority[$eq]=high": "b",
        "filters[priority][$eq]=high": "b",
        "tags[contains]=x": "dc",
        "where[tags]=x": "dc",
        "completed__exact=true": "c",
        "completed[eq]=0": "dba",
        "status[in]=completed": "c",
        "due_date[eq]=none": "c",
        "overdue[eq]=true": "b",
        "hasDueDate__exact=False": "c",
        "due_date__exact=2030-01-10": "d",
        "due_date[gte]=2030-01-11": "a",
        "due_date>=2030-01-11": "a",
        "dueDate<=2030-01-10": "db",
        "due>=2030-01-11&due<=2030-01-31": "a",
        "due_date__isnull=true": "c",
        "due_date[isnull]=false": "dba",
        "dueDate[$null]=1": "c",
        "due_date[$exists]=false": "c",
        "search[value]=milk": "a",
    },
    "a truth value": {
        **{f"completed={word}": "c" for word in TRUE.split()},
        **{f"completed={word}": "dba" for word in FALSE.split()},
        "overdue=True": "b",
        "overdue=0": "dca",
        "isOverdue=yes": "b",
        "is_completed=on": "c",
        "isCompleted=False": "dba",
        "done=1": "c",
        "hide_completed=true": "dba",
        "showCompleted=no": "dba",
        "include_completed=yes": "dbca",
        "pending=1": "dba",
        "isOpen=true": "dba",
        "open=0": "c",
        "isFinished=true": "c",
        "checked=no": "dba",
        "onlyCompleted=true": "c",
        "activeOnly=1": "dba",
        "exclude_completed=true": "dba",
        "showDone=false": "dba",
        "with_completed=true": "dbca",
        "isPastDue=true": "b",
        "hasDeadline=no": "c",
        "withoutDueDate=true": "c",
    },
    "several words for completion": {
        "status[]=completed&status[]=pending": "dbca",
        "status=completed,pending": "dbca",
        "status=done,closed": "c",
        "statusFilter=open&statusFilter=todo": "dba",
        'filter={"status":["done","active"]}': "dbca",
    },
    "an order": {
        "sort=newest_first": "acbd",
        "sort=newest": "acbd",
        "sort=oldest": "dbca",
        "sort=id": "dbca",
        "sort=-id": "acbd",
        "_sort=id": "dbca",
        "_sort=title&_order=DESC": "dcba",
        "sort=createdAt": "dbca",
        "sort=-createdAt": "acbd",
        "sort=Title": "abcd",
        "sort=%2Btitle": "abcd",
        "sort=title:desc": "dcba",
        "sort=title,desc": "dcba",
        "sort=title.asc": "abcd",
        "sort=title desc": "dcba",
        "sort=title_desc": "dcba",
        "sort=titleDesc": "dcba",
        'sort=["title","DESC"]': "dcba",
        "sort=latest": "acbd",
        "sort=date_created": "dbca",
        "sort=name": "abcd",
        "sort=z-a": "dcba",
        "order=created_at.desc": "acbd",
        "order=-title": "dcba",
        "order[title]=desc": "dcba",
        "sort=title&descending=true": "dcba",
        "sort=title:-1": "dcba",
        "sort=title 1": "abcd",
        "sort[title]=-1": "dcba",
        "$sort[title]=-1": "dcba",
        "orderBy[title]=desc": "dcba",
        "sort[field]=title&sort[order]=desc": "dcba",
        "sort[by]=title&sort[direction]=asc": "abcd",
        "sortBy[]=title&sortDesc[]=true": "dcba",
        "sortBy=title&sort_asc=false": "dcba",
        "sortColumn=title&sortType=desc": "dcba",
        "sorting=-title": "dcba",
    },
    "a name": {
        "sortBy=title": "abcd",
        "sort_by=title&sort_direction=desc": "dcba",
        "sortBy=title&sortOrder=descending": "dcba",
        "order_by=title": "abcd",
        "orderBy=-title": "dcba",
        "ordering=-title": "dcba",
        "sortField=title&sortDir=-1": "dcba",
        "$orderby=title desc": "dcba",
        "pageSize=2": "db",
        "page_size=2&page=2": "ca",
        "pageSize=2&pageNumber=2": "ca",
        "page[size]=2&page[number]=2": "ca",
        "perPage=3&currentPage=2": "a",
        "$top=1&$skip=1": "b",
        "take=1&skip=2": "c",
        "Limit=1": "d",
        "due_before=2030-01-10": "db",
        "dueBefore=2030-01-09": "b",
        "due_after=2030-01-11": "a",
        "dueAfter=2030-01-10": "da",
        "dueDateFrom=2030-01-11": "a",
        "due_date[gte]=2030-01-10&due_date[lte]=2030-01-10": "d",
        "due_date__gte=2030-01-11": "a",
        "due-until=2030-01-10": "db",
        "due_date=2030-01-10": "d",
        "timeZone=Asia/Tokyo&dueDate=2030-01-10": "d",
        "tz=Asia/Tokyo&due=2030-01-10": "d",
        "searchTerm=milk": "a",
        "query=MILK": "a",
        "Q=milk": "a",
        "filter[priority]=high": "b",
        "filter=completed": "c",
        "statusFilter=done": "c",
        "status=in_progress": "dba",
        "status=not-started": "dba",
        "status=needsAction": "dba",
        "status=NEEDS-ACTION": "dba",
        "status=Resolved": "c",
        "state=closed": "c",
    },
    "no due date": {
        "due_date=none": "c",
        "dueDate=null": "c",
        "due=none": "c",
        "has_due_date=false": "c",
        "hasDueDate=0": "c",
        "has_due_date=true": "dba",
        "no_due_date=true": "c",
        "noDueDate=1": "c",
    },
    "a page of react-admin, refine and others": {
        "_start=1&_end=3": "bc",
        "_sort=title&_order=ASC&_start=0&_end=2": "ab",
        "_sort=id&_order=DESC&_start=2&_end=12": "bd",
        "_page=2&_limit=3": "a",
        "_page=1&_per_page=2": "db",
        "startRow=1&endRow=2": "b",
        "start=1&end=3": "bc",
        "start=1&limit=2": "bc",
        "start=1&length=2": "bc",
        "current=2&pageSize=3": "a",
        "_page=2&_page_size=3": "a",
        "itemsPerPage=2&page=2": "ca",
        "pageIndex=0&pageSize=3": "dbc",
        "pageIndex=1&pageSize=3": "a",
        "pagination[page]=2&pagination[pageSize]=3": "a",
        "pagination[start]=1&pagination[limit]=2": "bc",
        "$skip=1&$limit=2": "bc",
        'sort=["title","ASC"]&range=[0,1]&filter={}': "ab",
        'range=[1,9]&filter={"tags":["home"],"completed":false}': "a",
        'filter={"priority":["high","low"],"q":null}': "db",
        'filter={"priority":[],"tags":[],"completed":[]}': "dbca",
    },
    "a word for no rank": {
        "priority=none": "a",
        "priority=NORMAL": "a",
        "priority=critical,med": "ca",
        "priorities=high": "b",
    },
    "a text with white space around it": {
        "q=milk%20": "a",
        "q=%20milk": "a",
        "q=%09Milk%0A": "a",
        "q=milk%C2%A0": "a",
        "q=%20": "dbca",
        "tags=%20home%20": "dca",
    },
}


def rows(kinds: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    found = [row for table in kinds.values() for row in table.items()]
    names = [f"{kind}: {sent}" for kind, table in kinds.items() for sent in table]
    return pytest.mark.parametrize(("sent", "means"), found, ids=names)


def get(api: httpx.Client, user: str, query: str) -> httpx.Response:
    return api.get(f"{tasks_path(user)}?{query}")


@rows(LISTS)
def test_a_list_follows_every_spelling_of_its_query(
    api: httpx.Client, shelf: str, sent: str, means: str
) -> None:
    response = get(api, shelf, sent)

    assert response.status_code == 200, response.text
    assert [task["title"] for task in response.json()] == [*means]


# What the service refuses, and a part of the sentence that says what the service understands.
REFUSED = {
    "sort=colour": "'created_at', '-created_at',",
    "_sort=user_id": "'title', '-title',",
    "sort=title,priority": "'completed_at' or '-completed_at'",
    "order=sideways": "order: must be asc, desc, ",
    "sortDirection=down": "sortDirection: must be asc, desc, ",
    "status=cancelled": "status: must be true, false, all, active or completed",
    "filter=cancelled": "filter: must be true, false, all, active, completed or a JSON object",
    "filter=[1]": "or a JSON object",
    "completed=2": "completed: must be true or false",
    "tz=Mars": "time_zone: ",
    "isOverdue=soon": "isOverdue: must be true or false",
    "hide_completed=all": "hide_completed: must be true or false",
    "priority[]=p1": "must be 'low', 'medium', 'high' or 'urgent'",
    "due_date=soon": "due_date: must be none, a day such as 2026-12-24 or a time",
    "dueBefore=soon": "due_date_to: must be a day such as 2026-12-24 or a time",
    "pageSize=many": "limit: must be a whole number from 1 to 1000",
    "pageNumber=0": "pageNumber: must be a whole number from 1",
    "_start=2&_end=2": "limit: must be a whole number from 1 to 1000",
    "_start=2&_end=x": "_end: must be a whole number from 0",
    "range=all": "range: must be two numbers, as in [0,24]",
    "isCompleted=true&status=pending": "isCompleted: contradicts completed",
    "_start=1&_end=3&limit=5": "_end: contradicts limit",
    "sort=newest&order=asc": "order: contradicts sort",
    "due_date=none&has_due_date=true": "due_date: contradicts has_due_date",
    "status!=completed": "status!: is not a filter here; send completed",
    "status[ne]=completed": "status[ne]: is not a filter here; send completed",
    "priority!=high": "priority!: is not a filter here; send priority",
    "priority__gte=high": "priority__gte: is not a filter here; send priority",
    "overdue!=true": "overdue!: is not a filter here; send overdue",
    "isOverdue[ne]=true": "isOverdue[ne]: is not a filter here; send overdue",
    "has_due_date!=1": "has_due_date!: is not a filter here; send has_due_date",
    "q!=milk": "q!: is not a filter here; send q",
    "limit<5": "limit<5: is not a filter here; send limit",
    "tags[in]=home,x": "tags[in]: is not a filter here; send tags",
    "tags__any=home": "tags__any: is not a filter here; send tags",
    "due_date[strictly_after]=2030-01-10": "send due_date_from or due_date_to or has_due_date",
    "due_date_gt=2030-01-10": "send due_date_from or due_date_to or has_due_date",
    "due_date>2030-01-10": "send due_date_from or due_date_to or has_due_date",
    "due_date<2030-01-10": "send due_date_from or due_date_to or has_due_date",
    "filters[dueDate][$between]=a,b": "send due_date_from or due_date_to or has_due_date",
    'filter={"due_date__lt":"2030-01-10"}': "due_date__lt: is not a filter here",
    "$filter=completed eq true": "$filter: must be true, false, all, active, completed or",
    'where={"filter":"done"}': "where: must be true, false, all, active, completed or",
    'filter={"where":"{}"}': "or a JSON object",
    'filter={"filter[filter]":"{}"}': "or a JSON object",
    'filter={"page":2}': "filter: must name no page; send the page as a parameter of its own",
    'where={"offset":1}': "where: must name no page; send the page as a parameter of its own",
    'filter={"_end":"2"}': "filter: must name no page; send the page as a parameter of its own",
    "dueDate=2030-01-10&dueDate=2030-01-20": "dueDate: has several values; send one value",
    "sort[]=title&sort[]=created_at": "sort[]: has several values; send one value",
    "status=completed,cancelled": "status: must be true, false, all, active or completed",
    "pageIndex=-1&pageSize=2": "pageIndex: must be a whole number from 0",
    "pageIndex=1&page=1&pageSize=2": "contradicts page",
    "start=2026-12-01": "offset: must be a whole number from 0",
}


@pytest.mark.parametrize(("sent", "sentence"), REFUSED.items())
def test_an_unknown_value_that_could_change_the_list_is_refused(
    api: httpx.Client, user: str, sent: str, sentence: str
) -> None:
    response = get(api, user, sent)

    assert_problem(response, 422)
    assert sentence in response.json()["detail"]


def test_a_name_of_one_value_is_refused_with_several_values(api: httpx.Client, user: str) -> None:
    response = get(api, user, "query=milk&query=bread")

    assert_problem(response, 422, "query: has several values; send one value")


@pytest.mark.parametrize(
    "sent",
    ["colour=red", "_=1700000000", "utm_source=x", "tagsx[]=y", "sort[0][field]=title", "[]="],
)
def test_an_unknown_name_is_ignored(api: httpx.Client, shelf: str, sent: str) -> None:
    assert [task["title"] for task in get(api, shelf, sent).json()] == [*"dbca"]


@pytest.mark.parametrize(
    "sent",
    [
        "_start=1&_end=3",
        "_page=2&_limit=2",
        "_page=1&_per_page=2",
        "range=[0,1]",
        "startRow=0&endRow=2",
        "limit=2&include_total=true",
        "limit=2&withCount=1",
        "$top=2&$count=true",
    ],
)
def test_a_client_that_needs_the_number_of_all_rows_gets_the_number(
    api: httpx.Client, shelf: str, sent: str
) -> None:
    response = api.get(f"{tasks_path(shelf)}?{sent}", headers={"Origin": "http://localhost:3000"})

    assert len(response.json()) == 2
    assert response.headers["x-total-count"] == "4"
    assert "preference-applied" not in response.headers
    assert "X-Total-Count" in response.headers["access-control-expose-headers"]
    assert "x-total-count" not in get(api, shelf, "offset=1&limit=2").headers


@pytest.mark.parametrize(
    "sent",
    [
        "_start=0&_end=1",
        "_page=1&_limit=1",
        "range=[0,0]",
        "pageSize=1&currentPage=1",
        "take=1&skip=0",
        "page[size]=1&page[offset]=0",
        "pageIndex=0&pageSize=1",
        "pagination[page]=1&pagination[pageSize]=1",
        "pagination[start]=0&pagination[limit]=1",
        "start=0&end=1",
        "page=1&_end=1",
        "page=&offset=0&limit=1",
        "page_index=&page=1&limit=1",
        "_end=&page=1&limit=1",
    ],
)
def test_links_lead_through_all_pages_forward_and_back(
    api: httpx.Client, shelf: str, sent: str
) -> None:
    response = get(api, shelf, sent)
    there = [response.json()[0]["title"]]
    while "next" in response.links:
        response = api.get(response.links["next"]["url"])
        there.append(response.json()[0]["title"])
    back = [there[-1]]
    while "prev" in response.links:
        response = api.get(response.links["prev"]["url"])
        back.append(response.json()[0]["title"])

    assert there == back[::-1] == [*"dbca"]


@pytest.mark.parametrize("sent", ["_start=0&_end=1", "range=[0,0]"])
def test_every_page_of_a_client_that_needs_the_total_has_the_total(
    api: httpx.Client, shelf: str, sent: str
) -> None:
    first = get(api, shelf, sent)
    second = api.get(first.links["next"]["url"])
    again = api.get(second.links["prev"]["url"])

    totals = [each.headers["x-total-count"] for each in (first, second, again)]
    assert totals == ["4", "4", "4"]


@pytest.mark.parametrize(
    "sent", ["pageSize=1&sortBy=title", "_limit=1&_sort=title", "$top=1&order=title"]
)
def test_a_cursor_leads_through_all_pages_in_any_spelling(
    api: httpx.Client, shelf: str, sent: str
) -> None:
    response = get(api, shelf, sent)
    found = [response.json()[0]["title"]]
    while "next" in response.links:
        response = api.get(response.links["next"]["url"])
        found.append(response.json()[0]["title"])

    assert found == [*"abcd"]


def test_a_relative_link_leads_on_from_the_url_of_its_list(api: httpx.Client, shelf: str) -> None:
    """Follow the link as a client of the library `requests` has to: no URL may be relative."""
    first = get(api, shelf, "limit=3")

    second = api.get(urljoin(str(first.url), first.links["next"]["url"]))

    assert first.links["next"]["url"].startswith(f"{tasks_path(shelf)}?")
    assert [task["title"] for task in second.json()] == ["a"]


# Members of a body beside its title, and a member of the task after the request.
BODIES: dict[str, dict[str, tuple[str, object]]] = {
    "completion in other words": {
        '"status": "completed"': ("completed", True),
        '"status": "Done"': ("completed", True),
        '"status": "pending"': ("completed", False),
        '"status": "in-progress"': ("completed", False),
        '"status": true': ("completed", True),
        '"status": null': ("completed", False),
        '"isCompleted": true': ("completed", True),
        '"is_completed": true': ("completed", True),
        '"done": true': ("completed", True),
        '"Completed": true': ("completed", True),
        '"complete": "yes", "completed": true': ("completed", True),
    },
    "a due date in other words": {
        '"dueDate": "2026-12-24"': ("due_date", "2026-12-24T00:00:00.000000+00:00"),
        '"due": "2026-12-24"': ("due_date", "2026-12-24T00:00:00.000000+00:00"),
        '"deadline": "2026-12-24"': ("due_date", "2026-12-24T00:00:00.000000+00:00"),
        '"due_date": "0001-01-01T00:00:00Z"': ("due_date", None),
        '"due_date": "0001-01-01T00:00:00"': ("due_date", None),
        '"due_date": "0001-01-01T00:00:00.0000000+01:00"': ("due_date", None),
        '"due_date": "0001-01-01"': ("due_date", None),
        '"due_date": "0000-00-00 00:00:00"': ("due_date", None),
        '"DueDate": "0000-00-00"': ("due_date", None),
        '"isAllDay": true, "dueDate": "2026-12-24T00:00:00Z"': ("all_day", True),
        '"fullDay": false, "due": "2026-12-24"': ("all_day", False),
        '"whole_day": true, "due_date": "2026-12-24"': ("all_day", True),
        '"isAllDay": 1, "due_date": "2026-12-24T00:00:00Z"': ("all_day", True),
        '"allDay": "True", "due_date": "2026-12-24T00:00:00Z"': ("all_day", True),
        '"fullDay": "no", "due_date": "2026-12-24"': ("all_day", False),
        '"wholeDay": "off", "due_date": "2026-12-24"': ("all_day", False),
        '"isAllDay": "yes", "all_day": true, "due_date": "2026-12-24"': ("all_day", True),
    },
    "a rank in other words": {
        '"priority": "none"': ("priority", "medium"),
        '"priority": "None"': ("priority", "medium"),
        '"priority": "normal"': ("priority", "medium"),
        '"priority": "critical"': ("priority", "urgent"),
        '"Priority": "High"': ("priority", "high"),
    },
    "tags as one text": {
        '"tags": "home,work"': ("tags", ["home", "work"]),
        '"tags": " home , work,"': ("tags", ["home", "work"]),
        '"tags": "home"': ("tags", ["home"]),
        '"tags": ""': ("tags", []),
        '"tags": "[\\"a\\", \\"b\\"]"': ("tags", ["a", "b"]),
        '"tags": "[draft"': ("tags", ["[draft"]),
        '"labels": ["a"]': ("tags", ["a"]),
        '"tagNames": "a,b"': ("tags", ["a", "b"]),
    },
}


@rows(BODIES)
def test_a_task_follows_every_spelling_of_its_members(
    api: httpx.Client, user: str, sent: str, means: tuple[str, object]
) -> None:
    """A client sends the members in a create or a change, alone or in a batch."""
    task = f'{{"title": "x", {sent}}}'
    old = create(api, user, priority="low", tags=["old"], due_date="2030-01-01")
    created = api.post(tasks_path(user), content=task, headers=JSON).json()
    changed = api.patch(task_path(old), content=task, headers=JSON).json()
    update = f'{{"op": "update", "id": "{created["id"]}", "task": {task}}}'
    batch = f'{{"operations": [{{"op": "create", "task": {task}}}, {update}]}}'

    results = api.post(f"{tasks_path(user)}/batch", content=batch, headers=JSON).json()["results"]

    for answer in [created, changed, *(result["task"] for result in results)]:
        assert (answer["title"], answer[means[0]]) == ("x", means[1])


@pytest.mark.parametrize(
    "body", [{"status": "completed"}, {"isCompleted": True}, {"done": "yes"}, {"Completed": True}]
)
def test_a_toggle_with_completion_in_other_words_sets_completed(
    api: httpx.Client, user: str, body: dict[str, object]
) -> None:
    path = f"{task_path(create(api, user))}/complete"

    assert [api.patch(path, json=body).json()["completed"] for _ in range(2)] == [True, True]


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ('"status": "cancelled"', "status: must be true, false, active or completed"),
        ('"status": "all"', "status: must be true, false, active or completed"),
        ('"status": {}', "status: must be true, false, active or completed"),
        ('"status": "done", "completed": false', "status: contradicts completed"),
        ('"isCompleted": true, "completed": false', "isCompleted: contradicts completed"),
        ('"due": "2026-12-24", "due_date": null', "due: contradicts due_date"),
        ('"isAllDay": "soon", "due_date": "2026-12-24"', "all_day: must be true or false"),
        ('"priority": "p1"', "priority: must be 'low', 'medium', 'high' or 'urgent'"),
        ('"tags": "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u"', "tags: must have at most 20 tags"),
        ('"tags": "[1]"', "tags.0: must be a string"),
        ('"dueDate": "0001-01-02T00:00:00+24:00"', "due_date: must be a day such as"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_task_with_an_unknown_value_is_refused(
    api: httpx.Client, user: str, method: str, sent: str, sentence: str
) -> None:
    task = create(api, user)
    url = tasks_path(user) if method == "POST" else task_path(task)

    response = api.request(method, url, content=f'{{"title": "x", {sent}}}', headers=JSON)

    assert_problem(response, 422)
    assert response.json()["detail"].startswith(sentence)
    assert listed(api, user) == [task]


CAFE = ["caf\u00e9", "cafe\u0301", "CAFE\u0301", "\uff43\uff41\uff46\u00c9", "Un caf\u00e9."]


@pytest.mark.parametrize("q", CAFE[:4])
def test_a_search_finds_text_however_it_is_composed(api: httpx.Client, user: str, q: str) -> None:
    for title in [*CAFE, "cafe", "\uff76\uff8c\uff6a"]:
        create(api, user, title=title)
    create(api, user, title="x", description=CAFE[1])

    found = api.get(tasks_path(user), params={"q": q}).json()
    kana = api.get(tasks_path(user), params={"q": "カフェ"}).json()

    assert [task["title"] for task in found] == [*CAFE, "x"]
    assert [task["title"] for task in kana] == ["\uff76\uff8c\uff6a"]


def test_tags_of_the_same_text_are_one_tag_and_a_filter_finds_any_composition(
    api: httpx.Client, user: str
) -> None:
    """The service stores texts as they were sent. Half-width kana are another text."""
    first = create(api, user, tags=["b", "cafe\u0301", "caf\u00e9", "a", "カ", "\uff76"])
    second = create(api, user, tags=["caf\u00e9", "b"])
    create(api, user, tags=["cafe"])

    assert first["tags"] == ["b", "cafe\u0301", "a", "カ", "\uff76"]
    for tag in ["caf\u00e9", "cafe\u0301"]:
        found = api.get(tasks_path(user), params={"tags": f"b,{tag}"}).json()
        assert found == [first, second]


# Letters come first, then their marks, then capitals; scripts stay apart.
IN_ORDER = [
    "(apple)",
    "10 apples",
    "a",
    "A",
    "ä",
    "Ä",
    "Äpfel",
    "apple",
    "Apple",
    "apple pie",
    "Applet",
    "cœur",
    "coffee",
    "eclair",
    "Éclair",
    "Łódź",
    "lofty",
    "Øre",
    "resume",
    "Resume",
    "resumé",
    "résumé",
    "Résumé",
    "strasse",
    "Straße",
    "Strasser",
    "zebra",
    "Zebra",
    "Ωμέγα",
    "ёлка",
    "Ель",
    "Яблоко",
    "яблоня",
]


def in_pages(api: httpx.Client, user: str, sort: str, limit: int) -> list[str]:
    response = api.get(tasks_path(user), params={"sort": sort, "limit": limit})
    found = [task["title"] for task in response.json()]
    while "next" in response.links:
        response = api.get(response.links["next"]["url"])
        found += [task["title"] for task in response.json()]
    return found


def test_titles_have_the_order_that_people_expect(api: httpx.Client, user: str) -> None:
    for title in sorted(IN_ORDER, key=lambda title: title[::-1]):
        create(api, user, title=title)

    for limit in (1, 7, 100):
        assert in_pages(api, user, "title", limit) == IN_ORDER
        assert in_pages(api, user, "-title", limit) == IN_ORDER[::-1]


@pytest.mark.anyio
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
async def test_titles_have_the_order_that_people_expect_in_any_locale(
    direct: str, locale: str
) -> None:
    name = f"test_{uuid4().hex}"
    await execute(direct, f"CREATE DATABASE {name} TEMPLATE template0 LOCALE '{locale}'")
    engine = create_engine(beside(direct, name), pool_size=1)
    await upgrade(engine, beside(direct, name))
    for title in sorted(IN_ORDER, key=lambda title: title[::-1]):
        await task_service.create_task(engine, "ada", TaskCreate(title=title))

    page = await task_service.list_tasks(engine, "ada", TaskListing(sort="title"))

    assert [task["title"] for task in json.loads(b"".join(page.rows.pieces()))] == IN_ORDER
    await engine.dispose()
    await execute(direct, f"DROP DATABASE {name}")


def test_a_byte_order_mark_is_ignored(api: httpx.Client, user: str) -> None:
    body = '\ufeff{"title": "ok"}'.encode()

    assert api.post(tasks_path(user), content=body, headers=JSON).json()["title"] == "ok"


@pytest.mark.parametrize(
    ("title", "encoding"),
    [
        *(("Übung", each) for each in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1")),
        ("Run", "utf-16-le"),  # these bytes are also UTF-8
    ],
)
def test_another_encoding_than_utf_8_is_named(
    api: httpx.Client, user: str, title: str, encoding: str
) -> None:
    body = json.dumps({"title": title}, ensure_ascii=False).encode(encoding)

    response = api.post(tasks_path(user), content=body, headers=JSON)

    assert_problem(response, 422, "body: must be JSON in UTF-8")


@pytest.mark.parametrize(
    "path", ["//api/{}/tasks", "/api//{}/tasks", "/api/{}//tasks", "//api///{}//tasks//"]
)
def test_slashes_in_a_row_are_one_slash(api: httpx.Client, user: str, path: str) -> None:
    url = httpx.URL(api.base_url, raw_path=path.format(user).encode())

    created = api.post(
        url, json={"title": "x"}, auth=lambda request: request, headers=bearer(token(user))
    )

    assert created.status_code == 201
    assert created.headers["location"] == task_path(created.json())
    assert listed(api, user) == [created.json()]
