"""The one form of times in answers: 2026-12-24T09:30:00.000000+00:00, always with six digits.

PostgreSQL leaves out the zeros at the end of a time. When our SQL made PostgreSQL write the zeros,
a list of 100 took a tenth longer. Behind a pooler, PostgreSQL took three times as long to plan the
list. So Python adds the zeros when it reads a row's JSON. In JSON from PostgreSQL, only a name can
end in `_at":"` or `_date":"`, because a text has its quotes escaped. A column with such a name is a
time: `table_of` checks this.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

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


_NULL, _SIX = ("3xcx", b"l"), ("20xc14x", b".")
"""What follows a time's name, up to the comma: for null, and for a time with six digits.

Each pair has a layout for `struct`, and a mark: the one byte that `struct` reads.
"""


class RowEnd:
    """The times that stand last in each row: first the nullable times, then the others.

    Most rows have one of two forms, and need no zeros. In the first form, every nullable time is
    null. In the second form, the first nullable time has six digits, and every other nullable time
    is null. In both forms, the times that are not nullable have six digits.

    One byte of each time shows whether the time is null: the last byte of `null`, or the `.` before
    the digits. The last name is compared in full. No text in a further member can look like that
    name, because a text has its quotes escaped.
    """

    def __init__(self, nullable: Sequence[str], others: Sequence[str]) -> None:
        names = [*nullable, *others]
        rest = [_SIX] * len(others[:-1])
        self._null = _form(names, [*(_NULL for _ in nullable), *rest])
        self._one = _form(
            names, [*(_SIX for _ in nullable[:1]), *(_NULL for _ in nullable[1:]), *rest]
        )

    def with_six_digits(self, rows: list[bytes]) -> list[bytes]:
        """Write the times of these rows in the one form."""
        null, null_at, null_marks = self._null
        one, one_at, one_marks = self._one
        try:
            # A call for each row would take longer than the comparison itself.
            return [
                row
                if null(row, null_at) == null_marks or one(row, one_at) == one_marks
                else with_six_digits(row)
                for row in rows
            ]
        except (struct.error, TypeError):  # a row is None, or as short as a deleted task's
            return [row and with_six_digits(row) for row in rows]


class _Form(NamedTuple):
    """A form of a row's end. A row has this form if `read(row, place)` returns `marks`.

    `place` is negative, because it counts from the end of the row.
    """

    read: Callable[[bytes, int], tuple[Any, ...]]
    place: int
    marks: tuple[bytes, ...]


def _form(names: list[str], kinds: list[tuple[str, bytes]]) -> _Form:
    last = names[-1] if names else ""  # no member has an empty name
    parts = [f"{len(name) + 3}x{after}" for name, (after, _) in zip(names, kinds, strict=False)]
    layout = struct.Struct("".join([*parts, f"{len(last) + 4}s19xc14x"]))
    marks = (*(mark for _, mark in kinds), b'"%b":"' % last.encode(), b".")
    return _Form(layout.unpack_from, -layout.size, marks)


def row_end(columns: Mapping[str, bool]) -> RowEnd:
    """Return the `RowEnd` of rows with these columns. The values say which columns are nullable.

    If the times do not stand last in this order, Python searches each row for times.
    """
    times = {name: columns[name] for name in columns if IS_NAME_OF_TIME.search(name)}
    nullable = [name for name in times if times[name]]
    others = [name for name in times if not times[name]]
    stand_last = [*columns][-len(times) :] == [*nullable, *others]
    return RowEnd(nullable, others) if stand_last else RowEnd([], [])
