"""FastAPI's route, for requests that are read by the letter of the RFCs."""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from email.message import Message
from functools import cached_property, lru_cache
from inspect import iscoroutinefunction, signature
from json import JSONDecodeError
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from src.framework.long_numbers import read_json
from src.framework.web.bodies import (
    COUNTED_FROM,
    MOST_VALUES,
    has_too_many_values,
    hold,
    turn_to_work,
)
from src.framework.web.problems import (
    BROKEN_PATH,
    BROKEN_QUERY,
    ENCODED,
    MAX_BODY_BYTES,
    PATCH_TYPES,
    too_large,
    wrong_media_type,
)
from src.framework.web.strict_names import StrictNames, is_strict, strictly_handled

MAX_PATH_BYTES = 4096
"""The longest user id has 255 characters of four bytes, and each byte takes three in the path."""

LONG_PATH = f"The path may have at most {MAX_PATH_BYTES} bytes"

MAX_QUERY_BYTES = 24 * 1024
"""The longest search and 20 of the longest tags take 18 KiB: each byte takes three in the query."""

LONG_QUERY = f"The query may have at most {MAX_QUERY_BYTES} bytes"

MOST_PARAMETERS = 100
"""How many parameters a query may have. Repeats count."""

MANY_PARAMETERS = f"The query may have at most {MOST_PARAMETERS} parameters"

NOT_UTF8 = "must be JSON in UTF-8"

ABOUT_BODY = ("content-encoding", "content-length", "content-type", "transfer-encoding")
_NO_LISTS = {name.encode() for name in ABOUT_BODY}
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_KEPT_ESCAPE = re.compile(rb"%(0[Aa]|25|2[Ff])")
_SLASHES = re.compile(rb"/{2,}")


class StrictRequest(Request):
    """Reads headers, query and body strictly, where Starlette is lenient."""

    route: "StrictRoute"

    @cached_property
    def headers(self) -> Headers:
        return Headers(joined_headers(self.scope["headers"]))

    @cached_property
    def query_params(self) -> QueryParams:
        return QueryParams(parsed_query(self.scope["query_string"]))

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            self._body = await self.route.read_body(self, self.headers)
        return self._body

    async def json(self) -> Any:  # noqa: ANN401 - Starlette's
        try:
            return parsed_body(await self.body(), self.headers.get("content-type", ""), self.method)
        except RequestValidationError as error:
            raise JSONDecodeError(error.errors()[0]["msg"], "", 0) from None


class StrictRoute(APIRoute):
    """FastAPI's route with a StrictRequest, and guards that run before the body is read.

    A guard is one of the `dependencies` that is an async function of the request. FastAPI calls
    each guard a second time.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - APIRoute's
        self.max_bytes = options.pop("max_body_size", None) or MAX_BODY_BYTES
        super().__init__(path, endpoint, **options)
        nameless = [each for each in self.dependant.dependencies if each.name is None]
        self.guards: list[Any] = [each.call for each in nameless if takes_only_the_request(each)]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            for guard in self.guards:
                if guard not in request.app.dependency_overrides:
                    await guard(request)
            strict = StrictRequest(request.scope, request.receive)
            strict.route = self
            if not is_strict(strict.headers.get("prefer", "")):
                return await handle(strict)
            with suppress(JSONDecodeError):  # which FastAPI answers
                body = await strict.json() if self.body_field and await strict.body() else None
                self.strict_names.check(strict.query_params.multi_items(), body)
            return strictly_handled(await handle(strict))

        return handle_strictly

    @cached_property
    def strict_names(self) -> StrictNames:
        return StrictNames(self.dependant, self.body_field)

    async def read_body(self, request: Request, headers: Mapping[str, str]) -> bytes:
        """Read the body. With HTTP/2 or a serverless adapter, no header has to announce a body.

        Raises HTTPException 415 for an encoded body (RFC 9110 §8.4) and 413 above `max_bytes`, what
        `hold` raises for a body in pieces, and ClientDisconnect.
        """
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise HTTPException(415, ENCODED, {"Accept-Encoding": "identity"})
        if int(headers.get("content-length") or 0) > self.max_bytes:
            raise HTTPException(413, too_large(self.max_bytes))
        body = bytearray()  # bytes would be copied with each chunk
        has_more = True
        while has_more:  # Starlette's `stream` does the same in more steps
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk, has_more = message.get("body", b""), message.get("more_body", False)
            if chunk and (body or len(chunk) > COUNTED_FROM):
                hold(request.scope, len(chunk))
            body += chunk
            if len(body) > self.max_bytes:
                raise HTTPException(413, too_large(self.max_bytes))
        if "held_bytes" in request.scope:
            await turn_to_work(request.scope)
        return bytes(body)


def takes_only_the_request(dependency: Dependant) -> bool:
    """Whether this is an async callable whose only parameter is the request."""
    call: Any = dependency.call
    request = dependency.request_param_name or dependency.http_connection_param_name
    is_async = iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
    return is_async and list(signature(call).parameters) == [request]


def joined_headers(
    sent: Iterable[tuple[bytes, bytes]], names: Mapping[bytes, str] | None = None
) -> dict[str, str]:
    """Return all headers, or only the headers with these names.

    Repeated fields form one list (RFC 9110 §5.3). Fields about the body are no lists: the first
    field counts. httptools keeps the white space at a value's end, but white space is not part of
    the value (§5.5).
    """
    found: dict[str, str] = {}
    for name, value in sent:
        if names is None or name in names:
            key = name.decode("latin-1") if names is None else names[name]
            text = value.decode("latin-1").strip(" \t")
            if key not in found:
                found[key] = text
            elif name not in _NO_LISTS:
                found[key] += f", {text}"
    return found


@lru_cache(maxsize=16)  # each link of an answer reads the request's query again
def parsed_query(query_string: bytes) -> list[tuple[str, str]]:
    """Raises HTTPException 400 for a query that is not percent-encoded UTF-8 (RFC 3986 §2.1).

    Raises 400 for too many parameters, too, and 414 for too many bytes.
    """
    if len(query_string) > MAX_QUERY_BYTES:
        raise HTTPException(414, LONG_QUERY)
    if query_string.count(b"&") >= MOST_PARAMETERS:
        raise HTTPException(400, MANY_PARAMETERS)
    try:
        return parse_qsl(query_string.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        raise HTTPException(400, BROKEN_QUERY) from None


def parsed_body(body: bytes, content_type: str, method: str) -> object:
    """Parse a body as strict JSON (RFC 8259) of limited depth and size.

    A byte order mark is ignored (§8.1).
    Raises RequestValidationError, and HTTPException 415 if the Content-Type is not JSON or, for
    PATCH, a merge patch (RFC 5789 §2.2).
    """
    if content_type != "application/json" and not _is_json(content_type, method):
        raise wrong_media_type(method)
    if has_too_many_values(body):
        raise _wrong_json(f"must have at most {MOST_VALUES} values")
    try:
        return read_json(body.removeprefix(BOM_UTF8))
    except ValueError as error:
        message = f"must be valid JSON ({error})" if _is_utf8(body) else NOT_UTF8
        raise _wrong_json(message) from None


def _wrong_json(message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body",), "msg": message, "type": "json_invalid"}])


def _is_utf8(body: bytes) -> bool:
    """Whether this is UTF-8: NUL bytes, which JSON never has, are half of any text in UTF-16."""
    with suppress(ValueError):
        return "\0" not in body.decode()
    return False


def _is_json(content_type: str, method: str) -> bool:
    headers = Message()
    headers["content-type"] = content_type
    if method == "PATCH":
        return headers.get_content_type() in PATCH_TYPES
    subtype = headers.get_content_subtype()
    return headers.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )


def decode_path(scope: Scope) -> str:
    """Return the path without a trailing slash, and decoded except for %2F, %25 and %0A.

    So a slash in a segment stays different from a slash between segments. A path that ends in a
    line feed stays different from the path without the line feed. `Segment` decodes %2F, %25 and
    %0A. Slashes in a row count as one slash, also in the links that are made from `raw_path`.
    Raises HTTPException 400 for a path that is not percent-encoded UTF-8 (RFC 3986 §2.1), and 414
    for a path that is too long.
    """
    raw: bytes = scope["raw_path"]
    if len(raw) > MAX_PATH_BYTES:
        raise HTTPException(414, LONG_PATH)
    if b"//" in raw:
        scope["raw_path"] = raw = _SLASHES.sub(b"/", raw)
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise HTTPException(400, BROKEN_PATH)
        raw = unquote_to_bytes(_KEPT_ESCAPE.sub(rb"%25\1", raw))
    try:
        path = raw.decode().rstrip("/")
    except ValueError:
        raise HTTPException(400, BROKEN_PATH) from None
    return f"{path}/" if path == (scope.get("root_path") or "") else path


class Segment(Convertor[str]):
    """A path parameter that may hold any text, even slashes: see `decode_path`."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        if "%" not in value:
            return value
        return re.sub("%2[Ff]", "/", re.sub("%0[Aa]", "\n", value)).replace("%25", "%")

    def to_string(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F").replace("\n", "%0A")


register_url_convertor("segment", Segment())
