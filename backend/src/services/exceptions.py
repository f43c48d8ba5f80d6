"""Errors of the domain."""


class ChangesGone(Exception):
    """The position in the feed is not, or no longer, known."""


class NoSignIn(Exception):
    """Anyone may act for any user, so there are no tokens."""


class OfSignInOnly(Exception):
    """The token is personal, and so cannot manage tokens."""


class ReadOnlyToken(Exception):
    """The token's scope is `read`, and the request writes."""


class TokenRefused(Exception):
    """A personal token is wrong or unknown, or has expired, as the sentence says."""


class TooManyListeners(Exception):
    """The user has as many streams and long polls as the setting allows in a worker."""


class UnknownTimeZone(Exception):
    """PostgreSQL has no time zone of this name."""


class TooManyTokens(Exception):
    """The user has as many personal tokens as a user may have."""
