"""A condition on a resource's ETag: for the code that reads it, and the code that checks it."""

from typing import NamedTuple


class ConditionNotMet(Exception):
    """The resource does not meet the request's If-Match or If-None-Match."""


class Condition(NamedTuple):
    """`wanted`: the ETag must be one of `etags`; not `wanted`: it must be none of them."""

    etags: list[str]
    wanted: bool
