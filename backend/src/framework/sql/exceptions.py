"""What can go wrong with PostgreSQL, and with the rows in it."""


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, does not answer in time, or has ended the connection."""


class NoConnectionFree(DatabaseUnavailable):
    """No connection of the pool got free in time."""


class LockTimedOut(DatabaseUnavailable):
    """PostgreSQL's `lock_timeout` was over before others let go of a row. Nothing was applied."""


class OutcomeUnknown(DatabaseUnavailable):
    """The connection broke before the answer: the statement may have been applied."""


class NotFound(Exception):
    """The user has no such row, whether or not another user does."""


class BatchRefused(Exception):
    """Some operations of a batch cannot be applied, so no operation was applied.

    `missing` and `changed` have the places of operations whose row is missing or has changed.
    """

    def __init__(self, missing: list[int], changed: list[int]) -> None:
        self.missing = missing
        self.changed = changed


class MembersRefused(Exception):
    """A row would have too many further members, or too long ones, because of this member.

    `number` is the place of the operation in a batch. Citus tells neither the place nor the member:
    then `number` is None and `member` is empty.
    """

    def __init__(self, member: str, reason: str, number: int | None) -> None:
        self.member = member
        self.is_many = reason == "too many members"
        self.number = number


class KeyReused(Exception):
    """The user has sent this idempotency key with another request."""


class TooManyKeys(Exception):
    """For `seconds` more, the user has as many idempotency keys as a user may have."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
