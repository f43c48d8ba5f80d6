"""A condition on a resource's ETag. `web` reads conditions, and `sql` checks them."""

from typing import NamedTuple


class ConditionNotMet(Exception):
    """The resource does not meet the request's If-Match or If-None-Match."""


class Condition(NamedTuple):
    """If `wanted`, the ETag must be one of `etags`. Otherwise, it must be none of them."""

    etags: list[str]
    wanted: bool
