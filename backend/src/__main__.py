"""`make run`: say where things are, then serve."""

import signal

# Without it, Ctrl-C during the imports, here or in a worker, would show a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

import logging
import sys

from uvicorn import Server

from src.config import Settings, get_settings, log_format
from src.framework.exceptions import DO_NOT_RESTART
from src.framework.server.logs import configure_logging, log_from_the_first_line, standard_output
from src.framework.server.process import Config, Supervisor, allow_many_connections, log_end

# Longer than a load balancer's, so that it is never the service that closes a connection in use.
KEEP_ALIVE_SECONDS = 75

# For requests in flight, including slow uploads.
SHUTDOWN_SECONDS = 5


def main(app: str = "src.main:app") -> None:
    log_from_the_first_line(log_format())
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    say_where(settings)
    allow_many_connections()
    config = Config(
        app,
        settings.log_format,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="src.framework.server.protocol:HTTPProtocol",
        log_config=None,
        access_log=False,
        # Nothing needs the client's address or scheme.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if settings.workers > 1:
        supervisor = Supervisor(config, sockets=[config.bind_socket()])
        supervisor.drain_seconds = settings.drain_seconds
        supervisor.run()
        if DO_NOT_RESTART in {worker.exitcode for worker in supervisor.processes}:
            sys.exit(DO_NOT_RESTART)
        log_end()
    else:
        Server(config).run()


def say_where(settings: Settings) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"http://{host}:{settings.port}"
    if settings.database_url is None:
        data = f"{settings.data_dir} (embedded PostgreSQL; set DATABASE_URL to use Neon)"
    else:
        data = "where DATABASE_URL says"
    callers = "of the token" if settings.auth_mode == "jwt" else "anyone (AUTH_MODE=open)"
    said = {"API": f"{where}/api", "Docs": f"{where}/docs", "Data": data, "Users": callers}
    if settings.log_format == "text":
        lines = [f"{name:5} {what}" for name, what in said.items()]
        standard_output("text").write([*lines, "Stop  Ctrl-C"])
    else:
        facts = "; ".join(f"{name} {what}" for name, what in said.items())
        logging.getLogger("src").info("Starting: %s", facts)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
