"""What uvicorn leaves open: one system call for a response, errors in our shape, a gentle end."""

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from src.problems import problem

LARGE = 64 * 1024
"""Bytes that are sent at once, so that the transport can say when it has enough."""

LINGER_SECONDS = 0.2
"""How long requests that are on their way have to arrive when the server shuts down."""


class HTTPProtocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(cast("asyncio.Transport", Corked(transport)))

    def shutdown(self) -> None:
        """Let a request that is on its way over an idle connection arrive before closing it."""
        if self._is_idle():
            self.loop.call_later(LINGER_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, and so never reaches the application."""
        response = problem(400, msg, {"Connection": "close"})
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + response.body)
        self.transport.close()


class Corked:
    """A transport that sends together what is written in one turn of the loop.

    uvicorn writes the head and the body of a response apart, at a system call each.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._written: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)
        if len(data) > LARGE:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        written, self._written = self._written, []
        # The client may have gone, or the connection been closed, in the same turn.
        if written and not self._transport.is_closing():
            self._transport.writelines(written)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self._transport, name)


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
