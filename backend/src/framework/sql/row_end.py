"""The JSON of rows. PostgreSQL writes the JSON, and Python completes the end of each row.

At the end stand the times, and then the further members. PostgreSQL leaves out zeros in times: see
`json_times`. PostgreSQL writes the further members as one member: `"further":{"color": "red"}`, or
`"further":null` in most rows. An answer has the further members beside the columns, and no null.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func
from sqlalchemy.sql.selectable import NamedFromClause

from src.framework.sql.json_times import IS_NAME_OF_TIME, with_six_digits
from src.framework.sql.members import holds_members


def json_of(rows: NamedFromClause) -> ColumnElement[Any]:
    """Return the JSON of each row as `bytea`: the driver calls no Python function to read it."""
    return func.json_send(func.row_to_json(rows.table_valued()))


_NULL, _SIX = ("3xcx", b"l"), ("20xc14x", b".")
"""What follows a member's name, up to the comma: null, or a time with six digits.

Each pair has a layout for `struct`, and a mark: the one byte that `struct` reads.
"""


class RowEnd:
    """The times that stand last in each row: first the nullable times, then the others.

    `members` is the name of the member that follows the times and has all further members.

    Most rows have one of two forms, and need no zeros. In the first form, every nullable time is
    null. In the second form, the first nullable time has six digits, and every other nullable time
    is null. In both forms, the times that are not nullable have six digits, and there are no
    further members.

    One byte of each value shows whether the value is null: the last byte of `null`, or the `.`
    before the digits. The name of the last time is compared in full. No text in a further member
    can look like that name, because a text has its quotes escaped.
    """

    def __init__(
        self, nullable: Sequence[str], others: Sequence[str], members: str | None = None
    ) -> None:
        names = [*nullable, *others]
        rest = [_SIX] * len(others[:-1])
        self._null = _form(names, [*(_NULL for _ in nullable), *rest], members)
        self._one = _form(
            names, [*(_SIX for _ in nullable[:1]), *(_NULL for _ in nullable[1:]), *rest], members
        )
        # In a row without members, both leave the row as it is, and copy nothing.
        self._before_members, self._after_members = None, b""
        self._name = b""
        if members is not None:
            self._name = b',"%b":' % members.encode()
            self._before_members, self._after_members = -len(self._name + b"null}"), b"}"

    def completed(self, rows: list[bytes]) -> list[bytes]:
        """Write the times of these rows in the one form, and join the further members."""
        null, null_at, null_marks = self._null
        one, one_at, one_marks = self._one
        end, brace = self._before_members, self._after_members
        try:
            # A call for each row would take longer than the comparison itself.
            return [
                row[:end] + brace
                if null(row, null_at) == null_marks or one(row, one_at) == one_marks
                else self._searched(row)
                for row in rows
            ]
        except (struct.error, TypeError):  # a row is None, or as short as a deleted task's
            return [row and self._searched(row) for row in rows]

    def _searched(self, row: bytes) -> bytes:
        # No text before the members has this name, because a text has its quotes escaped.
        columns, name, members = row.partition(self._name) if self._name else (row, b"", b"")
        columns = with_six_digits(columns)
        if not name:
            return columns
        return columns + (b"}" if members in {b"null}", b"{}}"} else b"," + members[1:-1])


class _Form(NamedTuple):
    """A form of a row's end. A row has this form if `read(row, place)` returns `marks`.

    `place` is negative, because it counts from the end of the row.
    """

    read: Callable[[bytes, int], tuple[Any, ...]]
    place: int
    marks: tuple[bytes, ...]


def _form(names: list[str], kinds: list[tuple[str, bytes]], members: str | None) -> _Form:
    last = names[-1] if names else ""  # no member has an empty name
    parts = [_layout(name, after) for name, (after, _) in zip(names, kinds, strict=False)]
    parts.append(f"{len(last) + 4}s19xc14x")
    marks = [*(mark for _, mark in kinds), b'"%b":"' % last.encode(), b"."]
    if members is not None:
        after, mark = _NULL
        parts.append(_layout(members, after))
        marks.append(mark)
    layout = struct.Struct("".join(parts))
    return _Form(layout.unpack_from, -layout.size, (*marks,))


def _layout(name: str, after: str) -> str:
    return f"{len(name) + 3}x{after}"


def row_end(columns: Iterable[ColumnElement[Any]]) -> RowEnd:
    """Return the `RowEnd` of rows with these columns.

    If the times do not stand last in this order, Python searches each row for times.
    Raises TypeError if the further members are not the last column.
    """
    every = {each.name: each for each in columns}
    members = next((name for name in every if holds_members(every[name])), None)
    if members is not None and members != [*every][-1]:
        raise TypeError(f"{members} must be the last column of a row")
    known = [name for name in every if name != members]
    times = [name for name in known if IS_NAME_OF_TIME.search(name)]
    # A column that is computed may be null.
    nullable = [name for name in times if getattr(every[name], "nullable", True)]
    others = [name for name in times if name not in nullable]
    stand_last = known[-len(times) :] == [*nullable, *others]
    return RowEnd(nullable, others, members) if stand_last else RowEnd([], [], members)
