"""The one form of times in answers: 2026-12-24T09:30:00.000000+00:00, always with six digits.

PostgreSQL leaves zeros at the end out. To have it write them took a list of 100 a tenth longer, and
three times as long to plan behind a pooler. So they are added when a row's JSON is read. In JSON
that PostgreSQL writes, `_at":"` and `_date":"` are the ends of names only: in a text, quotes are
escaped. Columns with such names are times: see `table_of`.
"""

import re
from collections.abc import Iterable

_TIME = re.compile(
    rb'(_(?:at|date)":"[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9:]{8})(\.[0-9]{1,6})?(?=\+00:00"[,}])'
)


_others: list[tuple[bytes, int]] = []
_POINT, _QUOTE = b'."'


def expect_times(names: Iterable[str]) -> None:
    """Let rows that end with `created_at` and `updated_at` have these times, too."""
    known = {name for name, _ in _others} | {f'"{name}":'.encode() for name in names}
    _others[:] = [(name, len(name)) for name in sorted(known)]


def with_six_digits(json: bytes) -> bytes:
    """Write the times of a row in the one form. Other JSON, and years before 1, stay as they are.

    Almost every row ends with two times of six digits, which their points tell: it takes least.
    """
    if len(json) > 97 and json[-15] == _POINT == json[-63]:
        for name, length in _others:
            start = json.rfind(name)
            if start < 0 or json[start + length] != _QUOTE:
                continue
            end = start + length + 20
            if json[end : end + 7] != b'+00:00"':
                break
            json = b"%b.000000%b" % (json[:end], json[end:])
        else:
            return json
    return _TIME.sub(_filled, json)


def _filled(time: re.Match[bytes]) -> bytes:
    return time[1] + (time[2] or b".").ljust(7, b"0")


def as_postgresql_writes(json: bytes) -> bytes:
    """Undo `with_six_digits`."""
    return _TIME.sub(_cut, json) if b'0+00:00"' in json else json


def _cut(time: re.Match[bytes]) -> bytes:
    return time[1] + (time[2] or b"").rstrip(b".0")
