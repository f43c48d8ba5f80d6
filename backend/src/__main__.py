"""`make run`: say where things are, then serve."""

import sys

from uvicorn import Config, Server

from src.config import get_settings
from src.http.logs import configure_logging, standard_output
from src.http.process import Supervisor, allow_many_connections

# Longer than a load balancer's, so that it is never the service that closes a connection in use.
KEEP_ALIVE_SECONDS = 75

# For requests in flight, slow uploads too.
SHUTDOWN_SECONDS = 5


def main() -> None:
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"http://{host}:{settings.port}"
    if settings.database_url is None:
        data = f"{settings.data_dir} (embedded PostgreSQL; set DATABASE_URL to use Neon)"
    else:
        data = "where DATABASE_URL says"
    allow_many_connections()
    callers = "of the token" if settings.auth_mode == "jwt" else "anyone (AUTH_MODE=open)"
    lines = [
        f"API   {where}/api",
        f"Docs  {where}/docs",
        f"Data  {data}",
        f"Users {callers}",
        "Stop  Ctrl-C",
    ]
    standard_output(settings.log_format).write(lines)
    config = Config(
        "src.main:app",
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="src.http.protocol:HTTPProtocol",
        log_config=None,
        access_log=False,
        # Nothing asks for the client's address or scheme.
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    try:
        if settings.workers > 1:
            supervisor = Supervisor(config, sockets=[config.bind_socket()])
            supervisor.drain_seconds = settings.drain_seconds
            supervisor.run()
        else:
            Server(config).run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
