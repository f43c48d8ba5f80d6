"""Processes, sockets and signals: workers, a graceful stop, no orphans."""

import asyncio
import errno
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from src.framework.exceptions import DO_NOT_RESTART, CannotStart
from src.framework.server.logs import log_from_the_first_line, write_last_lines
from src.framework.server.protocol import LINGER_SECONDS

logger = logging.getLogger(__name__)

SAME_SIGNAL_SECONDS = 1.0
"""Two signals within this time count as one: a parent process may forward its own signal."""


_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def bound_sockets(host: str, port: int, settings: tuple[str, str]) -> list[socket.socket]:
    """Bind a socket for each address of a host; `::` means IPv6 and IPv4.

    The sockets do not listen yet, so connections are refused until the service is ready.
    Raises CannotStart, which names the `settings` of host and port.
    """
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise CannotStart(
            f"{settings[0]}: {host} is no address or name of this machine; set {settings[0]} "
            "to 127.0.0.1, or to :: for all of this machine's addresses"
        ) from None
    sockets, absent = [], None
    for family, _, _, _, address in found:
        try:
            sockets.append(_bound(family, address))
        except OSError as error:
            if error.errno not in _NOT_HERE:  # perhaps only one of localhost's addresses is there
                raise cannot_listen(host, port, settings, error) from None
            absent = error
    if absent is not None and not sockets:
        raise cannot_listen(host, port, settings, absent)
    return sockets


def _bound(family: int, address: Any) -> socket.socket:  # noqa: ANN401 - as getaddrinfo has it
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere, SO_REUSEADDR would let another program take the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        listening.bind(address)
        listening.set_inheritable(True)
    except OSError:
        listening.close()
        raise
    return listening


def cannot_listen(host: str, port: int, settings: tuple[str, str], error: OSError) -> CannotStart:
    """Say which of the `settings` to change."""
    of_host, of_port = settings
    wrong, other = (of_host, "address") if error.errno in _NOT_HERE else (of_port, "port")
    return CannotStart(
        f"{of_host} {host}, {of_port} {port}: the service cannot listen there ({error}); "
        f"set {wrong} to another {other}"
    )


class Config(uvicorn.Config):
    def __init__(self, app: str, log_format: str, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        self.log_format = log_format
        super().__init__(app, **options)

    def configure_logging(self) -> None:
        """Set up logging; uvicorn calls this at the start of every process."""
        super().configure_logging()
        log_from_the_first_line(self.log_format)

    def load(self) -> None:
        """Import the application. Any unexpected error ends the service."""
        try:
            super().load()
        except Exception:
            logger.critical("The service cannot start.", exc_info=True)
            sys.exit(DO_NOT_RESTART)


class Server(uvicorn.Server):
    """Answers the connections in the queue when it stops, before it closes its sockets."""

    drain_seconds: float
    when_ready: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Raises OSError where another service began to listen while this service started."""
        await super().startup(sockets)
        if not _all_listen(sockets or []):
            await self.lifespan.shutdown()
            raise _in_use()
        if self.when_ready:
            self.when_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in sockets or []:
            _stop_queueing(listening)
        await asyncio.sleep(min(self.drain_seconds, LINGER_SECONDS))
        await super().shutdown(sockets)


class Supervisor(Multiprocess):
    """Starts, replaces and stops the workers: gracefully, or at once after a second signal."""

    drain_seconds: float
    when_ready: Callable[[], None] | None = None
    is_hurried = False

    def init_processes(self) -> None:
        """Start workers that hold signals until the worker's uvicorn can handle signals."""
        resource_tracker.ensure_running()  # a tracker that starts later would let signals in
        _hold_signals(True)
        super().init_processes()
        _hold_signals(False)

    def keep_subprocess_alive(self) -> None:
        """Raises OSError where another service began to listen while this service started."""
        for worker in self.processes:
            # While this end is open, the supervisor waits 5 s for each worker that has gone.
            worker.child_conn.close()
        super().keep_subprocess_alive()
        if self.when_ready and any(worker.is_ready() for worker in self.processes):
            if not _all_listen(self.sockets):
                super().terminate_all()
                raise _in_use()
            self.when_ready()
            self.when_ready = None

    def handle_int(self) -> None:
        super().handle_int()
        _log_stop(signal.SIGINT)
        self.is_hurried = True

    def handle_term(self) -> None:
        super().handle_term()
        _log_stop(signal.SIGTERM)

    def handle_hup(self) -> None:
        """Stop when the terminal closes, like a single process; uvicorn would replace workers."""
        self.handle_term()

    def terminate_all(self) -> None:
        if not self.is_hurried:
            super().terminate_all()
            # The workers have the same sockets, and close them after `drain_seconds`.
            told = time.monotonic()
            self._drain(told, self.drain_seconds - LINGER_SECONDS)
            for listening in self.sockets:
                _stop_queueing(listening)
            self._drain(told, self.drain_seconds)
        if self.is_hurried:
            for worker in self.processes:
                if worker.exitcode is None and worker.pid is not None:
                    os.kill(worker.pid, signal.SIGINT)
        for listening in self.sockets:
            _stop_queueing(listening)
            listening.close()

    def _drain(self, told: float, seconds: float) -> None:
        """Wait until `seconds` after `told`, a second signal, or the end of all workers."""
        while (since := time.monotonic() - told) < seconds and not self.is_hurried:
            if all(worker.exitcode is not None for worker in self.processes):
                break
            if since < SAME_SIGNAL_SECONDS:
                self.signal_queue.clear()
            self.is_hurried = not {signal.SIGINT, signal.SIGTERM}.isdisjoint(self.signal_queue)
            time.sleep(0.05)


def drain_before_stop(stopping: asyncio.Event, seconds: float) -> None:
    """Set `stopping` at once. Pass SIGTERM to uvicorn after `seconds`, and SIGINT at once.

    uvicorn would close its socket immediately and reset queued clients; a load balancer first needs
    time to see that the service is not ready. A second SIGTERM also stops at once. But a worker
    ignores a second SIGTERM: the supervisor may have passed on the first SIGTERM twice.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    handle_exit: Any = signal.getsignal(signal.SIGTERM)
    if not callable(handle_exit):  # no server that stops: an adapter calls the application
        return
    is_worker = multiprocessing.parent_process() is not None
    told = 0.0

    def set_stopping(number: int) -> None:
        if not is_worker and not stopping.is_set():
            _log_stop(number)
        stopping.set()

    def drain(number: int, frame: FrameType | None) -> None:
        set_stopping(number)
        loop.call_later(seconds, handle_exit, number, frame)

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = told or time.monotonic()
        is_same = time.monotonic() - told < SAME_SIGNAL_SECONDS
        if number == signal.SIGTERM and (is_worker or is_same):
            loop.call_soon_threadsafe(drain, number, frame)
        else:
            loop.call_soon_threadsafe(set_stopping, number)
            # uvicorn drops requests at a second SIGINT, and terminal and supervisor each send one.
            handle_exit(signal.SIGTERM if is_worker else number, frame)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    # A worker holds signals until here: during its start, uvicorn would take two signals for a
    # forced stop.
    _hold_signals(False)


def _hold_signals(is_held: bool) -> None:
    """Block or unblock SIGINT and SIGTERM, also for processes that this process starts."""
    if hasattr(signal, "pthread_sigmask"):  # Windows has none
        how = signal.SIG_BLOCK if is_held else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, {signal.SIGINT, signal.SIGTERM})


def _log_stop(number: int) -> None:
    logger.info("Stopping on %s", signal.Signals(number).name)


def log_end() -> None:
    """Log the stop in the main process, and write the remaining lines."""
    if multiprocessing.parent_process() is None:
        logger.info("Stopped")
    write_last_lines()


def _all_listen(sockets: list[socket.socket]) -> bool:
    """Whether each socket listens. uvloop closes a socket that cannot listen, and says nothing."""
    try:
        return all(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for each in sockets)
    except OSError:
        return False


def _in_use() -> OSError:
    return OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _stop_queueing(listening: socket.socket) -> None:
    """Ignore new connections, but keep the connections in the queue.

    To close the socket would reset the connections in the queue.
    """
    listening.listen(0)


def allow_many_connections() -> None:
    """Raise the limit of open files, often 1,024, to what the system allows this process."""
    with suppress(ImportError):  # Windows has none
        import resource  # noqa: PLC0415

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_with_parent() -> None:
    """Stop when the terminal closes and, in a worker, when its parent process is gone."""
    if (parent := multiprocessing.parent_process()) is not None:

        def wait() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
