"""The code in the documents runs as written, against the real service."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from src.config import MIN_SECRET_BYTES, Settings
from src.framework.auth import tokens
from src.framework.server import logs, protocol
from src.framework.sql import engine, statements
from src.framework.web import bodies, problems, routing
from src.routers import changes
from src.routers.batches import MAX_BATCH_BYTES
from src.schemas import batch, fields, further
from src.schemas.changes import MAX_CHANGES
from src.services import feed_service, known_tokens, listeners, personal_token_service
from tests.conftest import execute, tool
from tests.serving import (
    BACKEND,
    DEFAULTS,
    Server,
    environment,
    free_port,
    serving,
    wait_until_ready,
)
from tests.tasks import create, task_path, tasks_path
from tests.tokens import bearer, token

TOP = BACKEND.parent
# The statuses of a document's curl calls, in order.
STATUSES = {
    "README.md": "201 200 200",
    "backend/README.md": "",
    "specs/001-backend-api-database/quickstart.md": (
        "201 201 200 200 200 200 200 200 422 404 200 200 204"
    ),
    "specs/002-auth-jwt/quickstart.md": "200 401 403 401",
    "specs/003-spa-features/quickstart.md": (
        "201 201 422 200 200 200 200 200 200 304 200 200 412 200 200 "
        "200 415 201 201 201 200 200 200 200"
    ),
    "specs/004-task-fields/quickstart.md": "201 201 200 200 200 201 200 201 200 200 200",
    "specs/005-changes/quickstart.md": (
        "200 200 201 200 200 200 200 200 200 201 201 201 200 200 200 201 200 410"
    ),
    "specs/006-personal-tokens/quickstart.md": (
        "201 201 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200 200"
    ),
}
DOCUMENTS = [TOP / name for name in STATUSES]
NOTE_STATUS = """curl() { command curl -w '%{stderr}\\nstatus %{http_code}\\n' "$@"; }
"""
DEFAULT = Settings.model_construct()
EXAMPLE_URL = "postgresql://user:password@host/neondb?sslmode=require"
RUN = "make -C backend run\n"
STARTS_A_SERVER = re.compile(r"make -C backend run|uvicorn")


def blocks(document: Path) -> list[str]:
    return re.findall(r"^```bash\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)


def first_terminal(document: Path) -> str:
    """Return the code block that starts the service for a document.

    If the document has no such block, return the README's block.
    """
    return next(block for block in [*blocks(document), RUN] if f"\n{RUN}" in f"\n{block}")


@contextmanager
def bash(script: str, said: Path, **own: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script without the settings of the tests: a reader has no settings but the script's."""
    with said.open("wb") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=TOP,
            # `make test` in a document only collects a file: otherwise it would run this test.
            env=environment(
                PYTEST_ADDOPTS="--collect-only tests/test_get_task.py", **DEFAULTS | own
            ),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=30)


@contextmanager
def started_by(script: str, folder: Path) -> Iterator[Server]:
    """Start the service as a code block says, but with another port and another folder."""
    port = str(free_port())
    script = script.replace("8000", port)
    with bash(script, folder / "log", PORT=port, DATA_DIR=str(folder / "data")) as process:
        server = Server(f"http://127.0.0.1:{port}", process, folder / "log")
        wait_until_ready(server, 120)
        yield server


def like_it(folder: Path) -> AbstractContextManager[Server]:
    """Start the service with the settings of `make run`, but forked, which takes less time."""
    return serving(folder / "log", **DEFAULTS | {"DATA_DIR": str(folder / "data")})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_the_shell_blocks_run(
    document: Path, tmp_path: Path, initialized: Callable[[Path], Path]
) -> None:
    scripts = [block for block in blocks(document) if not STARTS_A_SERVER.search(block)]
    assert scripts
    if "jq " in "".join(scripts):
        tool("jq")
    first = first_terminal(document)
    # Only for the README, the service starts by `make run` and without data. The service of another
    # document is forked and has a copy of the first data, which takes less time.
    if document.parent != TOP:
        initialized(tmp_path / "data")
    is_forked = first == RUN and document.parent != TOP
    with like_it(tmp_path) if is_forked else started_by(first, tmp_path) as server:
        port = server.url.rsplit(":", 1)[1]
        together = NOTE_STATUS + "\n".join(scripts).replace(":8000", f":{port}")
        with bash(together, tmp_path / "said", DATA_DIR=str(tmp_path / "data")) as process:
            status = process.wait(timeout=120)
    said = (tmp_path / "said").read_text()

    assert status == 0, said
    statuses = re.findall(r"^status (\d+)$", said, re.MULTILINE)
    assert statuses == STATUSES[str(document.relative_to(TOP))].split(), said


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
@pytest.mark.parametrize("server", ["jwt"], indirect=True)
def test_the_script_for_today_knows_the_readers_day(
    server: Server, api: httpx.Client, user: str, zone: str, tmp_path: Path
) -> None:
    """A day stays the day, and the script shows a time in the reader's zone."""
    tool("jq")
    now = datetime.now(ZoneInfo(zone))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for hours in (-1, 1, 23, 25):
        create(api, user, title=f"after {hours} h", due_date=str(midnight + timedelta(hours=hours)))
    for days in (-1, 0, 1):
        day = f"{now + timedelta(days=days):%F}"
        create(api, user, title=f"in {days} days", due_date=day)
    create(api, user, title="done", due_date=f"{now:%F}", completed=True)
    document = TOP / "specs/006-personal-tokens/quickstart.md"
    [script] = [block for block in blocks(document) if "argjson" in block]
    begin = (
        f"export TZ={zone}; folder={tmp_path}; json='Content-Type: application/json'; "
        f"tasks={server.url}{tasks_path(user)}; auth='Authorization: Bearer {token(user)}'\n"
    )

    with bash(begin + script, tmp_path / "said") as process:
        status = process.wait(timeout=30)

    said = (tmp_path / "said").read_text()
    assert status == 0, said
    assert set(said.splitlines()[-4:]) == {"after 1 h", "after 23 h", "in 0 days", "Pay the rent"}


@pytest.mark.parametrize(
    "script",
    [
        block
        for document in DOCUMENTS
        for block in blocks(document)
        if STARTS_A_SERVER.search(block) and block != first_terminal(document)
    ],
)
def test_the_other_blocks_start_the_service(script: str, postgres: str, tmp_path: Path) -> None:
    with started_by(script.replace(EXAMPLE_URL, postgres), tmp_path) as server:
        assert server.status("/health/ready") == 200


def figures(words: str, title: str = "requests/s") -> dict[str, list[float]]:
    """Return each server's figures in the rows of the bench whose names end with these words."""
    results = (BACKEND / "benchmarks" / "results" / "README.md").read_text()
    tables = re.findall(rf"^\| {title} \|.*?\n\n", results, re.M | re.S)
    servers: dict[str, list[float]] = {}
    for head, _, *rows in (table.strip().splitlines() for table in tables):
        for name, *rates in (row.strip("|").split("|") for row in rows):
            if name.strip().endswith(words) and (words or "," not in name.replace("1,000", "")):
                for server, rate in zip(head.strip("|").split("|")[1:], rates, strict=True):
                    figure = "nan" if rate.strip() == "-" else rate.replace(",", "")
                    servers.setdefault(server.strip(), []).append(float(figure))
        if not words:
            break
    return servers


BESIDE = "this service's rate divided by that of"


def test_the_readme_has_the_figures_of_the_bench() -> None:
    readme = " ".join((TOP / "README.md").read_text().split())
    at_16, at_1 = figures("", BESIDE), figures(", 1 connection", BESIDE)

    for server, words in {
        "idiomatic FastAPI + SQLModel": "requests as idiomatic FastAPI + SQLModel",
        "Django REST Framework": "as Django REST Framework",
        "Fastify + node-postgres": "as Fastify",
        "Go: chi + pgx": "as Go",
        "Bun: Hono + its SQL client": "as Bun",
    }.items():
        ratios = [ratio for ratio in at_16[server] if not isnan(ratio)]
        assert f"{min(ratios):.1f} to {max(ratios):.1f} times as many {words}" in readme
    [ratio] = at_1["Fastify + node-postgres"]
    assert f"answers {ratio:.2f} times as many gets as Fastify" in readme


def test_the_readme_has_at_most_120_lines() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) <= 120


def test_the_page_about_growing_has_the_figures_of_the_bench() -> None:
    page = " ".join((TOP / "specs" / "growing.md").read_text().split())
    results = (BACKEND / "benchmarks" / "results" / "README.md").read_text()
    [rows] = re.findall(r"^\| requests/s \| 10,000 rows \|.*?\n\n", results, re.M | re.S)
    ratios = dict(re.findall(r"^\| (\w.*?) \| [\d,]+ \| [\d,]+ \| ([\d.]+) \|$", rows, re.M))
    [memory] = re.findall(r"a worker's memory at the end of the run \| (\d+ MB)", results)

    assert (
        f"{ratios['get one']} times as many gets, {ratios['list 20']} times as many lists of 20, "
        f"and {ratios['create']} times as many creates" in page
    )
    [first, *_] = re.findall(r"^\| get one \| ([\d,]+) \|", results, re.M)
    [small] = re.findall(r"^\| get one \| ([\d,]+) \|", rows, re.M)
    faster = int(small.replace(",", "")) / int(first.replace(",", ""))
    assert f"answered {faster:.1f} times as many gets as in the first table" in page
    for words, sentence in {
        "": "two workers answer {:.1f} to {:.1f} times as many requests as one worker at 16",
        ", 64 connections": "and {:.1f} to {:.1f} times as many at 64",
    }.items():
        more = [1 / ratio for ratio in figures(words, BESIDE)["this service, 2 workers"]]
        assert sentence.format(min(more), max(more)) in page
    assert f"about {memory} of memory" in page
    times = dict(re.findall(r"^\| (\w+(?: one)?) \| (\d+ \+ \d+) \|", results, re.M))
    (get, get_there), (create, create_there) = (
        map(int, times[operation].split(" + ")) for operation in ("get one", "create")
    )
    assert (
        f"a get takes {get} µs of the service's processor time and {get_there} µs of Post" in page
    )
    assert f"A create takes {create} µs and {create_there} µs" in page
    gets, creates = (round(1e6 / used, -2) for used in (get + get_there, create + create_there))
    assert f"carries about {gets:,.0f} gets or {creates:,.0f} creates a second" in page


def test_the_page_about_limits_has_the_figures_of_the_faults() -> None:
    page = " ".join((TOP / "specs" / "limits.md").read_text().split())
    faults = (BACKEND / "benchmarks" / "results" / "faults.md").read_text()
    rows = dict(re.findall(r"^\| (\w[^|]+) \| (\d.*) \|$", faults, re.M))

    def of(fault: str, pattern: str) -> list[int]:
        [row] = [row for name, row in rows.items() if name.startswith(fault)]
        return [int(number.replace(",", "")) for number in re.findall(pattern, row)]

    ends = "ended sessions fail no read or create"
    [requests, *_], [unknown], [ended] = (
        of(ends, pattern) for pattern in (r"^[\d,]+", r"503: (\d+)", r"(\d+) sessions ended")
    )
    assert f"While {ended} database sessions were ended, {unknown} of {requests:,} requests" in page
    plain = "the idiomatic service fails"
    [requests, *_], failed = of(plain, r"^[\d,]+"), of(plain, r"(?:5\d\d|cut): (\d+)")
    [ended] = of(plain, r"(\d+) sessions ended")
    assert f"failed {sum(failed)} of {requests:,} requests while {ended} sessions were" in page
    [compared, *_] = of("every client gets", r"^[\d,]+")
    assert f"compared {compared:,} answers" in page
    [[slow, plain]] = re.findall(r"others' median ([\d.]+) ms, ([\d.]+) ms beside", faults)
    assert f"lists took {slow} ms in the median." in page
    assert f"they took {plain} ms." in page
    [batches] = of("batches beside single writes", r"([\d,]+) batches, 0 deadlocks")
    whole = of("a batch is applied whole or not at all[sessions", r"([\d,]+) batches of")
    whole += of("a batch is applied whole or not at all[workers", r"([\d,]+) batches of")
    assert f"None of {batches:,} batches beside" in page
    assert f"None of {sum(whole):,} other batches" in page


def test_the_workers_of_a_compute_leave_neons_own_connections_free() -> None:
    page = (TOP / "specs" / "growing.md").read_text()
    [reserved] = map(int, re.findall(r"less the (\d+) connections that Neon reserves", page))
    [pool] = map(int, re.findall(r"workers with a pool of (\d+)", page))

    rows = re.findall(r"^\| [\d.]+(?: and more)? \| ([\d,]+) \| (\d+) \|$", page, re.M)

    assert len(rows) == 7
    for connections, workers in rows:
        assert int(workers) == (int(connections.replace(",", "")) - reserved) // pool


def test_the_documents_have_the_limits_of_the_code() -> None:
    kib = 1024
    sentences = {
        "limits.md": [
            f"| request head | {protocol.MAX_HEAD_BYTES // kib} KiB, {protocol.MAX_FIELDS} fields, "
            f"{protocol.HEAD_SECONDS:.0f} s |",
            f"| path | {routing.MAX_PATH_BYTES // kib} KiB |",
            f"| query | {routing.MAX_QUERY_BYTES // kib} KiB, {routing.MOST_PARAMETERS} parameters",
            f"{problems.MAX_BODY_BYTES // kib} KiB, or {MAX_BATCH_BYTES // kib**2} MiB for a batch",
            f"{protocol.MAX_SHORT_PIECES:,} chunks shorter than {protocol.SHORT_PIECE} bytes",
            f"{protocol.BODY_SECONDS:.0f} s without a byte, {protocol.REQUEST_SECONDS:.0f} s in",
            f"{bodies.MOST_VALUES:,}, counted before",
            f"{bodies.MOST_OF_USER // kib**2} MiB for one user, "
            f"{bodies.MOST_OF_ALL // kib**2} MiB for a worker",
            f"{fields.MAX_ETAGS // kib} KiB, or {batch.MAX_IF_MATCH:,} characters in a batch",
            f"{DEFAULT.live_streams_per_user} for each user and worker",
            f"{listeners.EVENT_BYTES // kib} KiB, or one task",
            f"{statements.MOST_KEYS:,} for each user that have not expired",
            f"{protocol.UNREAD_SECONDS:.0f} s without progress",
            f"the open-file limit, less {protocol.RESERVED_FILES} |",
            f"waits {engine.POOL_WAIT_SECONDS:.0f} s, then 503",
            f"| log lines that nobody reads | {logs.BUFFER_BYTES // kib**2} MiB |",
            f"at most {engine.STATEMENT_SECONDS:.0f} s, and at most half of the pool",
            f"{further.MOST_MEMBERS}, with names of {further.LONGEST_NAME} characters and values "
            f"of {further.MOST_LEVELS} levels, {further.MOST_BYTES // kib} KiB in all",
        ],
        "004-task-fields/spec.md": [
            f"| members of a task | {further.MOST_MEMBERS} |",
            f"| a name | 1 to {further.LONGEST_NAME} characters |",
            f"as PostgreSQL writes them | {further.MOST_BYTES // kib} KiB |",
            f"in one another | {further.MOST_LEVELS} levels |",
        ],
        "../README.md": [
            f"at most {further.MOST_MEMBERS} fields, {further.MOST_BYTES // kib} KiB together",
        ],
        "growing.md": [
            f"each {listeners.LISTENERS_PER_QUERY} listeners",
            f"A comment after {listeners.SILENT_SECONDS:.0f} seconds of silence",
            f"the open-file limit less {protocol.RESERVED_FILES}.",
            f"is {DEFAULT.keep_alive_seconds} by default",
        ],
        "deploying.md": [f"refuses an ended token within {known_tokens.REMEMBERED_SECONDS:.0f} s"],
        "005-changes/spec.md": [
            f"a comment after {listeners.SILENT_SECONDS:.0f} seconds",
            f"at most {listeners.MOST_CHANGES} changes, and its `id`",
            f"`limit=1…{MAX_CHANGES}`",
            f"the longest wait is {changes.MOST_SECONDS} seconds",
            f"more than {feed_service.LOOK_AHEAD:,} changes since the token",
        ],
        "005-changes/spa.md": [f"a comment after {listeners.SILENT_SECONDS:.0f} seconds"],
        "005-changes/batch.md": [f"1 to {batch.MAX_OPERATIONS} operations"],
        "002-auth-jwt/spec.md": [
            f"at least {MIN_SECRET_BYTES} bytes",
            f"may be {tokens.LEEWAY_SECONDS} s ahead",
            "| `AUTH_MODE` | `jwt`, `personal` or `open` |",
        ],
        "001-backend-api-database/data-model.md": [
            f"{personal_token_service.MOST_TOKENS} |",
            f"may have {statements.MOST_KEYS:,} keys that have not expired",
        ],
    }
    for page, parts in sentences.items():
        words = " ".join((TOP / "specs" / page).read_text().split())
        assert [part for part in parts if part not in words] == [], page


def test_the_headers_that_pages_may_read_are_named(api: httpx.Client) -> None:
    answer = api.get("/health/live", headers={"Origin": "http://localhost:3000"})
    page = (TOP / "specs/003-spa-features/spec.md").read_text()

    [named] = re.findall(r"CORS exposes (.*), and allows", page)

    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert re.findall("`(.+?)`", named) == exposed


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


def test_files_that_documents_name_exist() -> None:
    """Documents name a file by its whole path, or by the end of the path."""
    files = subprocess.run(
        ["git", "ls-files"], cwd=TOP, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ends = {file[start:] for file in files for start in _starts(file)}

    named = {
        (str(document.relative_to(TOP)), name)
        for document in [*DOCUMENTS, *TOP.glob("specs/**/*.md")]
        for name in re.findall(r"`([\w./-]+\.(?:py|sql|html|sh|lua))[`:]", document.read_text())
    }

    assert len(named) > 50
    assert {each for each in named if each[1].removeprefix("../") not in ends} == set()


def _starts(path: str) -> list[int]:
    return [0, *(place.end() for place in re.finditer("/", path))]


def test_the_index_of_decisions_has_each_decision() -> None:
    folder = TOP / "specs" / "decisions"
    rows = re.findall(
        r"^\| ([\d-]+) \| \[(.+)\]\((.+)\) \|$", (folder / "README.md").read_text(), re.M
    )

    assert [name for _, _, name in rows] == sorted(path.name for path in folder.glob("2*.md"))
    for date, title, name in rows:
        assert name.startswith(date)
        assert (folder / name).read_text().startswith(f"# {title}\n\n{date}\n")


Follow = Callable[[str, Callable[[], dict[str, str]]], Iterator[dict[str, Any]]]


@pytest.fixture
def follow() -> Follow:
    """The recipe of `specs/following.md`."""
    page = (TOP / "specs" / "following.md").read_text()
    [block] = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    names: dict[str, Any] = {}
    exec(block, names)
    recipe: Follow = names["follow"]
    return recipe


def titles(known: dict[str, Any]) -> list[str]:
    return [task["title"] for task in known.values()]


@pytest.mark.parametrize("server", ["open", "jwt"], indirect=True)
def test_the_recipe_in_python_shows_each_change(
    follow: Follow, server: Server, api: httpx.Client, user: str
) -> None:
    milk = create(api, user)
    headers = partial(bearer, token(user)) if server.auth else dict
    following = follow(server.url + tasks_path(user), headers)

    assert titles(next(following)) == ["Buy milk"]
    create(api, user, title="Buy bread")
    assert titles(next(following)) == ["Buy milk", "Buy bread"]
    api.patch(task_path(milk), json={"title": "Buy oat milk"})
    assert titles(next(following)) == ["Buy oat milk", "Buy bread"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(next, following)
        api.delete(task_path(milk))
        assert titles(waiting.result()) == ["Buy bread"]


def test_the_recipe_in_python_misses_nothing_while_the_service_is_away(
    follow: Follow, api: httpx.Client, user: str, postgres: str, tmp_path: Path
) -> None:
    settings = {"DATABASE_URL": postgres, "PORT": str(free_port())}
    milk = create(api, user)
    with ThreadPoolExecutor() as pool:
        with serving(tmp_path / "first", **settings) as server:
            following = follow(server.url + tasks_path(user), dict)
            assert titles(next(following)) == ["Buy milk"]
        waiting = pool.submit(next, following)
        api.delete(task_path(milk))
        create(api, user, title="Buy bread")
        with serving(tmp_path / "second", **settings):
            assert titles(waiting.result()) == ["Buy bread"]


def test_the_recipe_in_python_begins_with_the_list_when_its_token_is_gone(
    follow: Follow, server: Server, api: httpx.Client, user: str, postgres: str
) -> None:
    milk = create(api, user)
    following = follow(server.url + tasks_path(user), dict)
    assert titles(next(following)) == ["Buy milk"]
    api.delete(task_path(milk))
    asyncio.run(execute(postgres, f"DELETE FROM changes WHERE user_id = '{user}' AND seq < 2"))

    assert titles(next(following)) == []
