"""The one form of times in answers: 2026-12-24T09:30:00.000000+00:00, always with six digits.

PostgreSQL leaves out zeros at the end. When it wrote them, a list of 100 took a tenth longer, and
three times as long to plan behind a pooler. So Python adds them when it reads a row's JSON. In JSON
that PostgreSQL writes, `_at":"` and `_date":"` are the ends of names only: in a text, quotes are
escaped. Columns with such names are times: see `table_of`.

Most rows need no zeros. Their last columns are a column that may be a time, `created_at` and
`updated_at`. So each twelfth byte from the end shows that all digits are there.
"""

import re
from collections.abc import Iterable

_TIME = re.compile(
    rb'(_(?:at|date)":"[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9:]{8})(\.[0-9]{1,6})?(?=\+00:00"[,}])'
)

_TWELFTHS = slice(-111, None, 12)
_whole = [b"dla-.0a-.0", b".0a-.0a-.0"]
"""Each twelfth byte from the end of a task that needs no zeros. Its `due_date` may be null.

`.` begins six digits, `0` ends `+00:00`, `a` is in the next time's name and `-` in its date.
"""

_LAST, _LAST_AT = b'_at":"', slice(-40, -34)
"""The end of the last time's name. A member's text may have the twelfth bytes, but not this end."""

_LAST_TWO = b"a-.0a-.0"

# Where the first of the three times has its parts if it has no fraction.
_NAMES = ((b'_date":"', -131), (b'_at":"', -129))
_ZONE, _ZONE_AT = b'+00:00"', -104

_further: set[bytes] = set()


def expect_times(names: Iterable[str]) -> None:
    """Let rows that end with three times have times of these names, too."""
    _further.update(b'"%b":"' % name.encode() for name in names)
    if _further:
        _whole.clear()  # the end of a row does not say enough


def with_six_digits(json: bytes) -> bytes:
    """Write the times of a row in the one form.

    Other JSON, and years before 1, stay as they are.
    """
    ends = json[_TWELFTHS] if json[_LAST_AT] == _LAST else b""
    if ends in _whole:
        return json
    if ends[2:] == _LAST_TWO and not any(name in json for name in _further):
        if not json.startswith(_ZONE, _ZONE_AT):
            return json
        if any(json.startswith(*name) for name in _NAMES):
            return b"%b.000000%b" % (json[:_ZONE_AT], json[_ZONE_AT:])
    return _TIME.sub(_filled, json)


def _filled(time: re.Match[bytes]) -> bytes:
    return time[1] + (time[2] or b".").ljust(7, b"0")


def as_postgresql_writes(json: bytes) -> bytes:
    """Undo `with_six_digits`."""
    return _TIME.sub(_cut, json)


def _cut(time: re.Match[bytes]) -> bytes:
    return time[1] + (time[2] or b"").rstrip(b".0")
