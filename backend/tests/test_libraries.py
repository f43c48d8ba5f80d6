"""The parts of libraries that the service uses, although the libraries do not promise them.

Each part has a test. If an upgrade changes a part, its test says what has changed.
"""

import ast
import asyncio
import struct
from inspect import signature
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic_settings import DotEnvSettingsSource
from sqlalchemy.ext.asyncio import AsyncEngine
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from src.config import Settings
from src.framework.sql.engine import was_not_sent
from tests.test_layers import SRC

# Each private name, and the file that may use it.
PRIVATE = {
    ("framework/sql/engine.py", "_do_get"),
    ("framework/sql/engine.py", "_do_return_conn"),
    ("framework/sql/engine.py", "_transport"),
}

# These names are public by Python's documentation, although they begin with an underscore.
PUBLIC = {"_asdict", "_replace"}


def private_names(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = [*ast.walk(tree)]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    own |= {
        node.target.id
        for node in nodes
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    own |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    used = {
        node.attr
        for node in attributes
        if node.attr.startswith("_") and not node.attr.endswith("__")
    }
    used |= {node.attr for node in attributes if node.attr == "__self__"}
    overridden = {
        node.attr
        for node in attributes
        if ast.unparse(node.value) == "super()" and node.attr in used
    }
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            used |= {name for name in names if name.startswith("_")}
    return used - (own - overridden) - PUBLIC


def test_every_private_name_of_a_library_in_src_has_a_test_here() -> None:
    used = {
        (str(path.relative_to(SRC)), name)
        for path in SRC.rglob("*.py")
        for name in private_names(path)
    }

    assert used == PRIVATE, "test each private name of a library in tests/test_libraries.py"


@pytest.mark.anyio
async def test_asyncpgs_connection_has_its_socket(engine: AsyncEngine) -> None:
    connection = await engine.raw_connection()
    driver: Any = connection.driver_connection
    connection.close()

    assert driver._transport.get_extra_info("socket").fileno() > 0, (
        "asyncpg.Connection no longer has _transport: the engine cannot see that a session was "
        "ended before it sends a write"
    )


@pytest.mark.anyio
async def test_sqlalchemys_pool_gives_its_entries_and_takes_them_back(engine: AsyncEngine) -> None:
    pool: Any = engine.pool
    (await engine.raw_connection()).close()

    entry = pool._do_get()
    taken = pool.checkedout()
    same = entry.get_connection() is entry.dbapi_connection is not None
    pool._do_return_conn(entry)

    assert (same, taken, pool.checkedout()) == (True, 1, 0), (
        "SQLAlchemy's pool works otherwise now: see Pool.take in the engine"
    )


def packet(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return kind + struct.pack("!i", len(body) + 4) + body


READY = (
    packet(b"R", struct.pack("!i", 0))
    + packet(b"S", b"server_version\x0017.0\x00")
    + packet(b"Z", b"I")
)
FAREWELL = packet(b"E", b"SFATAL\0", b"C57P01\0", b"Mterminating connection\0", b"\0")
NOTICE = packet(b"N", b"SNOTICE\0", b"C00000\0", b"Mthat was the farewell\0", b"\0")


@pytest.mark.anyio
async def test_asyncpg_reports_an_unsent_statement_after_the_servers_farewell() -> None:
    connected, heard, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(struct.unpack("!i", await reader.readexactly(4))[0] - 4)
        writer.write(READY)
        await connected.wait()
        writer.write(FAREWELL + NOTICE)
        await reader.read()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        driver = await asyncpg.connect(host=host, port=port, user="ada", ssl=False)
        driver.add_log_listener(lambda *_: heard.set())
        connected.set()
        await heard.wait()
        with pytest.raises(asyncpg.InternalClientError) as said:
            await driver.fetch("SELECT 1")
        driver.terminate()
        await closed.wait()

    assert was_not_sent(said.value), (
        f"asyncpg says {said.value} now when a session was ended: a write that it did not send "
        "would be 503 instead of being sent again"
    )


def test_uvicorns_protocol_has_the_members_that_our_protocol_uses() -> None:
    methods = {
        "connection_lost",
        "connection_made",
        "data_received",
        "eof_received",
        "on_body",
        "on_headers_complete",
        "on_message_begin",
        "on_message_complete",
        "on_response_complete",
        "shutdown",
    }
    flow = {"drain", "pause_reading", "read_paused", "resume_reading", "write_paused"}
    cycle = ["self", "scope", "transport", "flow", "logger", "access_logger", "access_log"]
    cycle += ["default_headers", "message_event", "expect_100_continue", "keep_alive"]
    cycle += ["on_response"]

    assert methods <= set(dir(HttpToolsProtocol)), "uvicorn's HttpToolsProtocol has changed"
    assert flow <= {*dir(FlowControl), *FlowControl.__init__.__code__.co_names}, (
        "uvicorn's FlowControl has changed"
    )
    assert [*signature(RequestResponseCycle.__init__).parameters] == cycle, (
        "uvicorn's RequestResponseCycle has changed"
    )
    assert {"receive", "run_asgi"} <= set(dir(RequestResponseCycle))


def test_pydantic_settings_keeps_the_variables_that_it_read_from_a_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / ".env"
    file.write_text("LOG_LEVEL=debug\n")

    source = DotEnvSettingsSource(Settings, env_file=file)

    assert source.env_vars == {"log_level": "debug"}, (
        "pydantic-settings no longer has env_vars: an empty variable cannot hide the file's"
    )
