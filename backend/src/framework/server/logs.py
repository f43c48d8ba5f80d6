"""Log lines: plain text for people, or a JSON object each for machines."""

import asyncio
import json
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache, lru_cache
from time import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from src.framework.web.middleware import LogRequest, Peer

FLUSH_SECONDS = 0.1

LAST_LINES_SECONDS = 2.0
"""How long a process that ends waits for its last lines to be read."""

BUFFER_BYTES = 2**20
"""How many bytes wait for a slow or absent reader; as many again may be in a write."""

PIPE_BUF: int = getattr(select, "PIPE_BUF", 512)
"""A write of up to this size is atomic (POSIX `write`): the lines of workers do not mix."""

MAX_PEER = 64
"""Longer than any address. Plain uvicorn reads the peer from a header, which may have any text."""

# These values need no escaping: the parser checks methods, we check ids, and templates are ours.
_REQUEST = {
    "text": "%s INFO %s %s %d %.1f ms %s %s",
    "json": (
        '{"time":"%s","level":"info","logger":"src.request","message":"request",'
        '"method":"%s","path":"%s","status":%d,"ms":%.1f,"request_id":"%s","peer":"%s"}'
    ),
}


# Characters that could move a terminal's cursor, or be taken for the end of a line.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != ord("\n")}


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Indent all lines but the first, so that none looks like a record of its own."""
        return super().format(record).translate(_CONTROLS).replace("\n", "\n  ")

    def formatTime(self, record: logging.LogRecord, _datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        return _time(record.created)


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


_FORMATTERS = {
    "text": TextFormatter("%(asctime)s %(levelname)s %(message)s"),
    "json": JSONFormatter(),
}


class Output:
    """A file, pipe or terminal, written by a thread so that nothing else blocks.

    Lines that do not fit are dropped and counted; the count is logged as soon as there is room.
    The descriptor stays blocking, because other processes may share it.
    """

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        self.formatter = formatter
        self._descriptor = descriptor
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._lost = 0
        self._is_read = True
        self._is_torn = False
        self._is_writing = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def write(self, lines: list[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
        with self._changed:
            if self._waiting_bytes + len(data) > BUFFER_BYTES:
                self._lost += len(lines)
            else:
                self._waiting.append(data)
                self._waiting_bytes += len(data)
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait up to LAST_LINES_SECONDS for pending lines. After one timeout, never wait again."""
        with self._changed:
            self._is_read = self._is_read and self._changed.wait_for(
                lambda: not self._waiting and not self._is_writing, LAST_LINES_SECONDS
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                self._is_writing = True
                data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
                lost, self._lost = self._lost, 0
            lost += self._write(data)
            if lost and self._write(f"{self.formatter.format(_dropped(lost))}\n".encode()) == 0:
                lost = 0
            with self._changed:
                self._lost += lost

    def _write(self, data: bytes) -> int:
        """Write lines, and return how many could not be written."""
        end = 0
        for piece in _pieces(data):
            end += len(piece)
            rest = b"\n" + piece if self._is_torn else piece
            while rest:
                try:
                    size = os.write(self._descriptor, rest)
                except BlockingIOError:  # another process has made the descriptor non-blocking
                    select.select([], [self._descriptor], [])
                except OSError:  # the reader is gone, or the disk is full
                    return data.count(b"\n", end - min(len(rest), len(piece)))
                else:
                    self._is_torn = not rest[:size].endswith(b"\n")
                    rest = rest[size:]
        return 0


def _pieces(data: bytes) -> Iterator[bytes]:
    """Split after lines, into pieces of up to PIPE_BUF bytes. A longer line is one piece."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + PIPE_BUF) + 1 or data.index(b"\n", start) + 1
        yield data[start:end]
        start = end


def _dropped(lines: int) -> logging.LogRecord:
    message = f"{lines} log lines were dropped: their reader is slow or gone, or the disk is full"
    return logging.makeLogRecord({"name": __name__, "levelname": "ERROR", "msg": message})


@cache
def standard_output(style: str) -> Output:
    # The next socket would otherwise get the number of a standard stream that is closed.
    while (nowhere := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(nowhere, True)
    if sys.__stdout__ is None:
        return Output(nowhere, _FORMATTERS[style])
    os.close(nowhere)
    return Output(sys.__stdout__.fileno(), _FORMATTERS[style])


class BatchingHandler(logging.Handler):
    """Passes on the lines from `add` every FLUSH_SECONDS, and log records at once."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self.setFormatter(output.formatter)
        self.output = output
        self.lines: deque[str] = deque()
        self.taking = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self.hand_over()

    def add(self, line: str) -> None:
        """Add a line. Call it from the event loop's thread only."""
        self.lines.append(line)
        if len(self.lines) == 1:
            try:
                asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.hand_over)
            except RuntimeError:  # no loop is running: the service starts or stops
                self.hand_over()

    def hand_over(self) -> None:
        with self.taking:
            lines = [self.lines.popleft() for _ in range(len(self.lines))]
        if lines:
            self.output.write(lines)

    def flush(self) -> None:
        """Wait for the last lines to be read; `logging` calls this when the process ends."""
        self.hand_over()
        self.output.flush()


@cache
def configure_logging(level: str, style: str) -> "LogRequest":
    """Send all logs to standard output, and return the function that logs a request.

    uvicorn's own lines appear from `warning` up, or with `debug` from `info` up. Request lines
    appear with `info` and `debug`. Request lines bypass `logging`, which would take a sixth of the
    time of a small request.
    """
    handler = BatchingHandler(standard_output(style))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("src").setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        server = logging.getLogger(name)
        server.handlers, server.propagate = [], True
        server.setLevel(logging.INFO if level == "debug" else logging.WARNING)
    # Without a handler uvicorn skips its access log, which says less than ours.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False

    line = _REQUEST[style]

    def log_request(  # noqa: PLR0913, PLR0917 - what a line has
        method: str, path: str, status: int, seconds: float, request_id: str, peer: "Peer"
    ) -> None:
        address = _escaped(peer[0][:MAX_PEER]) if peer else "-"
        now = _time(time())
        handler.add(line % (now, method, path, status, seconds * 1000, request_id, address))

    return log_request if logging.getLogger("src").isEnabledFor(logging.INFO) else _discard


def log_from_the_first_line(style: str) -> None:
    """Log everything that would go to standard error, even before settings are read."""
    configure_logging("warning", style)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = _log_ignored
    threading.excepthook = _log_ignored


def _log_ignored(failed: "sys.UnraisableHookArgs | threading.ExceptHookArgs") -> None:
    _log_uncaught(failed.exc_type, failed.exc_value, failed.exc_traceback)


def _log_uncaught(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    exc_info = (kind, error or kind(), traceback)
    logging.getLogger(__name__).critical("Unexpected error", exc_info=exc_info)


def write_last_lines() -> None:
    """Write all lines so far, and wait up to LAST_LINES_SECONDS for them to be read."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def print_error(sentence: str, style: str) -> None:
    """Write a sentence to standard error; wait up to LAST_LINES_SECONDS for it to be read."""
    if sys.__stderr__ is not None:
        record = logging.makeLogRecord({"name": __name__, "levelname": "ERROR", "msg": sentence})
        output = Output(sys.__stderr__.fileno(), _FORMATTERS[style])
        output.write([output.formatter.format(record) if style == "json" else sentence])
        output.flush()


def _discard(*_: object) -> None:
    pass


@lru_cache(maxsize=1024)
def _escaped(text: str) -> str:
    return json.dumps(text)[1:-1].replace(" ", "\\u0020")


def _time(seconds: float) -> str:
    return _millisecond(int(seconds * 1000))


# Lines that follow each other share the time, or at least its second.
@lru_cache(maxsize=1)
def _millisecond(milliseconds: int) -> str:
    whole, rest = divmod(milliseconds, 1000)
    return f"{_second(whole)}.{rest:03}+00:00"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
