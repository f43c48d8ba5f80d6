"""Errors of the domain."""


class ChangesGone(Exception):
    """The position in the feed is not, or no longer, known."""
