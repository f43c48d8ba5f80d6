"""`make run`: serve, and say where things are."""

import signal

# Without this line, Ctrl-C during the imports, here or in a worker, would show a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import errno
import logging
import os
import sys
from functools import partial

from src.config import DATA_ADVICE, NO_KEY, Settings, get_settings, log_format, refuse_to_start
from src.framework.addresses import is_loopback
from src.framework.exceptions import DO_NOT_RESTART, CannotStart
from src.framework.server.logs import configure_logging, log_from_the_first_line, standard_output
from src.framework.server.process import (
    Config,
    Server,
    Supervisor,
    allow_many_connections,
    bound_sockets,
    cannot_listen,
    log_end,
)
from src.framework.sql.embedded import check_folder

# How long requests in flight may still take, including slow uploads.
SHUTDOWN_SECONDS = 5


def main(app: str = "src.main:app") -> None:
    log_from_the_first_line(log_format())
    settings = get_settings()
    place = settings.host, settings.port, ("HOST", "PORT")
    try:
        sockets = bound_sockets(*place)
        if settings.database_url is None:
            check_folder(settings.data_dir, DATA_ADVICE)
    except CannotStart as error:
        refuse_to_start(str(error))
    if settings.auth_mode is None:
        if not all(is_loopback(each.getsockname()[0]) for each in sockets):
            refuse_to_start(NO_KEY)
        os.environ["AUTH_MODE"] = "open"  # for workers, too
        get_settings.cache_clear()
        settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    allow_many_connections()
    config = Config(
        app,
        settings.log_format,
        workers=settings.workers,
        http="src.framework.server.protocol:HTTPProtocol",
        log_config=None,
        access_log=False,
        # Nothing needs the client's address or scheme.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    service = Supervisor(config, sockets) if settings.workers > 1 else Server(config)
    service.drain_seconds = settings.drain_seconds
    service.when_ready = partial(say_where, settings)
    try:
        if isinstance(service, Server):
            service.run(sockets)
            return
        service.run()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        refuse_to_start(str(cannot_listen(*place, error)))
    if DO_NOT_RESTART in {worker.exitcode for worker in service.processes}:
        sys.exit(DO_NOT_RESTART)
    log_end()


def say_where(settings: Settings) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"http://{host}:{settings.port}{settings.root_path}"
    if settings.database_url is None:
        data = f"{settings.data_dir} (embedded PostgreSQL; set DATABASE_URL to use Neon)"
    else:
        data = "in the database of DATABASE_URL"
    callers = "anyone (AUTH_MODE=open)" if settings.auth_mode == "open" else "anyone with a token"
    said = {"API": f"{where}/api", "Docs": f"{where}/docs", "Data": data, "Users": callers}
    if settings.log_format == "text":
        lines = [f"{name:5} {what}" for name, what in said.items()]
        standard_output("text").write([*lines, "Stop  Ctrl-C"])
    else:
        facts = "; ".join(f"{name} {what}" for name, what in said.items())
        logging.getLogger("src").info("Started: %s", facts)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
