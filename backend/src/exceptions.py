"""What can go wrong, in the words of the domain: nothing here knows HTTP."""


class TaskNotFound(Exception):
    """The user has no such task, whether or not someone else has."""


class ConditionNotMet(Exception):
    """The task is not, or no more, what the client's request depends on."""


class KeyReused(Exception):
    """The user's idempotency key came with another task before."""


class DatabaseUnavailable(Exception):
    """PostgreSQL cannot be reached, or broke the connection off."""


class NotAuthenticated(Exception):
    """There is no token, or, with a sentence, a bad one."""


class NotAllowed(Exception):
    """The token is good, but another user's."""


class KeysUnavailable(Exception):
    """The key server does not answer, and the token's key is not known."""


class Stopping(Exception):
    """The service is about to stop."""


class CannotStart(Exception):
    """A sentence for the person who starts the service: what to set or do."""
