"""Why a request is refused."""


class NotAuthenticated(Exception):
    """The token is missing, or invalid for the given reason."""


class NotTheOwner(Exception):
    """The token is valid, but the path is another user's than the token's `user`."""

    def __init__(self, user: str) -> None:
        super().__init__()
        self.user = user


class KeysUnavailable(Exception):
    """The key server does not answer, and the token's key is unknown."""
