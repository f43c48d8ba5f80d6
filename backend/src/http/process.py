"""Processes and signals: workers, a gentle end, no orphans."""

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.supervisors import Multiprocess

from src.exceptions import DO_NOT_RESTART
from src.http.logs import log_from_the_first_line, write_last_lines
from src.http.protocol import LINGER_SECONDS

logger = logging.getLogger(__name__)

SAME_SIGNAL_SECONDS = 1.0
"""How long after a signal another is the same: whoever starts a process may pass its own on."""


class Config(uvicorn.Config):
    def __init__(self, app: str, log_format: str, **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        self.log_format = log_format
        super().__init__(app, **options)

    def configure_logging(self) -> None:
        """Do so at the start of every process; uvicorn calls this there."""
        super().configure_logging()
        log_from_the_first_line(self.log_format)

    def load(self) -> None:
        """Import the application; a fault of it that nobody foresaw ends the service."""
        try:
            super().load()
        except Exception:
            logger.critical("Cannot start.", exc_info=True)
            sys.exit(DO_NOT_RESTART)


class Supervisor(Multiprocess):
    """Start and replace the workers, and stop them: gently, or at once when someone hurries."""

    drain_seconds = 0.0
    is_hurried = False

    def init_processes(self) -> None:
        """Start workers that are told to stop no earlier than uvicorn in them can handle it."""
        resource_tracker.ensure_running()  # multiprocessing starts it first, and lets signals in
        _hold_signals(True)
        super().init_processes()
        _hold_signals(False)

    def handle_int(self) -> None:
        super().handle_int()
        _log_stop(signal.SIGINT)
        self.is_hurried = True

    def handle_term(self) -> None:
        super().handle_term()
        _log_stop(signal.SIGTERM)

    def handle_hup(self) -> None:
        """End with the terminal, as a single process does; uvicorn would replace the workers."""
        self.handle_term()

    def terminate_all(self) -> None:
        if not self.is_hurried:
            super().terminate_all()
            self._drain()
        if self.is_hurried:
            for worker in self.processes:
                if worker.exitcode is None and worker.pid is not None:
                    os.kill(worker.pid, signal.SIGINT)
        for listening in self.sockets:
            _let_nobody_queue(listening.fileno())
            listening.close()

    def _drain(self) -> None:
        """Wait for `drain_seconds`, unless there is a second signal or no worker any more."""
        told = time.monotonic()
        while (since := time.monotonic() - told) < self.drain_seconds and not self.is_hurried:
            if all(worker.exitcode is not None for worker in self.processes):
                break
            if since < SAME_SIGNAL_SECONDS:
                self.signal_queue.clear()
            self.is_hurried = not {signal.SIGINT, signal.SIGTERM}.isdisjoint(self.signal_queue)
            time.sleep(0.05)


def drain_before_stop(stopping: asyncio.Event, seconds: float) -> None:
    """Set `stopping` at once, but let SIGTERM reach uvicorn later, and SIGINT at once.

    uvicorn closes its listening socket at once, and so resets whoever waits to be let in; a load
    balancer first has to see, for `seconds`, that the service is no longer ready. A second SIGTERM
    means at once, too, but not to a worker: its supervisor knows how many there were.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    handle_exit: Any = signal.getsignal(signal.SIGTERM)
    linger = min(seconds, LINGER_SECONDS)
    is_worker = multiprocessing.parent_process() is not None
    told = 0.0

    def set_stopping(number: int) -> None:
        if not is_worker and not stopping.is_set():
            _log_stop(number)
        stopping.set()

    def drain(number: int, frame: FrameType | None) -> None:
        set_stopping(number)
        loop.call_later(seconds, let_nobody_queue)
        loop.call_later(seconds + linger, handle_exit, number, frame)

    def let_nobody_queue() -> None:
        if not is_worker:  # or else the supervisor does
            for server in getattr(handle_exit.__self__, "servers", []):
                for listening in server.sockets:
                    _let_nobody_queue(listening.fileno())

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = told or time.monotonic()
        is_same = time.monotonic() - told < SAME_SIGNAL_SECONDS
        if number == signal.SIGTERM and (is_worker or is_same):
            loop.call_soon_threadsafe(drain, number, frame)
        else:
            loop.call_soon_threadsafe(set_stopping, number)
            # At a second SIGINT uvicorn cuts requests off; terminal and supervisor each send one.
            handle_exit(signal.SIGTERM if is_worker else number, frame)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    # A worker has held those that came as it started: uvicorn takes two of them for haste.
    _hold_signals(False)


def _hold_signals(is_held: bool) -> None:
    """Keep SIGINT and SIGTERM for later, in the processes that this one starts as well."""
    if hasattr(signal, "pthread_sigmask"):  # Windows has none
        how = signal.SIG_BLOCK if is_held else signal.SIG_UNBLOCK
        signal.pthread_sigmask(how, {signal.SIGINT, signal.SIGTERM})


def _log_stop(number: int) -> None:
    logger.info("Stopping on %s", signal.Signals(number).name)


def log_end() -> None:
    """Say that the service has stopped, unless others are still to do so; write the last lines."""
    if multiprocessing.parent_process() is None:
        logger.info("Stopped")
    write_last_lines()


def _let_nobody_queue(listening: int) -> None:
    """Ignore new connections, but keep those that wait to be accepted, as closing would not."""
    with socket.socket(fileno=os.dup(listening)) as copy:
        copy.listen(0)


def allow_many_connections() -> None:
    """Raise the limit of open files, often 1,024, to what the system allows this process."""
    with suppress(ImportError):  # Windows has none
        import resource  # noqa: PLC0415

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_with_parent() -> None:
    """Shut this worker down when the process that started it is gone, and with its terminal."""
    if (parent := multiprocessing.parent_process()) is not None:

        def wait() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=wait, daemon=True).start()
    if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
