"""JSON arrays on their way to a client: short ones in memory, long ones in a file."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import Any

from xxhash import xxh3_128
from zstandard import ZstdCompressionParameters, ZstdCompressor, ZstdDecompressor

PIECE_BYTES = 64 * 1024

SHORT = 100
"""Up to this many values are joined at once. More values go in pieces: large copies cost much."""

IN_MEMORY_BYTES = 1024 * 1024
"""Length of the longest text that stays in memory."""

# The window is small, because each response under way holds a window.
_COMPRESSION = ZstdCompressionParameters.from_level(1, window_log=16)


class NoRoom(Exception):
    """The disk is full."""


def zstd_encoder() -> Any:  # noqa: ANN401 - zstandard does not export its class
    return ZstdCompressor(compression_params=_COMPRESSION).compressobj()


class Spool:
    """A text that is written first and read later; a long text is in a temporary file, as zstd.

    `length` and `digest` are of the text before compression. Raises NoRoom when the disk is full.
    """

    _file: Any = None
    _encoder: Any = None

    def __init__(self, text: bytes) -> None:
        self.length = len(text)
        self.digest = xxh3_128(text)
        self._texts = [text]

    @property
    def is_in_file(self) -> bool:
        return self._file is not None

    def write(self, text: bytes) -> None:
        self.length += len(text)
        self.digest.update(text)
        self._texts.append(text)
        if self.length > IN_MEMORY_BYTES:
            with _room_on_disk():
                self._move_to_file()

    def _move_to_file(self) -> None:
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115 - `close` closes it
            self._encoder = zstd_encoder()
        for text in self._texts:
            self._file.write(self._encoder.compress(text))
        self._texts.clear()

    def finish(self, text: bytes) -> None:
        """Write the end of the text; only then can it be read."""
        self.write(text)
        if self._file is not None:
            with _room_on_disk():
                self._file.write(self._encoder.flush())
                self._file.seek(0)
            self._encoder = None

    def pieces(self) -> Iterator[bytes]:
        """Yield the text as it was written or, from a file, PIECE_BYTES at a time."""
        if self._file is None:
            yield from self._texts
        else:
            yield from _read(ZstdDecompressor().stream_reader(self._file, PIECE_BYTES // 4))

    def compressed_pieces(self) -> Iterator[bytes]:
        """Yield the file's zstd data."""
        return _read(self._file)

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # the file still has bytes that it could not write
                self._file.close()


@contextmanager
def _room_on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NoRoom from error


def _read(file: Any) -> Iterator[bytes]:  # noqa: ANN401 - whatever can be read
    while piece := file.read(PIECE_BYTES):
        yield piece


async def spool_array(values: list[bytes], begin: bytes = b"[", end: bytes = b"]") -> Spool:
    """Write these values as a JSON array, between `begin` and `end`."""
    if not values:
        return Spool(begin + end)
    if len(values) <= SHORT and _joined_length(values) <= PIECE_BYTES:
        values[0] = begin + values[0]  # before the join: a copy of its result takes long
        values[-1] += end
        return Spool(b",".join(values))
    return await spool_batches(_only(values), begin, end)


async def _only(values: list[bytes]) -> AsyncIterator[list[bytes]]:
    yield values


async def spool_batches(
    batches: AsyncIterable[list[bytes]], begin: bytes = b"[", end: bytes = b"]"
) -> Spool:
    """Write the values of all batches as one JSON array."""
    spool = Spool(begin)
    sign = b""
    try:
        async for values in batches:
            await _write(spool, sign, values)
            sign = b","
        spool.finish(end)
    except BaseException:
        spool.close()
        raise
    return spool


async def _write(spool: Spool, sign: bytes, values: list[bytes]) -> None:
    """Write about a piece at a time, and let other requests run in between."""
    together = max(1, len(values) * PIECE_BYTES // _joined_length(values))
    for start in range(0, len(values), together):
        values[start] = sign + values[start]
        sign = b","
        spool.write(b",".join(values[start : start + together]))
        if spool.is_in_file:
            await asyncio.sleep(0)


def _joined_length(values: list[bytes]) -> int:
    return sum(map(len, values)) + len(values)
