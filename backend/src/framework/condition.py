"""A condition on a resource's ETag, whoever asks for it and whoever checks it."""

from typing import NamedTuple


class ConditionNotMet(Exception):
    """The resource does not meet the request's If-Match or If-None-Match."""


class Condition(NamedTuple):
    """`wanted`: the ETag must be one of `etags`; not `wanted`: it must be none of them."""

    etags: list[str]
    wanted: bool
