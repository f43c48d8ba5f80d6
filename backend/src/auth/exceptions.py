"""Why a request is not let through."""


class NotAuthenticated(Exception):
    """There is no token, or, with a sentence, a bad one."""


class NotTheOwner(Exception):
    """The token is good, but another user's."""


class KeysUnavailable(Exception):
    """The key server does not answer, and the token's key is not known."""
