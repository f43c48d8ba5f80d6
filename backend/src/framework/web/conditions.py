"""The preconditions `If-Match` and `If-None-Match`: RFC 9110 §13."""

import re
from typing import NamedTuple

from pydantic_core import PydanticCustomError

ETAGS = {
    "pattern": '^(\\*|(W/)?"[!#-~]*"(, ?(W/)?"[!#-~]*")*)$',
    "examples": ['"5d41402abc4b2a76"'],
}
"""The JSON schema of what clients send as If-Match."""

_TAG = re.compile(r'(?:W/)?"([!#-~\x80-\xff]*)"')


class ConditionNotMet(Exception):
    """The resource does not meet the request's If-Match or If-None-Match."""


class Condition(NamedTuple):
    """The resource's ETag must be one of `etags` if `wanted`, or none of them if not."""

    etags: list[str]
    wanted: bool


def is_etag_list(text: str) -> bool:
    """Whether this is `*` or a list of entity tags; its elements may be empty: §5.6.1, §8.8.3."""
    tag, comma = _TAG.pattern, r"[ \t]*,[ \t,]*"
    return text == "*" or re.fullmatch(rf"[ \t,]*{tag}(?:{comma}{tag})*[ \t,]*", text) is not None


def are_etags(text: str) -> str:
    """Raises PydanticCustomError unless this is `*` or a list of entity tags."""
    if not is_etag_list(text):
        raise PydanticCustomError("etags", "must be * or a list of entity tags")
    return text


def condition(if_match: str | None, if_none_match: str | None) -> Condition | None:
    """Combine both headers for an existing resource; None if any state will do: §13.1.1, §13.1.2.

    If-Match accepts weak ETags, unlike a strong comparison (§8.8.3.2): a proxy that compresses a
    response weakens its strong ETag, and no other state of the resource has the same.
    """
    if if_none_match == "*":
        return Condition([], wanted=True)
    unwanted = [] if if_none_match is None else _TAG.findall(if_none_match)
    if if_match in {None, "*"}:
        return Condition(unwanted, wanted=False) if unwanted else None
    return Condition([tag for tag in _TAG.findall(if_match) if tag not in unwanted], wanted=True)


def matches(etag: str, asked: str) -> bool:
    """Whether one of the `asked` ETags is this one, by weak comparison: §8.8.3.2."""
    return asked == "*" or not set(_TAG.findall(etag)).isdisjoint(_TAG.findall(asked))
