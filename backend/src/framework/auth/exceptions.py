"""Why a request is refused."""


class NotAuthenticated(Exception):
    """The token is missing, or invalid for the given reason."""


class NotTheOwner(Exception):
    """The token is valid, but belongs to another user; perhaps only capitals differ."""

    def __init__(self, only_capitals_differ: bool) -> None:
        super().__init__()
        self.only_capitals_differ = only_capitals_differ


class KeysUnavailable(Exception):
    """The key server does not answer, and the token's key is unknown."""
