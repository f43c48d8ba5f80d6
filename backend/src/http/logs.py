"""Log lines: plain text for people, or a JSON object each for machines."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import TextIO, TypeAlias

FLUSH_SECONDS = 0.1

LogRequest: TypeAlias = Callable[[str, str, int, float, str], None]
"""Takes method, path template, status, seconds and request id."""

# Of values that need no escaping: the server knows the methods, we the templates and sane ids.
_REQUEST = {
    "text": "%s INFO %s %s %d %.1f ms %s",
    "json": (
        '{"time":"%s","level":"info","logger":"src.request","message":"request",'
        '"method":"%s","path":"%s","status":%d,"ms":%.1f,"request_id":"%s"}'
    ),
}


class TextFormatter(logging.Formatter):
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
        return json.dumps(line, ensure_ascii=False)


class BatchingHandler(logging.StreamHandler[TextIO]):
    """Write the lines of FLUSH_SECONDS together, but at once what is a warning or worse."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.add(self.format(record))
        if record.levelno >= logging.WARNING:
            self.flush()

    def add(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) == 1:
            try:
                asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            except RuntimeError:  # no loop is running: the service starts or stops
                self.flush()

    def flush(self) -> None:
        lines, self.lines = self.lines, []
        if lines:
            self.stream.write("\n".join(lines) + "\n")
        super().flush()


def configure_logging(level: str, style: str) -> LogRequest:
    """Send everything to standard output, and return what writes a request's line.

    The server's own lines are shown from `warning` up, a request's at `info` and `debug`; it does
    not go through `logging`, which takes a sixth of the time of a small request.
    """
    handler = BatchingHandler(sys.stdout)
    text = TextFormatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JSONFormatter() if style == "json" else text)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("src").setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        server = logging.getLogger(name)
        server.handlers, server.propagate = [], True
        server.setLevel(logging.INFO if level == "debug" else logging.WARNING)
    # Without a handler the server does not make lines that would say less than ours.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False

    line = _REQUEST[style]

    def log_request(method: str, path: str, status: int, seconds: float, request_id: str) -> None:
        handler.add(line % (_time(time()), method, path, status, seconds * 1000, request_id))

    return log_request if logging.getLogger("src").isEnabledFor(logging.INFO) else _say_nothing


def _say_nothing(*_: object) -> None:
    pass


def _time(seconds: float) -> str:
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{milliseconds:03}+00:00"


@lru_cache(maxsize=1)
def _second(seconds: int) -> str:
    """Format what many lines in a row have in common once."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
