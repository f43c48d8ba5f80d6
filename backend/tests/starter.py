"""Starts services for tests: one process imports the modules of a service, and forks each service.

To import a service takes 1.2 s of processor time, and the tests start some 200 services. A forked
service is a process like any other, with its own environment, session, sockets and signals. The
service runs all of `python -m src` or `python -m uvicorn …`. Services share only the modules that
were imported before, and no such module depends on the environment. A service forks its workers in
the same way.
"""

import atexit
import ctypes
import gc
import json
import multiprocessing.util
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from fcntl import F_DUPFD, fcntl
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, Protocol

BACKEND = Path(__file__).resolve().parent.parent

READ_SETTINGS = {"src.__main__", "src.main", "src.development_token", "src.personal_token"}
"""The modules that each service has to import itself."""

LIBRARIES = (
    "alembic.command",
    "httptools",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.websockets.auto",
    "uvicorn.supervisors",
    "uvloop",
)
"""The modules that services import as they start, besides the imports in `src`."""

REQUEST_BYTES = 2**17
"""The most bytes of a request. A command and its environment have fewer."""


WORKER = "worker"
"""The name of a forked worker's process."""

SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM}
"""The signals that a test sends to a whole group of processes."""

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36


class Process(Protocol):
    """The part of `subprocess.Popen` that tests use."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | Any: ...  # noqa: ANN401 - as in typeshed

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class Forked:
    """A forked process, used like a `subprocess.Popen`.

    The parent of the process is a keeper. The keeper is a process that sends the pid, and later the
    exit status, to `connection`. As with `Popen`, the forked process stays a zombie until a test
    asks for the status.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.returncode: int | None = None
        self._connection = connection
        self.pid = self._receive()

    def _receive(self) -> int:
        if message := self._connection.recv(32):
            return int(message)
        raise RuntimeError("The process that starts services has ended")

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._connection.settimeout(timeout)
            try:
                self.returncode = self._receive()
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired("a forked service", timeout or 0) from None
            with self._connection:
                self._connection.settimeout(None)
                self._connection.shutdown(socket.SHUT_WR)
                self._connection.recv(1)  # returns when the keeper has ended the zombie
        return self.returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(module: Sequence[str], environment: Mapping[str, str], output: int, errors: int) -> Forked:
    """Run a module with its arguments, as `python -m` does, in a session of its own.

    Variables of Python itself, PYTHON…, have no effect: Python reads them only when it starts.
    """
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with there:
        request = json.dumps([list(module), dict(environment)]).encode()
        socket.send_fds(_starter()[1], [request], [there.fileno(), output, errors])
    return Forked(here)


@cache
def _starter() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the process that forks. The new process ends when this process closes the socket."""
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with there:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.starter", str(there.fileno())],
            cwd=BACKEND,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[there.fileno()],
            start_new_session=True,
        )
    atexit.register(process.wait, 10)  # without this, `time make test` leaves out all services
    atexit.register(here.close)
    return process, here


def _serve(requests: socket.socket) -> list[str]:
    """Fork for each request. In the forked process, return the command that the process runs."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 3)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        if not request:
            sys.exit()
        connection, *outputs = descriptors
        if os.fork() == 0:
            if pid := os.fork():
                for output in outputs:
                    os.close(output)
                _keep(pid, connection)
            command, environment = json.loads(request)
            _become(environment, *outputs)
            return [*map(str, command)]
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(pid: int, descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as connection:
        connection.sendall(b"%d" % pid)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        has_exited = ended.si_code == os.CLD_EXITED
        with suppress(OSError):  # the tests are gone
            connection.sendall(b"%d" % (ended.si_status if has_exited else -ended.si_status))
            connection.recv(1)
        os.waitpid(pid, 0)
    os._exit(0)


def _become(environment: dict[str, str], output: int, errors: int) -> None:
    """Do what `subprocess.Popen` would do for a new process."""
    os.setsid()
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environment)


def _fork_workers() -> None:
    """Let `multiprocessing` fork each worker and not start Python.

    A fork of this process is the helper. The helper keeps the state of this moment, and forks twice
    for each worker. The first fork ends, so the second fork is an orphan. The nearest process above
    that adopts orphans becomes the parent of the second fork: this is the supervisor.
    """
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        here.close()
        _run_workers(there)
    there.close()
    prctl = ctypes.CDLL(None).prctl
    spawn: Any = multiprocessing.util.spawnv_passfds

    def spawn_or_fork(path: bytes, command: list[str], descriptors: Sequence[int]) -> int:
        if command[-1] != "--multiprocessing-fork":
            return int(spawn(path, command, descriptors))
        blocked = [*signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        request = json.dumps([command[-2], list(descriptors), dict(os.environ), blocked])
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        socket.send_fds(here, [request.encode()], descriptors)
        pid = int(here.recv(32))
        prctl(PR_SET_CHILD_SUBREAPER, 0)
        return pid

    vars(multiprocessing.util)["spawnv_passfds"] = spawn_or_fork


def _run_workers(requests: socket.socket) -> None:
    """Fork a worker for each request, until the supervisor has ended."""
    supervisor = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    while True:
        request, received, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 32)
        if not request:
            os._exit(0)
        between = os.fork()
        if between == 0:
            if os.fork():
                os._exit(0)
            while os.getppid() != supervisor:
                time.sleep(0.001)
            requests.sendall(b"%d" % os.getpid())
            _become_worker(received, *json.loads(request))
        os.waitpid(between, 0)
        for descriptor in received:
            os.close(descriptor)


def _become_worker(
    received: list[int],
    code: str,
    numbers: list[int],
    environment: dict[str, str],
    blocked: list[signal.Signals],
) -> None:
    """Do what a new Python would do. Each descriptor has the same number as in the supervisor."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, WORKER.encode())
    free = max(numbers) + 1
    moved = [fcntl(descriptor, F_DUPFD, free) for descriptor in received]
    os.closerange(3, free)
    for descriptor, number in zip(moved, numbers, strict=True):
        os.dup2(descriptor, number)
    os.closerange(free, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", "--multiprocessing-fork"]
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    exec(code, {})  # as `python -c` does


def _modules() -> Iterator[str]:
    yield from LIBRARIES
    for module in walk_packages([str(BACKEND / "src")], "src."):
        if module.name not in READ_SETTINGS and not module.name.startswith("src.migrations."):
            yield module.name


def serve(requests: socket.socket) -> None:
    """Wait for the first request, import the modules of services, and fork for each request.

    In a fork, run the service.
    """
    requests.recv(1, socket.MSG_PEEK)
    for name in _modules():
        import_module(name)
    gc.collect()
    gc.freeze()  # otherwise each service searches all modules for garbage, which copies memory
    module, *sys.argv[1:] = _serve(requests)
    if os.environ.get("WORKERS", "1") not in {"", "1"}:
        _fork_workers()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
