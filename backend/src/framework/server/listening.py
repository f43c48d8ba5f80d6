"""The addresses that this process listens on, however it was started."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK
from typing import TypeAlias

# The files that this process has open; Windows has no such folder.
_OPEN_FILES = Path("/dev/fd")

Address: TypeAlias = tuple[str, int]


def open_sockets() -> Iterator[socket.socket]:
    """Copy each socket that this process has open, one at a time.

    There are none where the system does not list open files.
    """
    numbers = [int(file.name) for file in _OPEN_FILES.iterdir()] if _OPEN_FILES.exists() else []
    for number in numbers:
        with suppress(OSError):  # it was closed meanwhile
            if S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as copy:
                    yield copy


def listening_addresses(*, or_bound: bool = False) -> list[Address]:
    """Return address and port of each TCP socket that listens.

    With `or_bound`, also of those that are bound and have no peer: they may listen in a moment.
    """
    found: list[Address] = []
    for opened in open_sockets():
        with suppress(OSError):  # as above
            if _is_tcp(opened) and (listens(opened) or (or_bound and _is_bound(opened))):
                address, port, *_ = opened.getsockname()
                found.append((address, port))
    return found


def _is_tcp(opened: socket.socket) -> bool:
    is_ip = opened.family in (socket.AF_INET, socket.AF_INET6)
    return is_ip and opened.type == socket.SOCK_STREAM


def listens(opened: socket.socket) -> bool:
    return opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0


def _is_bound(opened: socket.socket) -> bool:
    """Whether it has a local port and no peer."""
    try:
        opened.getpeername()
    except OSError:
        _, port, *_ = opened.getsockname()
        return bool(port)
    return False
