"""Log lines: plain text for people, or a JSON object each for machines."""

import asyncio
import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import TextIO

FLUSH_SECONDS = 0.1


class JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class BatchingHandler(logging.StreamHandler[TextIO]):
    """Write the lines of FLUSH_SECONDS at once, and at once what is a warning or worse."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        if record.levelno >= logging.WARNING:
            self.flush()
        elif len(self.lines) == 1:
            try:
                asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            except RuntimeError:  # no loop is running: the service starts or stops
                self.flush()

    def flush(self) -> None:
        lines, self.lines = self.lines, []
        if lines:
            self.stream.write("\n".join(lines) + "\n")
        super().flush()


def configure_logging(level: str, style: str) -> None:
    """Send everything to standard output; the server's own lines only from `warning` up."""
    # What no line here shows need not be looked up (the logging HOWTO's own advice).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    quiet = "INFO" if level == "debug" else "WARNING"
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "text": {"format": "%(asctime)s %(levelname)s %(message)s"},
                "json": {"()": JSONFormatter},
            },
            "handlers": {
                "stdout": {
                    "()": BatchingHandler,
                    "stream": "ext://sys.stdout",
                    "formatter": style,
                }
            },
            "root": {"level": quiet, "handlers": ["stdout"]},
            "loggers": {
                "src": {"level": level.upper()},
                "uvicorn": {"level": quiet, "handlers": [], "propagate": True},
                "uvicorn.error": {"level": quiet, "handlers": [], "propagate": True},
                "uvicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
            },
        }
    )
