"""Checks that all servers give the same answers, before the benchmark compares the servers."""

from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from benchmarks.peers import Running

TASK = {
    "title": "Buy milk",
    "description": "Two litres, “whole”",
    "completed": True,
    "priority": "high",
    "due_date": "2026-12-24T09:30:00+01:00",
    "tags": ["home", "errands"],
}
TIMES = ("due_date", "created_at", "updated_at")


def check(servers: dict[str, Running]) -> None:
    """Raise RuntimeError if a server's answers differ from the first server's answers."""
    talks = {name: talk(server) for name, server in servers.items()}
    first, *_ = talks.values()
    for name, said in talks.items():
        for expected, answer in zip(first, said, strict=True):
            if answer != expected:
                raise RuntimeError(f"{name} answers {answer}, not {expected}")


def talk(server: Running) -> list[tuple[str, int, object]]:
    """Send each operation; return each status and answer, without new ids and times."""
    path = "/api/contract/tasks"
    said: list[tuple[str, int, object]] = []
    with httpx.Client(base_url=server.url) as client:

        def ask(method: str, url: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
            answer = client.request(method, url, json=body)
            known = answer.json() if answer.is_success else None
            said.append((f"{method} {url.replace(made, '…')}", answer.status_code, plain(known)))
            return known

        made = "…"
        made = ask("POST", path, TASK)["id"]
        task = f"{path}/{made}"
        second = ask("POST", path, {"title": "Buy bread"})["id"]
        ask("GET", path)
        ask("GET", task)
        ask("PUT", task, {"title": "Buy oat milk", "completed": False})
        ask("PUT", task, {"description": None, "priority": "low", "due_date": None, "tags": []})
        ask("PATCH", f"{task}/complete")
        anothers = task.replace("contract", "foreign")
        ask("GET", anothers)
        ask("PUT", anothers, {"title": "Mine now"})
        ask("PATCH", f"{anothers}/complete")
        ask("DELETE", anothers)
        ask("DELETE", task)
        ask("DELETE", task)
        ask("GET", task)
        client.delete(f"{path}/{second}")
    return said


def plain(said: Any) -> object:  # noqa: ANN401 - JSON
    """Leave out ids and times that each run makes anew; read due dates in any form of RFC 3339."""
    if isinstance(said, list):
        return [plain(each) for each in said]
    if not isinstance(said, dict) or "id" not in said:
        return said
    UUID(said["id"])
    read = {name: said[name] and datetime.fromisoformat(said[name]) for name in TIMES}
    if read["updated_at"] < read["created_at"]:
        raise RuntimeError(f"updated before it was created: {said}")
    # Peers have no days, times of completion or further members. Bun's answer has every column.
    ours = {"all_day", "completed_at", "further"}
    known = {name: value for name, value in said.items() if name not in ours}
    return known | {"id": "…", "due_date": read["due_date"], "created_at": "…", "updated_at": "…"}
