"""Why a request is refused."""


class NotAuthenticated(Exception):
    """The token is missing, or invalid for the given reason."""


class NotTheOwner(Exception):
    """The token is valid, but belongs to another user."""


class KeysUnavailable(Exception):
    """The key server does not answer, and the token's key is unknown."""
