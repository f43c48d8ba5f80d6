"""The one form of times in answers: 2026-12-24T09:30:00.000000+00:00, always with six digits.

PostgreSQL leaves out the zeros at the end of a time. When our SQL made PostgreSQL write the zeros,
a list of 100 took a tenth longer. Behind a pooler, PostgreSQL took three times as long to plan the
list. So Python adds the zeros when it reads a row's JSON. In JSON from PostgreSQL, only a name can
end in `_at":"` or `_date":"`, because a text has its quotes escaped. A column with such a name is a
time: `table_of` checks this.
"""

import re

IS_NAME_OF_TIME = re.compile("_(at|date)$")

_BEGIN = rb'(_(?:at|date)":"[0-9-]{10,12}T.{8})'
_NEEDS_ZEROS = re.compile(_BEGIN + rb'(\.[0-9]{1,5}+)?+(?=\+00:00")', re.DOTALL)
_HAS_FRACTION = re.compile(_BEGIN + rb'(\.[0-9]{6})(?=\+00:00")', re.DOTALL)


def with_six_digits(json: bytes) -> bytes:
    """Write the times of a row in the one form.

    The rest of the JSON stays as it is, and so do times in years before 1.
    """
    return _NEEDS_ZEROS.sub(_filled, json)


def _filled(time: re.Match[bytes]) -> bytes:
    return time[1] + (time[2] or b".").ljust(7, b"0")


def as_postgresql_writes(json: bytes) -> bytes:
    """Undo `with_six_digits`."""
    return _HAS_FRACTION.sub(_cut, json)


def _cut(time: re.Match[bytes]) -> bytes:
    return time[1] + time[2].rstrip(b".0")
