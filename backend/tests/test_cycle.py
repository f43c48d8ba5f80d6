"""How a response is written: in one piece, and only if it is valid HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from src.framework.server.cycle import HELD_BYTES, SHORT_BYTES
from src.framework.server.protocol import HTTPProtocol

OK = b"HTTP/1.1 200 OK\r\n"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LENGTH_5 = (b"content-length", b"5")


def answering(*fields: tuple[bytes, bytes], pieces: list[bytes]) -> Any:  # noqa: ANN401 - of ASGI
    async def app(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - of ASGI
        await send({"type": "http.response.start", "status": 200, "headers": [*fields]})
        for left, piece in zip(reversed(range(len(pieces))), pieces, strict=True):
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})

    return app


class Written(HTTPProtocol):
    """Records each write to the transport."""

    writes: list[bytes]

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - as uvloop has it
        writes = self.writes

        class Recording:
            def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
                return getattr(transport, name)

            def write(self, data: bytes) -> None:
                writes.append(data)
                transport.write(data)

            def writelines(self, pieces: list[bytes]) -> None:
                writes.append(b"".join(pieces))
                transport.writelines(pieces)

        recording: Any = Recording()
        super().connection_made(recording)


@asynccontextmanager
async def asking(
    app: Any,  # noqa: ANN401 - of ASGI
    request: bytes,
    state: ServerState | None = None,
) -> AsyncIterator[tuple[bytes, list[bytes]]]:
    """Send a request; return all bytes of the answer, and the writes that brought the bytes."""
    config = Config(app, lifespan="off", log_config=None)
    config.load()
    writes: list[bytes] = []

    def protocol() -> HTTPProtocol:
        made = Written(config, state or ServerState(), {})
        made.writes = writes
        return made

    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(request)
        writer.write_eof()
        async with asyncio.timeout(10):
            yield await reader.read(), writes
        writer.close()


@pytest.mark.anyio
async def test_the_head_and_the_body_are_one_write() -> None:
    async with asking(answering(LENGTH_5, pieces=[b"hello"]), GET) as (answer, writes):
        assert answer == OK + b"content-length: 5\r\n\r\nhello"
        assert writes == [answer]


@pytest.mark.anyio
async def test_the_head_and_a_long_body_are_one_write() -> None:
    body = b"a" * (SHORT_BYTES + 1)
    length = (b"content-length", b"%d" % len(body))

    async with asking(answering(length, pieces=[body]), GET) as (answer, writes):
        assert answer == OK + b"content-length: %d\r\n\r\n%b" % (len(body), body)
        assert writes == [answer]


@pytest.mark.anyio
async def test_short_pieces_of_a_body_of_known_length_are_one_write() -> None:
    async with asking(answering(LENGTH_5, pieces=[b"h", b"ell", b"o"]), GET) as (answer, writes):
        assert answer == OK + b"content-length: 5\r\n\r\nhello"
        assert writes == [answer]


@pytest.mark.anyio
async def test_long_pieces_of_a_body_of_known_length_do_not_wait_for_each_other() -> None:
    pieces = [b"a" * HELD_BYTES, b"b" * HELD_BYTES]
    length = (b"content-length", b"%d" % (2 * HELD_BYTES))

    async with asking(answering(length, pieces=pieces), GET) as (answer, writes):
        assert [len(write) >= HELD_BYTES for write in writes] == [True, True]
        assert answer.endswith(b"".join(pieces))


@pytest.mark.anyio
async def test_the_pieces_of_a_stream_in_one_turn_of_the_loop_are_one_write() -> None:
    async with asking(answering(pieces=[b"one", b"", b"two"]), GET) as (answer, writes):
        head = OK + b"transfer-encoding: chunked\r\n\r\n"
        assert writes == [head + b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"]
        assert answer == writes[0]


@pytest.mark.anyio
async def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401 - of ASGI
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"one"})

    async with asking(app, GET) as (answer, writes):
        assert writes == [OK + b"transfer-encoding: chunked\r\n\r\n", b"3\r\none\r\n0\r\n\r\n"]
        assert answer == b"".join(writes)


@pytest.mark.anyio
async def test_a_stream_of_http_1_0_ends_with_its_connection() -> None:
    async with asking(answering(pieces=[b"one", b"two"]), b"GET / HTTP/1.0\r\n\r\n") as (answer, _):
        assert answer == OK + b"connection: close\r\n\r\nonetwo"


@pytest.mark.anyio
@pytest.mark.parametrize("value", [b"a\nset-cookie: b", b"a\rb", b"a\0", b"\x7f"])
async def test_a_field_with_a_control_character_is_never_sent(value: bytes) -> None:
    app = answering((b"location", value), LENGTH_5, pieces=[b"hello"])

    async with asking(app, GET) as (answer, _):
        assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"location" not in answer


@pytest.mark.anyio
@pytest.mark.parametrize("pieces", [[b"hell"], [b"hello!"], [b"hel", b"l"], [b"hel", b"lo!"]])
async def test_a_body_of_another_length_than_its_head_says_ends_the_connection(
    pieces: list[bytes],
) -> None:
    async with asking(answering(LENGTH_5, pieces=pieces), GET * 2) as (answer, _):
        assert answer.count(OK) <= 1
        assert not answer.endswith((b"hello", b"hell", b"hell!"))


@pytest.mark.anyio
async def test_the_answer_to_a_head_has_no_body_whatever_the_application_sends() -> None:
    head = GET.replace(b"GET", b"HEAD")

    async with asking(answering(LENGTH_5, pieces=[b"hello"]), head) as (answer, _):
        assert answer == OK + b"content-length: 5\r\n\r\n"


@pytest.mark.anyio
async def test_an_application_can_end_the_connection_after_its_answer() -> None:
    app = answering(LENGTH_5, (b"connection", b"close"), pieces=[b"hello"])

    async with asking(app, GET * 2) as (answer, _):
        assert answer == OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello"


@pytest.mark.anyio
async def test_two_requests_at_once_are_answered_in_turn() -> None:
    async with asking(answering(LENGTH_5, pieces=[b"hello"]), GET * 2) as (answer, writes):
        assert writes == [OK + b"content-length: 5\r\n\r\nhello"] * 2
        assert answer == b"".join(writes)


@pytest.mark.anyio
async def test_the_end_of_what_a_client_sends_does_not_overtake_its_answer() -> None:
    state = ServerState()
    answer_then_end = answering(LENGTH_5, pieces=[b"hello"])

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - of ASGI
        await answer_then_end(scope, receive, send)
        connection: Any = next(iter(state.connections))
        if not connection.eof_received():
            connection.transport._transport.close()  # as the event loop does

    async with asking(app, GET, state) as (answer, _):
        assert answer.endswith(b"hello")
