"""Short writes of one turn of the event loop go out together, and nothing overtakes them."""

import asyncio
from collections.abc import Callable

import pytest

from src.framework.server.transport import LONG_BYTES, WAITING_BYTES, Transport, send_all

pytestmark = pytest.mark.anyio


class Peer(asyncio.Transport):
    """Records what reaches a connection, and in which order."""

    def __init__(self, name: str, calls: list[str]) -> None:
        super().__init__()
        self.name = name
        self.calls = calls
        self.is_gone = False

    def is_closing(self) -> bool:
        return self.is_gone

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.name == "broken":
            raise RuntimeError("the handle is closed")
        self.calls.append(f"{self.name}: {len(data)} bytes")

    def write_eof(self) -> None:
        self.calls.append(f"{self.name}: end")

    def close(self) -> None:
        self.calls.append(f"{self.name}: close")

    def pause_reading(self) -> None:
        self.calls.append(f"{self.name}: pause")


Connect = Callable[[str], Transport]


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def connect(calls: list[str]) -> Connect:
    waiting: list[Transport] = []
    return lambda name: Transport(Peer(name, calls), waiting)


async def test_short_writes_of_a_turn_go_out_at_its_end(connect: Connect, calls: list[str]) -> None:
    ada, bob = connect("ada"), connect("bob")

    ada.write(b"12")
    bob.write(b"1")
    ada.write(b"3")
    assert calls == []
    await asyncio.sleep(0)

    assert calls == ["ada: 3 bytes", "bob: 1 bytes"]


async def test_each_turn_sends_its_own_writes(connect: Connect, calls: list[str]) -> None:
    ada = connect("ada")

    for number in (1, 2):
        ada.write(b"1" * number)
        await asyncio.sleep(0)

    assert calls == ["ada: 1 bytes", "ada: 2 bytes"]


async def test_a_long_write_does_not_wait(connect: Connect, calls: list[str]) -> None:
    ada = connect("ada")

    ada.write(b"1")
    ada.write(b"2" * (LONG_BYTES - 1))
    assert calls == []
    ada.write(b"3" * LONG_BYTES)
    assert calls == [f"ada: {LONG_BYTES} bytes", f"ada: {LONG_BYTES} bytes"]
    await asyncio.sleep(0)

    assert len(calls) == 2


async def test_only_so_many_bytes_wait(connect: Connect, calls: list[str]) -> None:
    ada, piece = connect("ada"), 1024

    for _ in range(WAITING_BYTES // piece):
        ada.write(b"1" * piece)
    assert calls == []
    ada.write(b"2")
    assert calls == [f"ada: {WAITING_BYTES + 1} bytes"]
    ada.write(b"3")
    await asyncio.sleep(0)

    assert calls[1:] == ["ada: 1 bytes"]


async def test_an_end_comes_after_what_waits(connect: Connect, calls: list[str]) -> None:
    ada, bob = connect("ada"), connect("bob")

    ada.write(b"1")
    ada.close()
    bob.write(b"12")
    bob.write_eof()
    await asyncio.sleep(0)

    assert calls == ["ada: 1 bytes", "ada: close", "bob: 2 bytes", "bob: end"]


async def test_pieces_come_after_what_waits(connect: Connect, calls: list[str]) -> None:
    ada = connect("ada")

    ada.write(b"1")
    ada.writelines([b"22", b"33"])

    assert calls == ["ada: 1 bytes", "ada: 4 bytes"]


async def test_a_client_that_has_gone_gets_nothing(calls: list[str]) -> None:
    peer, waiting = Peer("ada", calls), list[Transport]()
    ada = Transport(peer, waiting)

    ada.write(b"1")
    peer.is_gone = True
    send_all(waiting)

    assert calls == []
    assert waiting == []


async def test_all_else_goes_to_the_connection_at_once(connect: Connect, calls: list[str]) -> None:
    connect("ada").pause_reading()

    assert calls == ["ada: pause"]


async def test_an_error_of_one_connection_does_not_stop_the_others(
    connect: Connect, calls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    connect("broken").write(b"1")
    connect("ada").write(b"12")
    await asyncio.sleep(0)

    assert calls == ["ada: 2 bytes"]
    assert "An answer cannot be sent" in caplog.text
