"""The preconditions `If-Match` and `If-None-Match`: RFC 9110 §13."""

import re

from src.framework.condition import Condition

_TAG = re.compile(r'(?:W/)?"([!#-~\x80-\xff]*)"')


def condition(if_match: str | None, if_none_match: str | None) -> Condition | None:
    """Combine both headers for an existing resource; None if any state will do: §13.1.1, §13.1.2.

    If-Match accepts weak ETags, which a strong comparison (§8.8.3.2) would refuse. A proxy that
    compresses a response weakens the strong ETag, and no other state has the same ETag.
    """
    if if_none_match == "*":
        return Condition([], wanted=True)
    unwanted = {} if if_none_match is None else dict.fromkeys(_TAG.findall(if_none_match))
    if if_match in {None, "*"}:
        return Condition([*unwanted], wanted=False) if unwanted else None
    return Condition([tag for tag in _TAG.findall(if_match) if tag not in unwanted], wanted=True)


def matches(etag: str, etags: str) -> bool:
    """Whether `etags`, a header's value, has this ETag, by weak comparison: §8.8.3.2."""
    return etags == "*" or not set(_TAG.findall(etag)).isdisjoint(_TAG.findall(etags))
