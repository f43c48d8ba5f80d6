"""JSON arrays on their way to a client: in memory while they are short, or else in a file."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import Any

from xxhash import xxh3_128
from zstandard import ZstdCompressionParameters, ZstdCompressor, ZstdDecompressor

PIECE_BYTES = 64 * 1024

SHORT = 100
"""Values that may be joined at once. Others are joined in pieces, as large copies are dear."""

IN_MEMORY_BYTES = 1024 * 1024
"""How long a text may be to stay in memory."""

# A small window, as each response that is under way keeps one.
_COMPRESSION = ZstdCompressionParameters.from_level(1, window_log=16)


class NoRoom(Exception):
    """The disk is full."""


def zstd_encoder() -> Any:  # noqa: ANN401 - zstandard does not export its class
    return ZstdCompressor(compression_params=_COMPRESSION).compressobj()


class Spool:
    """A text to be written and then read; a long one waits in a temporary file, as zstd.

    `length` and `digest` are of the text itself. Raises NoRoom when the disk is full.
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
        """Write the end of the text, so that it can be read."""
        self.write(text)
        if self._file is not None:
            with _room_on_disk():
                self._file.write(self._encoder.flush())
                self._file.seek(0)
            self._encoder = None

    def pieces(self) -> Iterator[bytes]:
        """Read the text as it was written, or PIECE_BYTES of a file at a time."""
        if self._file is None:
            yield from self._texts
        else:
            yield from _read(ZstdDecompressor().stream_reader(self._file, PIECE_BYTES // 4))

    def compressed_pieces(self) -> Iterator[bytes]:
        """Read the file as it is."""
        return _read(self._file)

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what it could not write
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


async def spool_array(values: list[bytes]) -> Spool:
    """Write the array of these values."""
    if len(values) <= SHORT and _joined_length(values) <= PIECE_BYTES:
        return Spool(b"[%b]" % b",".join(values))
    return await spool_batches(_only(values))


async def _only(values: list[bytes]) -> AsyncIterator[list[bytes]]:
    yield values


async def spool_batches(batches: AsyncIterable[list[bytes]]) -> Spool:
    """Write the array of the values in all batches."""
    spool = Spool(b"")
    sign = b"["
    try:
        async for values in batches:
            await _write(spool, sign, values)
            sign = b","
        spool.finish(b"[]" if sign == b"[" else b"]")
    except BaseException:
        spool.close()
        raise
    return spool


async def _write(spool: Spool, sign: bytes, values: list[bytes]) -> None:
    """Write so many values at a time as make a piece, while other requests have their turns."""
    together = max(1, len(values) * PIECE_BYTES // _joined_length(values))
    for start in range(0, len(values), together):
        values[start] = sign + values[start]
        sign = b","
        spool.write(b",".join(values[start : start + together]))
        if spool.is_in_file:
            await asyncio.sleep(0)


def _joined_length(values: list[bytes]) -> int:
    return sum(map(len, values)) + len(values)
