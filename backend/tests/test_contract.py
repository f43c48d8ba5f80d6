"""The published contract is the application's own, and the service keeps it."""

import json
import re
import subprocess
import sys
from pathlib import Path

from src.main import app
from tests.serving import BACKEND, Server

CONTRACT = BACKEND.parent / "specs" / "001-backend-api-database" / "contracts" / "openapi.json"
MEDIA_TYPES = {False: "application/json", True: "application/problem+json"}
OPERATIONS = [
    "listUserTasks",
    "createTask",
    "getTask",
    "updateTask",
    "deleteTask",
    "toggleTaskCompletion",
]


def test_the_published_contract_is_the_applications_own() -> None:
    assert json.loads(CONTRACT.read_text()) == app.openapi(), "make -C backend contract"


def test_every_operation_has_a_summary_an_example_and_its_errors() -> None:
    contract = app.openapi()
    operations = [
        operation
        for path, methods in contract["paths"].items()
        for operation in methods.values()
        if path.startswith("/api")
    ]

    assert [operation["operationId"] for operation in operations] == OPERATIONS
    for operation in operations:
        assert operation["summary"]
        assert {"400", "422", "500", "503"} <= operation["responses"].keys()
        for status, response in operation["responses"].items():
            assert response["description"] != "Successful Response"
            assert list(response["content"]) == [MEDIA_TYPES[status >= "400"]]
        for status in operation["responses"].keys() - {"200", "201"}:
            content = operation["responses"][status]["content"]["application/problem+json"]
            assert content["example"]["status"] == int(status)
    schemas = contract["components"]["schemas"]
    for name in ["TaskCreate", "TaskUpdate", "TaskPublic"]:
        assert schemas[name]["example"]


def test_the_service_keeps_its_contract_in_thousands_of_cases(
    server: Server, tmp_path: Path
) -> None:
    program = Path(sys.executable).parent / "schemathesis"
    said = subprocess.run(
        [
            program,
            "run",
            f"{server.url}/openapi.json",
            "--checks=all",
            "--max-examples=450",
            "--continue-on-failure",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 0, said.stdout
    [(generated, passed)] = re.findall(r"([\d,]+) generated, ([\d,]+) passed", said.stdout)
    assert generated == passed
    assert int(passed.replace(",", "")) >= 2000
