"""Processes and signals: workers, a gentle end, no orphans."""

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from uvicorn.supervisors import Multiprocess

from src.http.protocol import LINGER_SECONDS


class Supervisor(Multiprocess):
    """Start and replace the workers."""

    drain_seconds = 0.0

    def terminate_all(self) -> None:
        super().terminate_all()
        time.sleep(self.drain_seconds)
        for listening in self.sockets:
            _let_nobody_queue(listening.fileno())
            listening.close()


def drain_before_stop(stopping: asyncio.Event, seconds: float) -> None:
    """Set `stopping` at once, but let SIGTERM reach uvicorn later, and SIGINT at once.

    uvicorn closes its listening socket at once, and so resets whoever waits to be let in; a load
    balancer first has to see, for `seconds`, that the service is no longer ready.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    handle_exit: Any = signal.getsignal(signal.SIGTERM)
    linger = min(seconds, LINGER_SECONDS)

    def drain(number: int, frame: FrameType | None) -> None:
        stopping.set()
        loop.call_later(seconds, let_nobody_queue)
        loop.call_later(seconds + linger, handle_exit, number, frame)

    def let_nobody_queue() -> None:
        if multiprocessing.parent_process() is None:  # or else the supervisor does
            for server in getattr(handle_exit.__self__, "servers", []):
                for listening in server.sockets:
                    _let_nobody_queue(listening.fileno())

    def stop(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            loop.call_soon_threadsafe(drain, number, frame)
        else:
            loop.call_soon_threadsafe(stopping.set)
            handle_exit(number, frame)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


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
