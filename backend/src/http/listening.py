"""The addresses that this process listens on, however it was started."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK
from typing import TypeAlias

# The files that this process has open; Windows has no such folder.
_OPEN_FILES = Path("/dev/fd")

Address: TypeAlias = tuple[str, int]


def listening_addresses(*, or_bound: bool = False) -> list[Address]:
    """Find the address and port of each listening TCP socket.

    With `or_bound`, include bound sockets without a peer, which may listen in a moment. Finds
    nothing on a system that does not list a process's open files.
    """
    try:
        numbers = [int(file.name) for file in _OPEN_FILES.iterdir()]
    except FileNotFoundError:
        return []
    found = (_address(number, or_bound) for number in numbers)
    return [address for address in found if address is not None]


def _address(number: int, or_bound: bool) -> Address | None:
    with suppress(OSError):  # it has been closed meanwhile
        if S_ISSOCK(os.fstat(number).st_mode):
            with socket.socket(fileno=os.dup(number)) as opened:
                if _is_tcp(opened) and (_listens(opened) or (or_bound and _is_bound(opened))):
                    address, port, *_ = opened.getsockname()
                    return address, port
    return None


def _is_tcp(opened: socket.socket) -> bool:
    is_ip = opened.family in (socket.AF_INET, socket.AF_INET6)
    return is_ip and opened.type == socket.SOCK_STREAM


def _listens(opened: socket.socket) -> bool:
    return opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0


def _is_bound(opened: socket.socket) -> bool:
    """Whether it has a local port and no peer."""
    try:
        opened.getpeername()
    except OSError:
        _, port, *_ = opened.getsockname()
        return bool(port)
    return False
