"""How many files, and so connections, this process may have open."""

import os
from math import inf

SCARCE = 3 / 4
"""Above this share of the limit, nothing begins that keeps a file open for long."""


def file_limit() -> float:
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else soft


def are_files_scarce() -> bool:
    """Whether less than a quarter of the files is left. A new file gets the lowest free number."""
    try:
        number = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return True
    os.close(number)
    return number >= SCARCE * file_limit()
