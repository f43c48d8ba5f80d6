"""How clients spell what they send: the names and the words of others, and what each means here.

Schemas translate with these tables before they validate, so that no code behind the schemas knows
any other spelling. A name may have any capitals and marks: `dueBefore`, `due-before` and
`due[before]` are `due_before`. An unknown name stays as it is, and validators ignore or refuse it.
An unknown word of a known name is refused, and so are two names that contradict each other.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from pydantic import ValidationError
from pydantic_core import PydanticCustomError, from_json

from src.schemas.fields import WholeNumber, read_time, with_plus

MAX_PAGE = 1000
MAX_NUMBER = 2**31 - 1

SIZE = WholeNumber(1, MAX_PAGE, is_text=True)
NUMBER = WholeNumber(0, MAX_NUMBER, is_text=True)

Words: TypeAlias = dict[str, Any]
"""What each word means. Words are plain: see `_plain`."""

Sent: TypeAlias = dict[str, Any]
"""The names that a client sent, each with its value. In a query, a value is a text or several."""

_ANY = object()
"""The meaning of a word that asks for no filter."""


_MARKS = re.compile("[^a-z0-9]+")

LONGEST_SPELLING = 100
"""Characters. No known name is longer, and a batch may have a name of 3 MiB."""


def _plain(spelling: object) -> str:
    """Drop capitals and marks, except a mark at the beginning."""
    text = str(spelling)
    if len(text) > LONGEST_SPELLING:
        return text
    text = text.lower()
    return text if text.isalnum() and text.isascii() else text[:1] + _MARKS.sub("", text[1:])


def _meanings(table: Mapping[Any, str]) -> dict[str, Any]:
    return {_plain(word): meaning for meaning, words in table.items() for word in words.split()}


# The words.

TRUTH: Words = _meanings({True: "true 1 yes on t y", False: "false 0 no off f n"})

COMPLETION: Words = TRUTH | _meanings(
    {
        _ANY: "all any",
        False: "active open pending todo incomplete not_completed new not_started in_progress "
        "needs_action not_done uncompleted doing",
        True: "completed complete done finished closed resolved",
    }
)

PRIORITY_WORDS: Words = _meanings({"medium": "none normal default med", "urgent": "critical"})

_NOTHING: Words = _meanings({False: "none null nil"})
_DIRECTIONS: Words = _meanings({"": "asc ascending ascend 1", "-": "desc descending descend -1"})

_SORTS: Words = _meanings(
    {
        "created_at": "id created date_created creation_date created_on date_added oldest "
        "oldest_first",
        "-created_at": "newest newest_first latest latest_first most_recent recent",
        "updated_at": "updated modified modified_at last_modified updated_on date_updated",
        "-updated_at": "recently_updated last_updated recently_modified",
        "due_date": "due due_on due_at deadline",
        "completed_at": "completed_on date_completed completed_date completion_date done_at "
        "finished_at",
        "-completed_at": "recently_completed last_completed recently_done",
        "title": "name alphabetical a_z",
        "-title": "z_a",
    }
)

_SHOWN = {"true", "false", "all", "active", "completed", "exact", "asc", "desc"}
"""The words that a message shows. Other words are spellings of these words."""

_ZERO_TIME = re.compile(
    r"(0001-01-01|0000-00-00)([Tt ]00:00(:00([.,]0+)?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?)?"
)
"""What Go, .NET and MySQL send for no time."""


def _if(true: object, false: object) -> Words:
    return {word: true if is_true else false for word, is_true in TRUTH.items()}


# The names of the order and the pages of any list. Our names are on the left. `count`, `end`,
# `order`, `page`, `page_index` and `range` are ours in this module only.
_OF_LISTS: dict[str, str] = {
    "limit": "page_size per_page page_limit size take top max_results _limit _per_page $top $limit "
    "_page_size items_per_page results_per_page rows_per_page page_length length rows",
    "offset": "skip page_offset start_row _start $skip start start_index",
    "page": "page_number page_no page_num current_page current _page",
    "page_index": "",
    "end": "end_row _end",
    "range": "",
    "sort": "sort_by order_by ordering sort_field sort_key sort_column sorting sorts _sort "
    "$orderby $sort",
    "order": "sort_order sort_direction sort_dir order_direction order_dir direction dir _order "
    "sort_type",
    "count": "include_total include_totals with_count $count",
}

MAX_FILTERS = 20
_RANGE = re.compile(r"\[?([0-9]{1,10})[,-]([0-9]{1,10})\]?")

_COUNTED = _meanings({True: "end_row _end _limit _page _per_page range start_row _start"})
"""The names of clients that read X-Total-Count: react-admin, refine, json-server, AG Grid."""

# As above, `due_date` and `filter` are ours in this module only.
OF_TASKS: dict[str, str] = {
    "q": "search query search_query search_term search_text search_value keyword keywords term _q "
    "$search",
    "completed": "status status_filter completion_status task_status state is_completed complete "
    "is_complete done is_done",
    "priority": "priorities priority_filter",
    "tags": "tag tag_names tag_filter label labels",
    "due_date": "due due_on due_at deadline",
    "has_due_date": "has_due has_deadline with_due_date due_date_exists due_exists",
    "due_date_from": "due_from due_after due_since due_gte due_min due_start due_date_after "
    "due_date_gte due_date_min due_date_start from_due_date min_due_date",
    "due_date_to": "due_to due_before due_until due_by due_lte due_max due_end due_date_before "
    "due_date_lte due_date_max due_date_end to_due_date max_due_date",
    "completed_from": "completed_after completed_since completed_gte completed_min completed_start "
    "completed_at_from completed_at_after completed_at_since completed_at_gte completed_at_min "
    "completed_at_start completed_date_from completed_date_after from_completed_at "
    "min_completed_at done_from done_after done_since finished_after finished_since",
    "completed_to": "completed_before completed_until completed_lte completed_max completed_end "
    "completed_at_to completed_at_before completed_at_until completed_at_lte completed_at_max "
    "completed_at_end completed_date_to completed_date_before to_completed_at max_completed_at "
    "done_to done_before done_until finished_before finished_until",
    "time_zone": "tz",
    "overdue": "is_overdue overdue_only only_overdue past_due is_past_due late is_late",
    "filter": "filters where $filter",
}

_WITH_WORDS: dict[str, tuple[str, Words]] = {
    _plain(each): (name, words)
    for name, words, others in (
        ("completed", TRUTH, "finished is_finished checked is_checked closed is_closed"),
        (
            "completed",
            _if(False, True),
            "active is_active open is_open pending is_pending incomplete is_incomplete "
            "uncompleted not_completed not_done",
        ),
        (
            "completed",
            _if(False, _ANY),
            "hide_completed hide_done exclude_completed exclude_done active_only only_active "
            "open_only only_open pending_only only_pending incomplete_only only_incomplete",
        ),
        ("completed", _if(True, _ANY), "completed_only only_completed done_only only_done"),
        (
            "completed",
            _if(_ANY, False),
            "include_completed include_done show_completed show_done with_completed",
        ),
        ("has_due_date", _if(False, _ANY), "no_due_date no_due no_deadline without_due_date"),
        ("has_due_date", _if(False, True), "due_date_is_null due_date_null due_is_null due_null"),
        ("order", _if("", "-"), "ascending asc is_asc is_ascending sort_asc sort_ascending"),
        (
            "order",
            _if("-", ""),
            "descending desc is_desc is_descending sort_desc sort_descending reverse reversed",
        ),
    )
    for each in others.split()
}

_COMPARED = ("completed", "due_date", "has_due_date", "overdue", "priority", "tags")
_SAME = "eq equals exact is contains in"
"""Operators that other clients write behind a name of `_COMPARED`, and that change nothing."""

_NOT_COMPARED = (
    "ne neq not is_not nin not_in gt lt gte lte not_contains like ilike between range starts_with "
    "ends_with any any_of one_of in regex strictly_before strictly_after"
)
"""No filter here has these operators, unless a table above has the whole name."""

_SIGNS = {"!=": "ne", ">=": "gte", "<=": "lte", "<": "lt", ">": "gt", "!": "ne"}
_SIGNED_NAME = re.compile(r"([^!<>]+)([!<>])(.*)", re.DOTALL)

_WORDS: dict[str, Words] = {
    "completed": COMPLETION,
    "count": TRUTH | {"exact": True},
    "has_due_date": TRUTH,
    "order": _DIRECTIONS,
    "overdue": TRUTH,
}
_TIMES = {"completed_at", "created_at", "due_date"}
_OF_BODIES = ("completed", "due_date", "priority", "tags")
_ALL_DAY = ("isallday", "fullday", "wholeday")
_OF_PLACE = {"end", "offset", "page", "page_index", "range"}
_SEVERAL = {"priority", "tags"}
_NEVER_EMPTY = {"completed", "cursor", "limit", "sort"}
_EMPTY: tuple[Any, ...] = ("", [""])


class _Meaning(NamedTuple):
    """What a name stands for: its place in the tables, the name here, its words if it has any."""

    place: int
    name: str
    words: Words
    operator: str = ""
    """An operator of other clients that no filter here has."""


class Spellings(NamedTuple):
    """How clients may spell what a list takes."""

    own: frozenset[str]
    """The names here."""
    names: Mapping[str, _Meaning]
    """What each plain name stands for."""
    sorts: Words
    """The order here that each plain word stands for."""
    orders: Collection[str]
    """The orders here."""


def spellings(own: Iterable[str], sorts: Collection[str], filters: dict[str, str]) -> Spellings:
    own = frozenset(own)
    kept = dict.fromkeys(own, "") | _OF_LISTS | filters
    names = {
        plain: (name, _WORDS.get(name, {}))
        for name, others in kept.items()
        for plain in map(_plain, [name, *others.split()])
    }
    names |= {plain: each for plain, each in _WITH_WORDS.items() if each[0] in kept}
    compared = [
        (word, (name, _WORDS.get(name, {})))
        for name in _COMPARED
        if name in kept
        for word in [name, *kept[name].split()]
    ]
    same = {
        _plain(f"{word}_{operator}"): each
        for word, each in compared
        for operator in _SAME.split()
        if (each[0], operator) != ("tags", "in")  # which asks for any of several tags
    }
    names = same | names
    words = {word: sort for word, sort in _SORTS.items() if sort in sorts}
    meanings = {plain: _Meaning(place, *each) for place, (plain, each) in enumerate(names.items())}
    refused = {
        _plain(f"{word}_{operator}"): _Meaning(len(meanings), *each, operator)
        for word, each in compared
        for operator in _NOT_COMPARED.split()
    }
    return Spellings(
        own,
        refused | meanings,
        words | {_plain(sort): sort for sort in sorts if not sort.startswith("-")},
        sorts,
    )


class _Other(NamedTuple):
    """Another name, as the client sent it."""

    means: _Meaning
    sent: str
    text: Any


def in_our_words(query: Sent, how: Spellings) -> Sent:
    """Translate a query. A parameter without a value is absent, as in forms.

    The result has `counted` if the client needs the number of all rows. Raises ValidationError for
    names that contradict each other, and for unknown words.
    """
    ours: Sent = {}
    others: list[_Other] = []
    for name, text in query.items():
        if name not in how.own:
            if text not in _EMPTY or _SIGNED_NAME.fullmatch(name):
                found = _others(name, text, how)
                others += found
                if not found:
                    ours[name] = text
        elif text not in _EMPTY or name in _NEVER_EMPTY:
            ours[name] = text
    for name in ours.keys() & _WORDS.keys():
        ours[name] = _WORDS[name].get(_plain(ours[name]), ours[name])
    if "sort" in ours:
        ours["sort"] = _sort(ours["sort"], how)
    if others:
        for other in sorted(others, key=lambda other: other.means.place):
            _add(ours, other, how)
        _turn(ours, others)
        _page(ours, others)
        if ours.pop("count", False) is True:
            ours["counted"] = True
    return {name: value for name, value in ours.items() if value is not _ANY}


_INDEX = re.compile(r"\[[0-9]*\]$")
_IN_GROUP = re.compile(r"(?:filters?|where|pagination)\[(.+?)\](.*)")
_OF_COLUMN = re.compile(r"(?:\$?sort|order(?:_?by)?)\[([^\]0-9]+)\]", re.IGNORECASE)


def _others(name: str, text: Any, how: Spellings) -> list[_Other]:  # noqa: ANN401 - a text, or several
    """Return what a name stands for; a `filter` in JSON stands for each name in it."""
    sent = name
    if (column := _OF_COLUMN.fullmatch(name)) and _plain(name) not in how.names:
        name, text = "sort", f"{column[1]} {several(text)[-1]}"
    plain = _plain_name(name)
    if (means := how.names.get(plain)) is None:
        if (signed := _SIGNED_NAME.fullmatch(name)) and (of := how.names.get(_plain(signed[1]))):
            raise _no_such_comparison(sent, of, how)
        return []
    if means.operator:
        raise _no_such_comparison(sent, means, how)
    if means.name == "filter":
        return _in_filter(sent, several(text)[-1], how)
    found = [_Other(means, sent, text)]
    return [*found, _Other(how.names["count"], sent, "true")] if plain in _COUNTED else found


def _plain_name(name: str) -> str:
    if grouped := _IN_GROUP.fullmatch(name):
        name = grouped[1] + grouped[2]
    elif signed := _SIGNED_NAME.fullmatch(name):  # `a>=b` has the name `a>`. `a>b` is a name
        name = f"{signed[1]}_{_SIGNS[signed[2] + '=' * (not signed[3])]}"
    return _plain(_INDEX.sub("", name))


def _in_filter(sent_name: str, text: str, how: Spellings) -> list[_Other]:
    if _plain(text) in COMPLETION:
        return [_Other(how.names["completed"], sent_name, text)]
    filters: object = None
    with suppress(ValueError):
        filters = from_json(text)
    if isinstance(filters, dict) and len(filters) < MAX_FILTERS and not _nested(filters, how):
        sent = {name: several(each) for name, each in filters.items() if each not in (None, [])}
        others = [
            other
            for name, texts in sent.items()
            for other in _others(name, [*map(str, texts)], how)
        ]
        if any(other.means.name in _OF_PLACE for other in others):
            raise _wrong(sent_name, "must name no page; send the page as a parameter of its own")
        return others
    raise _wrong(sent_name, _must_be(COMPLETION, "a JSON object"))


def _nested(filters: Sent, how: Spellings) -> bool:
    """Whether a `filter` has another `filter` in it: a text could nest very many filters."""
    found = (how.names.get(_plain_name(name)) for name in filters)
    return any(means is not None and means.name == "filter" for means in found)


def _add(ours: Sent, other: _Other, how: Spellings) -> None:
    name, words, text = other.means.name, other.means.words, other.text
    if name in _SEVERAL:
        ours[name] = [*several(ours.get(name, [])), *several(text)]
        return
    value: Any = _one(other)
    plain = _plain(value)
    if name == "due_date" and plain not in _NOTHING:
        _read_day(other, value)
        for end in ("due_date_from", "due_date_to"):
            _put(ours, end, other, value)
        return
    if name == "due_date":
        name, value = "has_due_date", False
    elif name == "sort":
        value = _sort(value, how)
    elif plain in words:
        value = words[plain]
    elif name == "order" and (sort := _sort(value, how)) in how.orders:
        name, value = "sort", sort
    elif words:
        raise _wrong(other.sent, _must_be(words, *(how.orders if name == "order" else ())))
    _put(ours, name, other, value)


def _one(other: _Other) -> Any:  # noqa: ANN401 - a text, or the meaning of several
    """Return the one value of a name; whoever names open and done tasks means all."""
    texts = several(other.text)
    if other.means.name == "completed":
        words = [word for text in texts for word in str(text).split(",")]
        found = {other.means.words.get(_plain(word), word) for word in words}
        if found <= {True, False, _ANY}:
            return words[0] if len(found) == 1 else "any"
    if len({*texts}) > 1:
        raise _wrong(other.sent, "has several values; send one value")
    return texts[-1]


def _put(ours: Sent, name: str, other: _Other, value: object) -> None:
    if ours.setdefault(name, value) != value:
        raise _wrong(other.sent, f"contradicts {name}")


def _read_day(other: _Other, text: str) -> None:
    try:
        read_time(with_plus(text))
    except PydanticCustomError as error:
        message = error.message().replace("must be", "must be none,")
        raise _wrong(other.sent, message) from None


_SIGN_BEHIND = re.compile(r"[\s:,](-?)1$")
_WAY = re.compile(r"(.*?)(asc|desc)(?:end|ending)?(?:nullslast)?")


def _sort(text: str, how: Spellings) -> str:
    """Return the order that a text stands for, or the text itself if it is unknown."""
    if text in how.orders:
        return text
    text = _SIGN_BEHIND.sub(lambda sign: " desc" if sign[1] else " asc", text)
    plain = _plain(text.lstrip(' +"['))
    if plain.startswith("-") and "--" in text:
        return text
    word, way = plain.removeprefix("-"), "-" if plain.startswith("-") else ""
    if word not in how.sorts and (parts := _WAY.fullmatch(word)):
        word, way = parts[1] or "createdat", way or _DIRECTIONS[parts[2]]
    sort: str = how.sorts.get(word, "")
    return way + sort if f"{way}{sort}" in how.orders else text


def _turn(ours: Sent, others: list[_Other]) -> None:
    """Let the list be in the direction of `order`."""
    sign: str | None = ours.pop("order", None)
    sort: str = ours.get("sort", "created_at")
    if sign == "" and sort.startswith("-"):
        raise _wrong(_first(others, "order").sent, "contradicts sort")
    if sign is not None:
        ours["sort"] = sign + sort.removeprefix("-")


def _page(ours: Sent, others: list[_Other]) -> None:
    """Say with `limit` and `offset` what `range`, `end` and `page` say."""
    if "range" in ours:
        other = _first(others, "range")
        if not (numbers := _RANGE.fullmatch(ours.pop("range"))):
            raise _wrong(other.sent, "must be two numbers, as in [0,24]")
        _put(ours, "offset", other, numbers[1])
        _put(ours, "end", other, str(int(numbers[2]) + 1))
    if "end" in ours:
        other = _first(others, "end", "range")
        first = _read(NUMBER, ours.get("offset", "0"), other)
        last = _read(NUMBER, ours.pop("end"), other)
        _put(ours, "limit", other, str(last - first))
    if "page_index" in ours:
        other = _first(others, "page_index")
        index = _read(WholeNumber(0, MAX_NUMBER - 1, is_text=True), ours.pop("page_index"), other)
        _put(ours, "page", other, str(index + 1))
    if "page" in ours:
        other = _first(others, "page", "page_index")
        number = _read(WholeNumber(1, MAX_NUMBER, is_text=True), ours.pop("page"), other)
        # Without a limit, all rows are on the first page.
        size = MAX_NUMBER
        with suppress(PydanticCustomError):  # a wrong limit is refused as such
            size = SIZE.read(ours["limit"]) if "limit" in ours else size
        _put(ours, "offset", other, str(min((number - 1) * size, MAX_NUMBER)))


def _read(kind: WholeNumber, text: str, other: _Other) -> int:
    try:
        return kind.read(text)
    except PydanticCustomError as error:
        raise _wrong(other.sent, error.message()) from None


def _no_such_comparison(sent: str, means: _Meaning, how: Spellings) -> ValidationError:
    names = sorted(each for each in how.own if means.name in each) or [means.name]
    return _wrong(sent, f"is not a filter here; send {' or '.join(names)}")


def _first(others: list[_Other], *names: str) -> _Other:
    return next(other for other in others if other.means.name in names)


def _wrong(sent: str, message: str) -> ValidationError:
    error = PydanticCustomError("other_name", message)
    return ValidationError.from_exception_data(
        "Sent", [{"type": error, "loc": (sent,), "input": None}]
    )


def _must_be(words: Iterable[str], *others: str) -> str:
    *first, last = [*(word for word in words if word in _SHOWN), *others]
    return f"must be {', '.join(first)} or {last}"


def several(texts: Any) -> list[Any]:  # noqa: ANN401 - a text, or several
    return texts if isinstance(texts, list) else [texts]


def texts_in(text: str) -> list[str]:
    """Return the texts of a list in JSON, or the text itself if it is no such list."""
    texts = _list_in(text)
    if texts is None or not all(isinstance(each, str) for each in texts):
        return [text]
    return texts


def names_of_place(query: Iterable[str], how: Spellings) -> dict[str, str]:
    """Return which names in a query say what page to list, and what each stands for."""
    found = {name: how.names.get(_plain_name(name)) for name in query}
    return {name: each.name for name, each in found.items() if each and each.name in _OF_PLACE}


def task_in_our_words(
    task: object, own: Set[str], keep: Callable[[Sent], Sent] | None = None
) -> object:
    """Translate a task that a client sent; `own` are our names of its fields.

    Members that nobody knows stay as they are. `keep` gets these members, and the result of `keep`
    is added to the task. Raises ValidationError as `in_our_words` does.
    """
    if not isinstance(task, dict):
        return task
    ours = task if task.keys() <= own else _members(task, own, keep)
    for name in own & _TIMES & ours.keys():
        time = ours[name]
        if isinstance(time, str) and time[:3] == "000" and _ZERO_TIME.fullmatch(time):
            ours = ours | {name: None}
    tags = ours.get("tags")
    if isinstance(tags, str):
        ours = ours | {"tags": _tags(tags)}
    return ours


def _members(task: Sent, own: Set[str], keep: Callable[[Sent], Sent] | None) -> Sent:
    names = {_plain(word): name for name in _OF_BODIES for word in OF_TASKS[name].split()}
    names |= dict.fromkeys(_ALL_DAY, "all_day") | {_plain(name): name for name in own}
    ours = {name: value for name, value in task.items() if name in own}
    unknown: Sent = {}
    for sent in [name for name in task if name not in own]:
        name, value = names.get(_plain(sent)), task[sent]
        if name is None:
            unknown[sent] = value
        if name is None or (name == "completed" and value is None):
            continue
        if name == "completed":
            value = COMPLETION.get(_plain(value), _ANY)
            if value is _ANY:
                words = (word for word, meaning in COMPLETION.items() if meaning is not _ANY)
                raise _wrong(sent, _must_be(words))
        if name == "all_day":
            value = TRUTH.get(_plain(value), value)
        if ours.setdefault(name, value) != value:
            raise _wrong(sent, f"contradicts {name}")
    return unknown | ours | (keep(unknown) if keep else {})


def without_spellings(sent: Sent, names: Iterable[str]) -> Sent:
    """Leave out members that have one of these names, with whatever capitals and marks."""
    plain = {*map(_plain, names)}
    return {name: value for name, value in sent.items() if _plain(name) not in plain}


LONGEST_TAGS = 64 * 1024
"""Characters of a list in JSON: five times 20 tags of 50 characters, all escaped."""

MOST_COMMAS = 1000
"""The text after so many commas counts as one tag, because a batch may have 3 MiB of commas."""


def _tags(text: str) -> object:
    """Split a text of tags at its commas; a text may also be a list in JSON."""
    if (tags := _list_in(text)) is not None:
        return tags
    return [tag for tag in text.split(",", MOST_COMMAS) if tag.strip()]


def _list_in(text: str) -> list[Any] | None:
    if text.startswith("[") and len(text) <= LONGEST_TAGS:
        with suppress(ValueError):
            found: list[Any] = from_json(text)
            return found
    return None
