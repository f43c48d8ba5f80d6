"""Tools for an agent, made from the contract by FastMCP, are small and drive every operation."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
from fastmcp import Client, FastMCP

CONTRACT = json.loads(Path(os.environ["CONTRACT"]).read_text())
USER = {"user_id": os.environ["USER_ID"]}
MOST_CHARACTERS = 4000

Call: TypeAlias = Callable[..., Awaitable[Any]]


async def main() -> None:
    http = httpx2.AsyncClient(
        base_url=os.environ["BASE_URL"],
        headers={"Authorization": f"Bearer {os.environ['TOKEN']}"},
    )
    async with Client(FastMCP.from_openapi(CONTRACT, http)) as client:
        tools = {tool.name: tool.input_schema for tool in await client.list_tools()}
        schemas_are_small_and_complete(tools)

        async def call(name: str, /, **arguments: object) -> object:
            answer = await client.call_tool(name, arguments)
            return answer.structured_content

        await every_operation_is_driven(call)
        await a_task_that_is_completed_three_times_is_completed(call)


def schemas_are_small_and_complete(tools: dict[str, dict[str, Any]]) -> None:
    sizes = {name: len(json.dumps(schema, separators=(",", ":"))) for name, schema in tools.items()}
    assert max(sizes.values()) <= MOST_CHARACTERS, sizes
    operations = tools["batchTasks"]["properties"]["operations"]["items"]["anyOf"]
    required = {each["properties"]["op"]["const"]: each["required"] for each in operations}
    assert required == {
        "create": ["op", "task"],
        "update": ["op", "id", "task"],
        "delete": ["op", "id"],
    }
    assert tools["toggleTaskCompletion"]["properties"]["completed"] == {"type": "boolean"}


async def every_operation_is_driven(call: Call) -> None:
    task = await call("createTask", **USER, title="Buy milk")
    item = USER | {"task_id": task["id"]}
    since = (await call("listChanges", **USER))["next"]
    assert (await call("getTask", **item)) == task
    assert (await call("listUserTasks", **USER, limit=20))["result"] == [task]
    assert (await call("updateTask", **item, title="Buy bread"))["title"] == "Buy bread"
    assert (await call("patchTask", **item, priority="high"))["priority"] == "high"
    await call("batchTasks", **USER, operations=[{"op": "delete", "id": task["id"]}])
    assert (await call("listChanges", **USER, since=since))["changes"] == [
        {"id": task["id"], "deleted": True}
    ]
    another = await call("createTask", **USER, title="Buy butter")
    await call("deleteTask", **USER, task_id=another["id"])
    token = await call("createToken", **USER, name="Nightly export", scope="read")
    assert [each["id"] for each in (await call("listTokens", **USER))["result"]] == [token["id"]]
    assert (await call("getToken", **USER, token_id=token["id"]))["scope"] == "read"
    await call("endToken", **USER, token_id=token["id"])
    await call("isAlive")
    await call("isReady")


async def a_task_that_is_completed_three_times_is_completed(call: Call) -> None:
    task = await call("createTask", **USER, title="Complete it")
    item = USER | {"task_id": task["id"]}
    completed = [await call("toggleTaskCompletion", **item, completed=True) for _ in range(3)]
    toggled = await call("toggleTaskCompletion", **item)
    assert [each["completed"] for each in [*completed, toggled]] == [True, True, True, False]


asyncio.run(main())
