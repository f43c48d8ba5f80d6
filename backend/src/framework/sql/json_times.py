"""The one form of times in answers: 2026-12-24T09:30:00.000000+00:00, always with six digits.

PostgreSQL leaves out zeros at the end. When it wrote them, a list of 100 took a tenth longer, and
three times as long to plan behind a pooler. So Python adds them when it reads a row's JSON. In JSON
that PostgreSQL writes, `_at":"` and `_date":"` are the ends of names only: in a text, quotes are
escaped. Columns with such names are times: see `table_of`.
"""

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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


_NULL, _SIX = ("3xcx", b"l"), ("20xc14x", b".")
"""What follows the name of a time that is null, or has six digits: a mark, and the comma."""


class RowEnd:
    """The times that stand last in the rows of a list: those that may be null, and the others.

    Most rows need no zeros: the times that may be null are null, but perhaps the first, and the
    others have six digits. A byte of each shows this: the last of `null`, or the `.` before the
    digits. The last name is compared in full: in a further member, no text has its quotes.
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
            # A call for each row would take longer than what it does.
            return [
                row
                if null(row, null_at) == null_marks or one(row, one_at) == one_marks
                else with_six_digits(row)
                for row in rows
            ]
        except struct.error:  # a row is shorter, as that of a deleted task
            return [*map(with_six_digits, rows)]


class _Form(NamedTuple):
    """How to read the marks of a form, counted from a row's end, and what they are."""

    read: Callable[[bytes, int], tuple[Any, ...]]
    place: int
    marks: tuple[bytes, ...]


def _form(names: list[str], kinds: list[tuple[str, bytes]]) -> _Form:
    last = names[-1] if names else ""  # an empty name, which no member has
    parts = [f"{len(name) + 3}x{after}" for name, (after, _) in zip(names, kinds, strict=False)]
    layout = struct.Struct("".join([*parts, f"{len(last) + 4}s19xc14x"]))
    marks = (*(mark for _, mark in kinds), b'"%b":"' % last.encode(), b".")
    return _Form(layout.unpack_from, -layout.size, marks)


NO_TIMES_LAST = RowEnd([], [])
"""Of rows whose times stand elsewhere: each row is searched."""
