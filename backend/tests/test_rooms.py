"""The picture of the rooms is true: of today's imports, and of a request that is followed."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from uvicorn import Config
from uvicorn.server import ServerState

from src.config import Settings
from src.framework.server.protocol import HTTPProtocol
from src.main import create_app
from tests.rooms import PICTURE, WAY, draw
from tests.tasks import tasks_path
from tests.test_layers import SRC
from tests.tokens import SECRET, TokenOfThePath


def test_the_picture_shows_todays_imports() -> None:
    is_true = PICTURE.read_text() == draw()

    assert is_true, "src no longer looks like its picture: run `make picture` and commit it"


@contextmanager
def followed() -> Iterator[list[str]]:
    """Note each function of `src` when it is first called, as the picture names it."""
    called: dict[str, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SRC):
            called[f"{path.relative_to(SRC)} {frame.f_code.co_qualname}"] = None

    found: list[str] = []
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        found += called


@pytest.mark.anyio
async def test_a_put_goes_the_way_that_the_picture_shows(engine: AsyncEngine, user: str) -> None:
    app = create_app(Settings(auth_mode="jwt", auth_secret=SECRET, log_level="warning"))
    app.engine = engine
    config = Config(app)
    config.load()
    protocol = partial(HTTPProtocol, config=config, server_state=ServerState(), app_state={})
    listener = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    address, port = listener.sockets[0].getsockname()
    async with (
        listener,
        httpx.AsyncClient(base_url=f"http://{address}:{port}", auth=TokenOfThePath()) as api,
    ):
        created = await api.post(tasks_path(user), json={"title": "Buy milk"})
        with followed() as called:
            changed = await api.put(created.headers["Location"], json={"title": "Buy bread"})

    assert changed.status_code == 200
    places = [place for step in WAY for place in (step.place, step.aside) if " " in place]
    assert [place for place in called if place in places] == places
