"""Every shell block in the documents runs as written, against the real service."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import BACKEND, Server, environment, free_port, serving, wait_until_ready
from tests.serving import SETTINGS as SETTINGS_OF_TESTS

TOP = BACKEND.parent
# The statuses of a document's curl calls, in order.
STATUSES = {
    "README.md": "201 200",
    "backend/README.md": "",
    "specs/001-backend-api-database/quickstart.md": (
        "201 201 200 200 200 200 200 200 422 404 200 200 204"
    ),
    "specs/002-auth-jwt/quickstart.md": "200 401 403 401",
    "specs/003-spa-features/quickstart.md": (
        "201 201 422 200 200 200 200 200 200 304 200 200 412 200 200 "
        "200 415 201 201 201 200 200 200 200"
    ),
}
SECRET = "replace this by 32 bytes of your own"
SETTINGS = {
    "specs/002-auth-jwt/quickstart.md": {"AUTH_MODE": "jwt", "AUTH_SECRET": SECRET},
}
DOCUMENTS = [TOP / name for name in STATUSES]
NOTE_STATUS = """curl() { command curl -w '%{stderr}\\nstatus %{http_code}\\n' "$@"; }
"""
EXAMPLE_URL = "postgresql://user:password@host/neondb?sslmode=require"
STARTS_A_SERVER = re.compile(r"make -C backend run|uvicorn")


def blocks(document: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


@contextmanager
def bash(script: str, tmp_path: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=TOP,
            # `make test` in a document only collects, because this test is part of it.
            env=environment(PYTEST_ADDOPTS="--collect-only -q", **settings),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_the_shell_blocks_run(document: Path, postgres: str, tmp_path: Path) -> None:
    scripts = [block for block in blocks(document) if not STARTS_A_SERVER.search(block)]
    assert scripts
    settings = SETTINGS.get(str(document.relative_to(TOP)), {})
    with serving(tmp_path / "log", DATABASE_URL=postgres, **settings) as server:
        port = server.url.rsplit(":", 1)[1]
        together = NOTE_STATUS + "\n".join(scripts).replace(":8000", f":{port}")
        with bash(together, tmp_path, **settings) as process:
            status = process.wait(timeout=120)
    said = (tmp_path / "said").read_text()

    assert status == 0, said
    statuses = re.findall(r"^status (\d+)$", said, re.MULTILINE)
    assert statuses == STATUSES[str(document.relative_to(TOP))].split(), said


@pytest.mark.parametrize(
    "script",
    [
        block
        for document in DOCUMENTS
        for block in blocks(document)
        if STARTS_A_SERVER.search(block)
    ],
)
def test_the_blocks_that_start_the_service_start_it(
    script: str, postgres: str, tmp_path: Path
) -> None:
    """With only the block's own settings, as a reader has no others."""
    port = str(free_port())
    script = script.replace("8000", port).replace(EXAMPLE_URL, postgres)
    nothing = dict.fromkeys(SETTINGS_OF_TESTS, "")
    own = {"PORT": port, "DATA_DIR": str(tmp_path / "data")}
    with bash(script, tmp_path, **nothing | own) as process:
        wait_until_ready(Server(f"http://127.0.0.1:{port}", process, tmp_path / "said"), 120)


def test_the_figures_of_the_readme_are_those_of_the_bench() -> None:
    table = re.search(r"^\| requests/s \|.*?\n\n", (TOP / "README.md").read_text(), re.M | re.S)

    assert table is not None
    assert table[0] in (BACKEND / "benchmarks" / "results" / "README.md").read_text()


def test_the_quickstart_shows_every_operation() -> None:
    shown = (TOP / "specs/001-backend-api-database/quickstart.md").read_text()

    for words in ['-d \'{"title"', "-X PUT", "-X PATCH", "-X DELETE", "curl -s $task"]:
        assert words in shown


@pytest.mark.parametrize(
    "document",
    sorted({*DOCUMENTS, *TOP.glob("specs/**/*.md")}),
    ids=lambda path: str(path.relative_to(TOP)),
)
def test_links_are_not_broken(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target
