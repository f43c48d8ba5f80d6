"""The one shape of every error: RFC 9457."""

from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema


class InvalidField(BaseModel):
    loc: list[str | int]
    msg: str
    type: str


class Problem(BaseModel):
    """`detail` is one sentence to show to a person; `errors` comes with 422 only."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[InvalidField] | SkipJsonSchema[None] = None
