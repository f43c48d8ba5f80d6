"""The one form of times in answers: 2026-12-24T09:30:00.000000+00:00, always with six digits.

PostgreSQL leaves out zeros at the end. When it wrote them, a list of 100 took a tenth longer, and
three times as long to plan behind a pooler. So Python adds them when it reads a row's JSON. In JSON
that PostgreSQL writes, `_at":"` and `_date":"` are the ends of names only: in a text, quotes are
escaped. Columns with such names are times: see `table_of`.

Most rows need nothing. Their last columns are a column that may be a time, `created_at` and
`updated_at`, so a few bytes at fixed distances from the end show that all digits are there.
"""

import re
from collections.abc import Iterable

_TIME = re.compile(
    rb'(_(?:at|date)":"[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9:]{8})(\.[0-9]{1,6})?(?=\+00:00"[,}])'
)

_CREATED, _ZONE = b',"created_at":"', b'+00:00"'
_POINT, _QUOTE, _COLON = b'.":'

# The places in a row that ends with three such times: the name of the second time, the points of
# the third, second and first, and the zone and the end of the first.
_NAME, _THIRD, _SECOND, _FIRST, _FIRST_ZONE, _FIRST_END = -97, -15, -63, -111, -104, -98

_further: set[bytes] = set()


def expect_times(names: Iterable[str]) -> None:
    """Let rows that end with three times have times of these names, too."""
    _further.update(b'"%b":"' % name.encode() for name in names)


def with_six_digits(json: bytes) -> bytes:
    """Write the times of a row in the one form.

    Other JSON, and years before 1, stay as they are.
    """
    if json.startswith(_CREATED, _NAME) and json[_THIRD] == _POINT == json[_SECOND]:
        for name in _further:
            if name in json:
                return _TIME.sub(_filled, json)
        if (
            json[_FIRST_END] != _QUOTE
            or json[_FIRST] == _POINT
            or json[_FIRST_ZONE : _FIRST_END + 1] != _ZONE
        ):
            return json
        if json[_FIRST_ZONE - 3] == _COLON:
            return b"%b.000000%b" % (json[:_FIRST_ZONE], json[_FIRST_ZONE:])
    return _TIME.sub(_filled, json)


def _filled(time: re.Match[bytes]) -> bytes:
    return time[1] + (time[2] or b".").ljust(7, b"0")


def as_postgresql_writes(json: bytes) -> bytes:
    """Undo `with_six_digits`."""
    return _TIME.sub(_cut, json)


def _cut(time: re.Match[bytes]) -> bytes:
    return time[1] + (time[2] or b"").rstrip(b".0")
