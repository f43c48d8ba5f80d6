"""Errors of the domain."""


class NotFound(Exception):
    """The user has no such row, whether or not another user does."""


class BatchRefused(Exception):
    """Some operations of a batch cannot be applied, so none was.

    Each is named by its place: those whose row is missing, and those whose row has changed.
    """

    def __init__(self, missing: list[int], changed: list[int]) -> None:
        super().__init__(missing, changed)
        self.missing = missing
        self.changed = changed


class KeyReused(Exception):
    """The user has sent this idempotency key with something else."""


class TooManyKeys(Exception):
    """The user has as many idempotency keys as one may have, for so many seconds more."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class ChangesGone(Exception):
    """The position in the feed is not, or no longer, known."""
