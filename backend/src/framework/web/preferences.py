"""What clients would like: `Prefer` (RFC 7240), and the weights of `Accept…` (RFC 9110 §12.4.2).

Only the first MOST_ITEMS items of a list count, and only the first MOST_ITEMS parameters of an
item, because a head has room for thousands.
"""

import re

MOST_ITEMS = 100

_PREFERENCE = re.compile(r'\s*([!#-\'*+.^-z|~A-Z0-9-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s;,"]*)))?')


def preferences(prefer: str | None) -> dict[str, str]:
    """Read each preference and its value, without parameters.

    If a preference comes twice, the first counts: §2.
    """
    found: dict[str, str] = {}
    for item in _items(prefer or ""):
        if parts := _PREFERENCE.match(item):
            found.setdefault(parts[1].lower(), parts[2] or parts[3] or "")
    return found


def seconds_to_wait(prefer: str | None, most: int) -> int:
    """Return how many seconds the client would wait for an answer (§4.3); 0 if it does not say."""
    text = preferences(prefer).get("wait", "")
    return min(int(text), most) if re.fullmatch("[0-9]{1,9}", text) else 0


# A quoted text without an end goes on to the field's end. Otherwise, each quotation mark in the
# text could begin another text.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?')
_WEIGHT = re.compile(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*")


def weights(accept: str) -> dict[str, float]:
    """Read the weight of each name in lower case, in the field's order. No weight means 1."""
    found: dict[str, float] = {}
    for item in _items(_QUOTED.sub("", accept.lower())):
        name, *parameters = _items(item, ";")
        values = [weight[1] for each in parameters if (weight := _WEIGHT.fullmatch(each))]
        found[name.strip()] = float(values[0]) if values else 1
    return found


def _items(field: str, sign: str = ",") -> list[str]:
    return field.split(sign, MOST_ITEMS)[:MOST_ITEMS]
