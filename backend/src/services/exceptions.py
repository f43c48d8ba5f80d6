"""Errors of the domain."""


class ChangesGone(Exception):
    """The position in the feed is not, or no longer, known."""


class TooManyListeners(Exception):
    """The user has as many streams and waiting requests as one may have in a worker."""
