"""What clients would like, but do not need: `Prefer` (RFC 7240)."""

import re

_PREFERENCE = re.compile(r'\s*([!#-\'*+.^-z|~A-Z0-9-]+)\s*(?:=\s*(?:"([^"]*)"|([^\s;,"]*)))?')


def preferences(prefer: str | None) -> dict[str, str]:
    """Read each preference and its value, without parameters; of two alike the first counts: §2."""
    found: dict[str, str] = {}
    for item in (prefer or "").split(","):
        if parts := _PREFERENCE.match(item):
            found.setdefault(parts[1].lower(), parts[2] or parts[3] or "")
    return found


def seconds_to_wait(prefer: str | None, most: int) -> int:
    """Return how many seconds the client would wait for an answer (§4.3); 0 if it does not say."""
    text = preferences(prefer).get("wait", "")
    return min(int(text), most) if re.fullmatch("[0-9]{1,9}", text) else 0
