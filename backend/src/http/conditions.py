"""What `If-Match` and `If-None-Match` ask: RFC 9110 §13."""

import re
from typing import NamedTuple

_TAG = re.compile(r'(?:W/)?"([!#-~\x80-\xff]*)"')


class ConditionNotMet(Exception):
    """What is there is not, or no more, what the client's request depends on."""


class Condition(NamedTuple):
    """What a task's ETag is to be: one of these, or, if these are not wanted, none of them."""

    etags: list[str]
    wanted: bool


def is_etag_list(text: str) -> bool:
    """Whether this is `*` or a list of entity tags, some perhaps empty: §5.6.1, §8.8.3."""
    tag, comma = _TAG.pattern, r"[ \t]*,[ \t,]*"
    return text == "*" or re.fullmatch(rf"[ \t,]*{tag}(?:{comma}{tag})*[ \t,]*", text) is not None


def condition(if_match: str | None, if_none_match: str | None) -> Condition | None:
    """Return what both ask of a task that is there, or None if it may be any: §13.1.1, §13.1.2.

    Weak ETags count in If-Match, other than in a strong comparison (§8.8.3.2): a task's own are
    strong, and weak once a proxy has compressed it, without another state of it having the same.
    """
    if if_none_match == "*":
        return Condition([], wanted=True)
    unwanted = [] if if_none_match is None else _TAG.findall(if_none_match)
    if if_match in {None, "*"}:
        return Condition(unwanted, wanted=False) if unwanted else None
    return Condition([tag for tag in _TAG.findall(if_match) if tag not in unwanted], wanted=True)


def matches(etag: str, asked: str) -> bool:
    """Compare weakly: §8.8.3.2."""
    return asked == "*" or not set(_TAG.findall(etag)).isdisjoint(_TAG.findall(asked))
