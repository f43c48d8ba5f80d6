"""The one form of times in answers: 2026-12-24T09:30:00.000000+00:00, always with six digits.

PostgreSQL leaves out zeros at the end. When it wrote them, a list of 100 took a tenth longer, and
three times as long to plan behind a pooler. So Python adds them when it reads a row's JSON. In JSON
that PostgreSQL writes, `_at":"` and `_date":"` are the ends of names only: in a text, quotes are
escaped. Columns with such names are times: see `table_of`.
"""

import re
import struct
from collections.abc import Sequence

_BEGIN = rb'(_(?:at|date)":"[0-9-]{10,12}T.{8})'
_NEEDS_ZEROS = re.compile(_BEGIN + rb'(\.[0-9]{1,5}+)?+(?=\+00:00")', re.DOTALL)
_HAS_FRACTION = re.compile(_BEGIN + rb'(\.[0-9]{6})(?=\+00:00")', re.DOTALL)


def with_six_digits(json: bytes) -> bytes:
    """Write the times of a row in the one form.

    Other JSON, and years before 1, stay as they are.
    """
    return _NEEDS_ZEROS.sub(_filled, json)


def _filled(time: re.Match[bytes]) -> bytes:
    return time[1] + (time[2] or b".").ljust(7, b"0")


def as_postgresql_writes(json: bytes) -> bytes:
    """Undo `with_six_digits`."""
    return _HAS_FRACTION.sub(_cut, json)


def _cut(time: re.Match[bytes]) -> bytes:
    return time[1] + time[2].rstrip(b".0")


class RowEnd:
    """The times that stand last in the rows of a list: their names, and which may be null.

    Most rows need no zeros: a time that may be null is null, and the others have six digits. A byte
    of each shows this: the last of `null`, or the `.` before the digits. The last name is compared
    in full: in a further member, no text has its quotes.
    """

    def __init__(self, times: Sequence[tuple[str, bool]]) -> None:
        self._bytes = struct.Struct("")
        self._whole: tuple[bytes, ...] | None = None
        if times:
            *others, (last, _) = times
            parts = [f"{len(name) + 3}x{'3xc' if null else '20xc13x'}x" for name, null in others]
            self._bytes = struct.Struct("".join([*parts, f"{len(last) + 4}s19xc14x"]))
            marks = [b"l" if null else b"." for _, null in others]
            self._whole = (*marks, b'"%b":"' % last.encode(), b".")

    def with_six_digits(self, rows: list[bytes]) -> list[bytes]:
        """Write the times of these rows in the one form."""
        read, place, whole = self._bytes.unpack_from, -self._bytes.size, self._whole
        try:
            # A call for each row would take longer than what it does.
            return [row if read(row, place) == whole else with_six_digits(row) for row in rows]
        except struct.error:  # a row is shorter, as that of a deleted task
            return [*map(with_six_digits, rows)]
