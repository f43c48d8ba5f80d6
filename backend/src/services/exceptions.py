"""What can go wrong with what users have, in the words of the domain."""


class NotFound(Exception):
    """The user has none such, whether or not someone else has."""


class TaskNotFound(NotFound):
    """The user has no such task."""


class KeyReused(Exception):
    """The user's idempotency key came with something else before."""
