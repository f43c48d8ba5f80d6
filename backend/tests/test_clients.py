"""One command makes a typed client. The client compiles, and can call every operation."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import install, tool
from tests.serving import BACKEND, Server, serving
from tests.tokens import SECRET, create_token, token

FASTMCP = "4.2.3"
HERE = Path(__file__).parent / "clients"
CONTRACT = BACKEND.parent / "specs" / "001-backend-api-database" / "contracts" / "openapi.json"


def test_a_typescript_client_compiles_and_drives_every_operation(
    postgres: str, user: str, tmp_path: Path
) -> None:
    for name in ("package.json", "package-lock.json", "tsconfig.json", "drive.ts"):
        shutil.copy(HERE / name, tmp_path)
    node = tool("node")
    install(tool("npm"), "ci", folder=tmp_path)
    programs = tmp_path / "node_modules" / ".bin"
    run([programs / "openapi-typescript", CONTRACT, "--output", "api.ts"], tmp_path)
    run([programs / "tsc", "--strict"], tmp_path)

    with every_operation_driven(postgres, user, tmp_path) as settings:
        run([node, "drive.js"], tmp_path, **settings)


def test_a_python_client_passes_mypy_and_drives_every_operation(
    postgres: str, user: str, tmp_path: Path
) -> None:
    shutil.copy(HERE / "drive.py", tmp_path)
    generate = ("generate", "--path", CONTRACT, "--output-path", "client", "--fail-on-warning")
    run(["openapi-python-client", *generate], tmp_path)
    # With the options and the cache of `make check`, mypy reads only the client.
    options = ("--config-file", BACKEND / "pyproject.toml", "--cache-dir", BACKEND / ".mypy_cache")
    run(["mypy", *options, "drive.py"], tmp_path, MYPYPATH="client")

    with every_operation_driven(postgres, user, tmp_path) as settings:
        run([sys.executable, "drive.py"], tmp_path, PYTHONPATH="client", **settings)


def test_an_agents_tools_are_small_and_drive_every_operation(
    postgres: str, user: str, tmp_path: Path
) -> None:
    python = with_fastmcp(tmp_path)
    with every_operation_driven(postgres, user, tmp_path) as settings:
        run([*python, HERE / "agent.py"], tmp_path, CONTRACT=str(CONTRACT), **settings)


@pytest.mark.parametrize("server", ["jwt"], indirect=True)
def test_the_recipe_for_agents_lists_creates_completes_twice_and_batches(
    server: Server, api: httpx.Client, user: str, tmp_path: Path
) -> None:
    """The recipe has 20 lines, and uses a personal token."""
    document = (BACKEND.parent / "specs/006-personal-tokens/quickstart.md").read_text()
    [recipe] = re.findall(r"^```python\n(.*?)^```", document, re.M | re.S)
    new = create_token(api, user)
    settings = {"API": server.url, "TASKS": new["tasks"], "TOKEN": new["token"]}

    assert len(recipe.splitlines()) <= 20
    run([*with_fastmcp(tmp_path), HERE / "recipe.py", recipe], tmp_path, **settings)


def with_fastmcp(folder: Path) -> tuple[str, ...]:
    """Return the command of a Python with FastMCP, in an environment of its own.

    FastMCP installs a library. In our environment, uvicorn would use this library.
    """
    python = ("uv", "run", "--no-project", "--with", f"fastmcp=={FASTMCP}", "python")
    install(Path(sys.executable).parent / python[0], *python[1:], "-c", "", folder=folder)
    return python


GENERATORS = ["hey-api", "oazapfts", "orval", "swagger-typescript-api"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a compiled client from each generator."""
    folder = tmp_path_factory.mktemp("generators") / "clients"
    shutil.copytree(HERE / "generators", folder)
    shutil.copy(CONTRACT, folder)
    npm = tool("npm")
    install(npm, "ci", "--ignore-scripts", folder=folder)
    (folder / "made").mkdir()
    for name in GENERATORS:
        run([npm, "run", name], folder)
    run([npm, "exec", "--", "tsc", "--project", "."], folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_the_client_of_another_generator_compiles_and_works(
    postgres: str, user: str, made: Path, name: str
) -> None:
    node = tool("node")
    bundle = f"--outfile={name}.mjs"
    options = ("--bundle", "--platform=node", "--format=esm", bundle)
    run([tool("npm"), "exec", "--", "esbuild", f"{name}.ts", *options], made)

    with serving(
        made / f"{name}.log", DATABASE_URL=postgres, AUTH_MODE="jwt", AUTH_SECRET=SECRET
    ) as server:
        settings = {"BASE_URL": server.url, "TOKEN": token(user), "USER_ID": user}
        said = run([node, f"{name}.mjs"], made, **settings)

    assert said == "driven\n"


def run(command: Sequence[str | Path], folder: Path, **settings: str) -> str:
    """Run a program of the machine or of the virtual environment, and return the output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    said = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path} | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout
    return said.stdout


@contextmanager
def every_operation_driven(postgres: str, user: str, folder: Path) -> Iterator[dict[str, str]]:
    """Start a service with tokens; its log must show a success of every operation."""
    user = f"{user}/łovelace @example.com"
    log = folder / "log"
    with serving(log, DATABASE_URL=postgres, AUTH_MODE="jwt", AUTH_SECRET=SECRET) as server:
        yield {"BASE_URL": server.url, "TOKEN": token(user), "USER_ID": user}
    driven = set(re.findall(r" INFO ([A-Z]+ /\S*) 2\d\d ", server.log))
    assert driven == {
        f"{method.upper()} {path}"
        for path, operations in json.loads(CONTRACT.read_text())["paths"].items()
        for method in operations
    }
