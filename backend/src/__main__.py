"""`make run`: say where things are, then serve."""

import uvicorn

from src.config import get_settings


def main() -> None:
    settings = get_settings()
    where = f"http://{settings.host}:{settings.port}"
    if settings.database_url is None:
        data = f"{settings.data_dir} (embedded PostgreSQL; set DATABASE_URL to use Neon)"
    else:
        data = "where DATABASE_URL says"
    print(f"API   {where}/api\nDocs  {where}/docs\nData  {data}\nStop  Ctrl-C", flush=True)
    uvicorn.run(
        "src.main:app",
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main()
