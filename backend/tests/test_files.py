"""Files are scarce when this process may open only few more files."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from math import inf

import pytest

from src.framework.files import are_files_scarce, file_limit

LIMIT = 400


@pytest.fixture
def limited() -> Iterator[ExitStack]:
    """Let this process open few files. At the end, close the files that the test has opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, before[1]))
    with ExitStack() as opened:
        yield opened
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_until(lowest_free: int, opened: ExitStack) -> None:
    while (number := os.open(os.devnull, os.O_RDONLY)) < lowest_free:
        opened.callback(os.close, number)
    os.close(number)


@pytest.mark.parametrize(("lowest_free", "scarce"), [(299, False), (300, True)])
def test_files_are_scarce_when_at_most_a_quarter_is_free(
    limited: ExitStack, lowest_free: int, scarce: bool
) -> None:
    open_until(lowest_free, limited)
    assert are_files_scarce() is scarce
    assert are_files_scarce() is scarce  # the first look left no file open


def test_files_are_scarce_when_none_is_left(limited: ExitStack) -> None:
    with pytest.raises(OSError, match="Too many open files"):
        open_until(LIMIT, limited)
    assert are_files_scarce() is True


def test_files_without_a_limit_are_never_scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert file_limit() == inf
    assert are_files_scarce() is False


def test_a_system_without_the_resource_module_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    assert file_limit() == inf
