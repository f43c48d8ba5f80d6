"""Errors of the domain."""


class NotFound(Exception):
    """The user has no such row, whether or not another user does."""


class TaskNotFound(NotFound):
    """The user has no such task."""


class KeyReused(Exception):
    """The user has sent this idempotency key with something else."""


class ChangesGone(Exception):
    """The position in the feed is not, or no longer, known."""
