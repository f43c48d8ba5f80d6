"""The format of every error: RFC 9457."""

from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema


class InvalidField(BaseModel):
    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """`detail` is a sentence that you can show to a user.

    A 422 has `errors`, and so has a batch's 404 or 412.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: list[InvalidField] | SkipJsonSchema[None] = None
