"""`make run`: say where things are, then serve."""

import sys

import uvicorn

from src.config import get_settings
from src.logs import configure_logging


def main() -> None:
    settings = get_settings()
    configure_logging(settings.log_level, settings.log_format)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    where = f"http://{host}:{settings.port}"
    if settings.database_url is None:
        data = f"{settings.data_dir} (embedded PostgreSQL; set DATABASE_URL to use Neon)"
    else:
        data = "where DATABASE_URL says"
    print(f"API   {where}/api\nDocs  {where}/docs\nData  {data}\nStop  Ctrl-C", flush=True)
    try:
        uvicorn.run(
            "src.main:app",
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            http="src.server:HTTPProtocol",
            log_config=None,
            access_log=False,
            server_header=False,
        )
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
