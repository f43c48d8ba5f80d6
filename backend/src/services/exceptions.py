"""What can go wrong with a task, in the words of the domain."""


class TaskNotFound(Exception):
    """The user has no such task, whether or not someone else has."""


class KeyReused(Exception):
    """The user's idempotency key came with another task before."""
