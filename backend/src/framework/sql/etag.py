"""A row's strong ETag (RFC 9110 §8.8.3), the same in Python and in SQL.

The ETag is a hash of the row's JSON, exactly as PostgreSQL writes that JSON.
"""

from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, func, literal_column

from src.framework.sql.json_times import as_postgresql_writes

_DIGITS = 32


def etag(row: bytes) -> str:
    """Return the tag of an answered row, without quotes; `etag_of` is the same in SQL."""
    json = as_postgresql_writes(row) if b'0+00:00"' in row else row
    return sha256(json).hexdigest()[:_DIGITS]


def etag_of(json: ColumnElement[Any]) -> ColumnElement[str]:
    """Have PostgreSQL compute the tag of a row's JSON; `etag` is the same in Python."""
    text = func.convert_to(cast(json, Text), literal_column("'UTF8'"))
    digest: ColumnElement[str] = func.encode(func.sha256(text), literal_column("'hex'"))
    return func.left(digest, literal_column(str(_DIGITS)))
