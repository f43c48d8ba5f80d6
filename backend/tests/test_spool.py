"""The service makes JSON arrays for clients a piece at a time, and keeps long arrays in a file."""

import asyncio
import os
from collections.abc import AsyncIterator
from resource import RLIMIT_FSIZE, getrlimit, setrlimit

import httpx
import pytest
from psutil import Process
from starlette.types import Receive, Scope, Send
from zstandard import get_frame_parameters

from src.framework.spool import PIECE_BYTES, NoRoom, Spool, spool_array, spool_batches
from src.framework.web.responses import JSONArray

MEBIBYTE = 1024 * 1024


@pytest.mark.anyio
@pytest.mark.parametrize("count", [0, 1, 2, 62, 63, 64, 65, 1021, 1022, 1023, 1024, 1025])
async def test_an_array_is_whole_in_any_number_of_pieces(count: int) -> None:
    async def answer_array(scope: Scope, receive: Receive, send: Send) -> None:
        tasks = await spool_array([b'"%01022d"' % number for number in range(count)])
        await JSONArray(tasks)(scope, receive, send)

    transport = httpx.ASGITransport(answer_array)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/", headers={"Accept-Encoding": "identity"})

    assert [int(value) for value in answer.json()] == list(range(count))
    assert int(answer.headers["content-length"]) == len(answer.content)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("count", "length"),
    [(1, 10), (100, 700), (101, 700), (50, 10_000), (3, 200_000), (900, 1000), (2000, 1000)],
)
async def test_no_piece_is_longer_than_64_kib_unless_a_value_is_longer(
    count: int, length: int
) -> None:
    spool = await spool_array([b"7" * length] * count)

    pieces = [*spool.pieces()]
    spool.close()

    assert b"".join(pieces) == b"[%b]" % b",".join([b"7" * length] * count)
    assert max(map(len, pieces)) <= max(PIECE_BYTES, length + 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("batches", "text"),
    [([], b"[]"), ([[b"1"]], b"[1]"), ([[b"1", b"2"], [b"3"]], b"[1,2,3]")],
)
async def test_batches_are_one_array(batches: list[list[bytes]], text: bytes) -> None:
    async def read() -> AsyncIterator[list[bytes]]:
        for values in batches:
            yield values

    spool = await spool_batches(read())

    assert b"".join(spool.pieces()) == text


@pytest.mark.anyio
async def test_an_error_between_batches_is_raised_and_closes_the_file() -> None:
    async def read() -> AsyncIterator[list[bytes]]:
        yield [b"7" * 2 * MEBIBYTE]
        raise ValueError("broken off")

    open_files = Process().num_fds()

    with pytest.raises(ValueError, match="broken off"):
        await spool_batches(read())

    assert Process().num_fds() == open_files


@pytest.mark.parametrize(
    ("length", "is_in_file"), [(MEBIBYTE, False), (MEBIBYTE + 1, True), (3 * MEBIBYTE, True)]
)
def test_a_text_of_more_than_a_mebibyte_is_in_a_file(length: int, is_in_file: bool) -> None:
    spool = Spool(b"[")
    spool.write(b"7" * (length - 2))
    spool.finish(b"]")

    text = b"".join(spool.pieces())
    spool.close()

    assert spool.is_in_file is is_in_file
    assert text == b"[%b]" % (b"7" * (length - 2))


def test_a_file_without_room_is_an_error_of_its_own_and_can_be_closed() -> None:
    spool = Spool(b"")
    before = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (MEBIBYTE, before[1]))
    try:
        with pytest.raises(NoRoom):
            spool.write(os.urandom(2 * MEBIBYTE))
    finally:
        setrlimit(RLIMIT_FSIZE, before)

    spool.close()


def test_a_text_from_a_file_is_decompressed_with_64_kib_of_memory() -> None:
    spool = Spool(b"")
    spool.write(b"7" * (MEBIBYTE + 1))
    spool.finish(b"")

    parameters = get_frame_parameters(next(spool.compressed_pieces()))
    spool.close()

    assert parameters.window_size == 64 * 1024


@pytest.mark.anyio
async def test_other_tasks_run_between_the_pieces_of_a_long_array() -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    spool = await spool_array([b"7" * 1000] * 4000)
    other.cancel()
    pieces_in_file = (spool.length - MEBIBYTE) // PIECE_BYTES
    spool.close()

    assert turns >= pieces_in_file > 40
