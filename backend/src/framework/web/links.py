"""Paths and links (RFC 8288) for clients to follow."""

from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlencode

from fastapi import Request

from src.framework.web.routing import parsed_query

# RFC 3986 §3.3. The HTTP parser lets more through, such as the > that would end a Link.
_IN_A_PATH = "%/:@!$&'()*+,;=~"


def path_of(request: Request) -> str:
    return quote(request.scope["raw_path"], safe=_IN_A_PATH)


def path_beside(request: Request) -> str:
    """Return the path without its last segment."""
    return _without_slash(request).rpartition("/")[0]


def path_of_new(request: Request, row: bytes) -> bytes:
    """Return the path of the row that was created in the request's collection."""
    # In JSON from PostgreSQL, no text before the column `id` can look like this name.
    row_id = row.partition(b'"id":"')[2].partition(b'"')[0]
    return b"%b/%b" % (_without_slash(request).encode(), row_id)


def _without_slash(request: Request) -> str:
    return path_of(request).rstrip("/")


def page_link(
    request: Request, relation: str, place: Mapping[str, object], instead_of: Iterable[str] = ()
) -> str:
    """Link to the same list, with the parameters of `place` and not `instead_of`: RFC 8288 §3."""
    sent = parsed_query(request.scope["query_string"])
    query = [(name, text) for name, text in sent if name not in {*place, *instead_of}]
    query += [(name, str(value)) for name, value in place.items()]
    return f'<{path_of(request)}?{urlencode(query)}>; rel="{relation}"'
