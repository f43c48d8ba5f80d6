"""Responses with JSON that is already encoded, and with validators (RFC 9110 §8.8)."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias
from zlib import compressobj

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from src.framework.condition import ConditionNotMet
from src.framework.spool import Spool, zstd_encoder
from src.framework.web.conditions import matches
from src.framework.web.preferences import weights

COMPRESSED_FROM_BYTES = 8 * 1024

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]

_ENCODERS: dict[str, Callable[[], Any]] = {
    "zstd": zstd_encoder,
    "gzip": lambda: compressobj(1, wbits=31),
}
_CACHE_CONTROL = (b"cache-control", b"private, no-cache")
_JSON = (b"content-type", b"application/json")


class JSONBytes(Response):
    def __init__(self, content: bytes, status: int = 200, headers: Fields = ()) -> None:
        self.body = content
        self.status_code = status
        self.background = None
        length = (b"content-length", b"%d" % len(content))
        self.raw_headers = [length, _JSON, _CACHE_CONTROL, *headers]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        status, headers = self.status_code, self.raw_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


class JSONArray(Response):
    """A spooled array of JSON values, sent in pieces, and compressed if it is long.

    Each piece waits until the client has taken the pieces before it, while other requests run. The
    ETag is weak because every encoding shares it. The ETag covers the headers, too: the same rows
    with and without a next page are different lists.
    """

    def __init__(self, spool: Spool, headers: Fields = ()) -> None:
        self.spool = spool
        self.status_code = 200
        self.background = None
        digest = spool.digest
        for _, value in headers:
            digest.update(value)
        self.raw_headers = [
            _JSON,
            _CACHE_CONTROL,
            (b"vary", b"Accept-Encoding"),
            (b"etag", b'W/"%b"' % digest.hexdigest().encode()),
            *headers,
        ]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        # HTTP/1.0 needs the length (RFC 9112 §6.1), which is not known before compression.
        length = self.spool.length
        is_long = length >= COMPRESSED_FROM_BYTES
        encoding = None
        if is_long and scope["http_version"] != "1.0":
            encoding = _chosen(Headers(scope=scope).getlist("accept-encoding"))
        about_body = (
            (b"content-encoding", encoding.encode())
            if encoding
            else (b"content-length", b"%d" % length)
        )
        headers = [about_body, *self.raw_headers]
        start = {"type": "http.response.start", "status": 200, "headers": headers}
        if is_long:
            await self._send_in_pieces(start, encoding, send)
        else:
            await send(start)
            await send({"type": "http.response.body", "body": b"".join(self.spool.pieces())})

    async def _send_in_pieces(self, start: Message, encoding: str | None, send: Send) -> None:
        takes_time = encoding is not None or self.spool.is_in_file
        parts = _encoded(self.spool, encoding)
        try:
            await send(start)
            part = next(parts, b"")
            for next_part in parts:
                if part:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                if takes_time:
                    await asyncio.sleep(0)
                part = next_part
            await send({"type": "http.response.body", "body": part})
        finally:
            self.spool.close()


def _encoded(spool: Spool, encoding: str | None) -> Iterator[bytes]:
    if encoding is None:
        yield from spool.pieces()
    elif encoding == "zstd" and spool.is_in_file:
        yield from spool.compressed_pieces()
    else:
        encoder = _ENCODERS[encoding]()
        for piece in spool.pieces():
            yield encoder.compress(piece)
        yield encoder.flush()


def tagged(content: bytes, etag: str, status: int = 200, headers: Fields = ()) -> Response:
    """Answer JSON with its strong ETag."""
    return JSONBytes(content, status, [(b"etag", b'"%b"' % etag.encode()), *headers])


def etag_in(response: Response) -> str:
    [etag] = [value.decode() for name, value in response.raw_headers if name == b"etag"]
    return etag


def conditional(
    response: Response, if_none_match: str | None, if_match: str | None = None
) -> Response:
    """Return 304 instead if the client already has the response: RFC 9110 §13.2.2, §15.4.5.

    Raises ConditionNotMet if the response's ETag is not in `if_match`.
    """
    if if_match is not None and not matches(etag_in(response), if_match):
        raise ConditionNotMet
    if if_none_match is None or not matches(etag_in(response), if_none_match):
        return response
    if isinstance(response, JSONArray):
        response.spool.close()
    not_modified = Response(status_code=304)
    not_modified.raw_headers = [
        header for header in response.raw_headers if not header[0].startswith(b"content-")
    ]
    return not_modified


def _chosen(accept_encoding: list[str]) -> str | None:
    """Return the encoding that the client prefers, None for identity: RFC 9110 §12.5.3."""
    asked = weights(",".join(accept_encoding))
    offered = {name: asked.get(name, asked.get("*", 0)) for name in (*_ENCODERS, "identity")}
    best = max(offered, key=offered.__getitem__)
    return best if best in _ENCODERS and offered[best] > 0 else None
