"""The published contract is the service's own and is complete, and the service keeps it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from src.schemas.changes import TOKEN
from tests.serving import BACKEND, Server
from tests.tasks import create
from tests.tokens import bearer, create_token, token

CONTRACT: dict[str, Any] = json.loads(
    (BACKEND.parent / "specs/001-backend-api-database/contracts/openapi.json").read_text()
)
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method, path, operation)
    for path, operations in CONTRACT["paths"].items()
    for method, operation in operations.items()
}
STATUSES = {
    "listUserTasks": "200 304 400 401 403 414 422 500 503",
    "createTask": "201 400 401 403 413 414 415 422 429 500 503",
    "listChanges": "200 304 400 401 403 410 414 422 429 500 503",
    "batchTasks": "200 400 401 403 404 412 413 414 415 422 429 500 503",
    "getTask": "200 304 400 401 403 404 412 414 422 500 503",
    "updateTask": "200 400 401 403 404 412 413 414 415 422 429 500 503",
    "patchTask": "200 400 401 403 404 412 413 414 415 422 429 500 503",
    "deleteTask": "200 400 401 403 404 412 414 422 500 503",
    "toggleTaskCompletion": "200 400 401 403 404 412 413 414 415 422 429 500 503",
    "listTokens": "200 304 400 401 403 414 422 500 503",
    "createToken": "201 400 401 403 413 414 415 422 429 500 503",
    "getToken": "200 304 400 401 403 404 412 414 422 500 503",
    "endToken": "200 400 401 403 404 412 414 422 500 503",
    "isAlive": "200 500",
    "isReady": "200 500 503",
}

BODIES: dict[str, Any] = {
    "createTask": {"title": "Buy milk"},
    "batchTasks": {"operations": [{"op": "create", "task": {"title": "Buy milk"}}]},
    "updateTask": {"description": "Two litres"},
    "patchTask": {"description": "Two litres"},
    "toggleTaskCompletion": {"completed": True},
    "createToken": {"name": "Nightly export"},
}
NEVER = 2**33
KINDS = ["Create", "Update", "Delete"]

# How to get each of these answers from any operation that has the answer. 500 and 503 need a fault,
# and 429 needs 10,000 keys: see `test_key_storage.py`.
PATHS: dict[int, dict[str, object]] = {
    400: {"user_id": "%FF"},
    404: {"task_id": uuid4(), "token_id": uuid4()},
    414: {"user_id": "u" * 5000},
    422: {"user_id": "u" * 256},
}
REQUESTS: dict[int, dict[str, Any]] = {
    304: {"headers": {"If-None-Match": "*"}},
    401: {"headers": bearer("no.good.token")},
    403: {"headers": bearer(token("another", exp=NEVER))},
    410: {"params": {"since": TOKEN}},
    412: {"headers": {"If-Match": '"another"'}},
    413: {"content": b"x" * 200_000, "headers": {"Content-Type": "application/json"}},
    415: {"content": b"title=Buy+milk", "headers": {"Content-Type": "text/plain"}},
}

# The requests for answers of a batch. Other operations need other requests.
OF_BATCHES: dict[int, dict[str, Any]] = {
    404: {"json": {"operations": [{"op": "delete", "id": str(uuid4())}]}},
    413: {"content": b"x" * 4_000_000, "headers": {"Content-Type": "application/json"}},
}

# Headers of the message itself, or of the connection: RFC 9110 §6.6.1, §7.6.1, §8.
OF_ANY_MESSAGE = {
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "x-content-type-options",
}

SCHEMATHESIS = """
hooks = "tests.generated_requests"
continue-on-failure = true
generation.allow-x00 = false
generation.database = "none"

[checks.positive_data_acceptance]
expected-statuses = ["2xx", 304, 404, 410, 412]

[[operations]]
include-tag = "health"
generation.max-examples = 5
"""
WITH_TOKEN = """
[auth.openapi.token]
bearer = "{token}"

[parameters]
"path.user_id" = "{user}"

[[operations]]
include-operation-id = "createToken"  # a user may have 50
checks.positive_data_acceptance.expected-statuses = ["2xx", 412, 422]
"""

open_mode = pytest.mark.parametrize("server", ["open"], indirect=True)
jwt_mode = pytest.mark.parametrize("server", ["jwt"], indirect=True)


def resolved(described: dict[str, Any]) -> dict[str, Any]:
    found = CONTRACT if "$ref" in described else described
    for name in described.get("$ref", "").split("/")[1:]:
        found = found[name]
    return found


def has_example(content: dict[str, Any]) -> bool:
    schema = content["schema"]
    return {"example", "examples"} & content.keys() != set() or "example" in resolved(
        schema.get("items", schema)
    )


@jwt_mode
def test_the_published_contract_is_the_services_own(server: Server) -> None:
    with server.client() as api:
        assert api.get("/openapi.json").json() == CONTRACT, "make -C backend contract"


@open_mode
def test_in_open_mode_the_contract_asks_for_no_token(server: Server) -> None:
    with server.client() as api:
        contract = api.get("/openapi.json").json()

    assert contract["info"]["description"].splitlines()[0] == (
        "- `user_id` is any name, such as `ada`: anyone may act for any user, because AUTH_MODE is "
        "open."
    )
    assert "securitySchemes" not in contract["components"]
    for operations in contract["paths"].values():
        for operation in operations.values():
            assert "security" not in operation
            assert operation["responses"].keys().isdisjoint({"401", "403"})


def test_every_operation_lists_its_answers() -> None:
    said = {name: " ".join(each["responses"]) for name, (_, _, each) in OPERATIONS.items()}

    assert said == STATUSES


def test_the_contract_begins_with_at_most_eight_lines_of_advice_for_clients() -> None:
    lines = CONTRACT["info"]["description"].splitlines()

    assert len(lines) <= 8
    for line, topic in zip(
        lines,
        ["token", "user_id", "limit", "Key", "Times", "changes", "error", "unknown"],
        strict=True,
    ):
        assert topic in line
        assert len(line) < 130


def test_the_description_of_an_operation_begins_with_a_verb() -> None:
    """An agent's tool has the description, or the summary if there is no description."""
    verbs = ("Change", "Complete", "Create", "Delete", "End", "Get", "List", "Make", "Say")
    for name, (_, _, operation) in OPERATIONS.items():
        assert operation.get("description", operation["summary"]).startswith(verbs), name


def test_the_contract_offers_no_condition_that_only_a_star_meets() -> None:
    offered = {
        name: [each["name"] for each in operation["parameters"] if each.get("in") == "header"]
        for name, (_, _, operation) in OPERATIONS.items()
    }

    assert offered["listUserTasks"] == ["Prefer", "If-None-Match"]
    assert offered["createTask"] == ["Idempotency-Key"]
    assert "If-Match" not in offered["listChanges"]


def test_a_create_and_a_change_have_the_same_schema_of_tags() -> None:
    """A create's own default must not hide what else the schema says."""
    schemas = CONTRACT["components"]["schemas"]
    create, change = (schemas[name]["properties"]["tags"] for name in ("TaskCreate", "TaskUpdate"))

    assert create == change
    assert [each.get("maxItems", each["type"]) for each in create["anyOf"]] == [
        20,
        "string",
        "null",
    ]


def test_generators_find_a_server_and_each_constant_also_as_an_enum() -> None:
    schemas = CONTRACT["components"]["schemas"]
    operations = [schemas[f"{kind}Operation"]["properties"]["op"] for kind in KINDS]

    assert CONTRACT["servers"] == [{"url": "/"}]
    assert [(op["const"], op["enum"]) for op in operations] == [
        (kind.lower(), [kind.lower()]) for kind in KINDS
    ]


def test_the_whole_contract_has_descriptions_and_examples() -> None:
    for _, _, operation in OPERATIONS.values():
        assert operation["summary"]
        for parameter in map(resolved, operation["parameters"]):
            assert parameter["description"]
            assert parameter["schema"]["examples"]
        for body in operation.get("requestBody", {"content": {}})["content"].values():
            assert has_example(body)
        for response in operation["responses"].values():
            assert response["description"] != "Successful Response"
            for header in map(resolved, response["headers"].values()):
                assert header["description"]
                assert header["example"]
            for content in response.get("content", {}).values():
                assert has_example(content)


@jwt_mode
@pytest.mark.parametrize(
    ("name", "status"),
    [
        (name, int(status))
        for name, statuses in STATUSES.items()
        for status in statuses.split()
        if int(status) < 500 and status != "429"
    ],
)
def test_every_answer_matches_the_contract(
    server: Server, user: str, name: str, status: int
) -> None:
    method, path, operation = OPERATIONS[name]
    with server.client() as api:
        ids = {"task_id": create(api, user)["id"], "token_id": create_token(api, user)["id"]}
        place = {"user_id": user} | ids | PATHS.get(status, {})
        asked = REQUESTS | (OF_BATCHES if name == "batchTasks" else {})
        request: dict[str, Any] = {"json": BODIES.get(name)} | asked.get(status, {})
        if (name, status) == ("batchTasks", 412):
            changed = {"op": "delete", "id": place["task_id"], "if_match": '"another"'}
            request["json"] = {"operations": [changed]}
        answer = api.request(method, path.format_map(place), **request)
    said = operation["responses"][str(status)]
    headers = {each.lower(): resolved(header) for each, header in said["headers"].items()}

    assert answer.status_code == status, answer.text
    assert answer.headers.get("content-type") in said.get("content", {None})
    assert set(answer.headers) - OF_ANY_MESSAGE <= headers.keys()
    assert {each for each, header in headers.items() if header["required"]} <= set(answer.headers)


@open_mode
def test_the_service_keeps_its_contract_in_a_thousand_cases(
    server: Server, tmp_path: Path, full: bool, seed: int
) -> None:
    (tmp_path / "schemathesis.toml").write_text(SCHEMATHESIS)

    assert passed_cases(server, tmp_path, seed, 270 if full else 4) >= (2000 if full else 1000)


@jwt_mode
def test_the_service_keeps_its_contract_with_tokens(
    server: Server, user: str, tmp_path: Path, seed: int, full: bool
) -> None:
    config = SCHEMATHESIS + WITH_TOKEN.format(token=token(user), user=user)
    (tmp_path / "schemathesis.toml").write_text(config)

    # The other phases do the same as without a token.
    some = () if full else ("--phases=fuzzing,stateful",)
    assert passed_cases(server, tmp_path, seed, 20 if full else 8, *some) >= (400 if full else 100)


def passed_cases(server: Server, folder: Path, seed: int, max_examples: int, *options: str) -> int:
    said = subprocess.run(
        [
            Path(sys.executable).parent / "schemathesis",
            "run",
            f"{server.url}/openapi.json",
            "--checks=all",
            f"--seed={seed}",
            f"--max-examples={max_examples}",
            *options,
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(BACKEND)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout
    [(generated, passed)] = re.findall(r"([\d,]+) generated, ([\d,]+) passed", said.stdout)
    assert generated == passed
    return int(passed.replace(",", ""))
