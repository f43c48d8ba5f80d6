"""Calls the tools of the recipe for agents, whose code is the first argument, as a model would."""

import asyncio
import sys
from typing import Any

from fastmcp import Client, FastMCP

recipe: dict[str, Any] = {}
exec(sys.argv[1], recipe)
server: FastMCP = recipe["server"]


async def main() -> None:
    async with Client(server) as agent:

        async def call(tool: str, **arguments: object) -> Any:  # noqa: ANN401 - what a tool answers
            return (await agent.call_tool(tool, arguments)).structured_content

        tools = {tool.name: tool.input_schema for tool in await agent.list_tools()}
        task = await call("createTask", title="Buy milk")
        completed = [
            (await call("patchTask", task_id=task["id"], completed=True))["completed"]
            for _ in range(2)
        ]
        batch = [
            {"op": "create", "task": {"title": "Buy bread"}},
            {"op": "update", "id": task["id"], "task": {"title": "Buy oat milk"}},
        ]
        results = (await call("batchTasks", operations=batch))["results"]
        listed = (await call("listUserTasks", limit=10))["result"]
        got = await call("getTask", task_id=task["id"])
        deleted = await call("deleteTask", task_id=task["id"])

    assert len(tools) == 6
    assert all("user_id" not in schema.get("properties", {}) for schema in tools.values())
    assert completed == [True, True]
    assert [result["status"] for result in results] == [201, 200]
    assert [each["title"] for each in listed] == ["Buy oat milk", "Buy bread"]
    assert got == listed[0]
    assert deleted == {"message": "Task deleted successfully"}
    await recipe["client"].aclose()


asyncio.run(main())
