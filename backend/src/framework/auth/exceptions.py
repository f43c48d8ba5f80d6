"""Why a request is refused."""


class NotAuthenticated(Exception):
    """The token is missing, or is invalid, as the sentence says."""


class NotTheOwner(Exception):
    """The token is valid, but its `user` is not the user in the path."""

    def __init__(self, user: str) -> None:
        self.user = user


class KeysUnavailable(Exception):
    """The key server does not answer, and the token's key is unknown."""
