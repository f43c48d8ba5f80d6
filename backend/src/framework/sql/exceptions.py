"""What can go wrong with PostgreSQL."""


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, does not answer in time, or has ended the connection."""


class NoConnectionFree(DatabaseUnavailable):
    """No connection of the pool got free in time."""


class LockTimedOut(DatabaseUnavailable):
    """PostgreSQL's `lock_timeout` was over before others let go of a row. Nothing was applied."""


class OutcomeUnknown(DatabaseUnavailable):
    """The connection broke before the answer: the statement may have been applied."""
