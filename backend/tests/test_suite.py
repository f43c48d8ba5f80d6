"""At their end, the tests say which tests did not run, and with which seed the others ran."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import conftest
from tests.mutants import modules
from tests.mutants_accepted import ACCEPTED
from tests.serving import BACKEND
from tests.skips import told

SKIPPING = """
import random

import pytest
from hypothesis import given, strategies as st
from tests.conftest import tool


@pytest.mark.parametrize("each", range(3))
def test_in_a_browser(each, chromium):
    pass


def test_behind_a_proxy():
    tool("nginx")


def test_on_a_cluster(citus):
    pass


@given(st.lists(st.booleans(), min_size=64, max_size=64))
def test_a_generated_case(bits):
    with open("drawn", "a") as file:
        print(*map(int, bits), random.random(), file=file)
"""


def outcome(folder: Path, processes: int, *options: str) -> tuple[str, str]:
    """Run the tests above without any program. Return the output and the drawn values.

    The tests draw truth values. Hypothesis may take a number or a text from a module that Python
    has loaded, so numbers and texts do not depend on the seed alone.
    """
    (folder / "drawn").unlink(missing_ok=True)
    (folder / "test_skipping.py").write_text(SKIPPING)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-n", str(processes)]
    said = subprocess.run(
        [*command, "-c", BACKEND / "pyproject.toml", *options, "test_skipping.py"],
        cwd=folder,
        env=os.environ | {"PATH": "/nowhere", "PYTHONPATH": str(BACKEND), "CI": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    return said.stdout, (folder / "drawn").read_text()


def test_a_run_ends_with_its_skipped_tests_and_its_seed(tmp_path: Path) -> None:
    said, drawn = outcome(tmp_path, 1, "--seed=7")
    _, again = outcome(tmp_path, 0, "--seed=7")
    _, other = outcome(tmp_path, 0, "--seed=8")

    assert (
        """
    3 skipped: needs chromium
    1 skipped: needs nginx
    1 skipped: needs --citus, the coordinator of a Citus cluster: no registry has one
To run what needs a program: apt-get install chromium nginx-light
Generated cases are of seed 7; --seed=7 generates them again.
"""
        in said
    )
    assert len(drawn.splitlines()) > 50
    assert drawn == again != other


def test_a_run_is_in_memory_only_if_there_is_room_and_nobody_named_a_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(conftest, "ROOM", 1 << 60)
    assert conftest.folder_in_memory() is None

    monkeypatch.setattr(conftest, "ROOM", 0)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert conftest.folder_in_memory() is None


def test_the_summary_names_only_missing_programs() -> None:
    assert told([]) == []
    assert told(["Skipped: needs IPv6"]) == ["    1 skipped: needs IPv6"]


def test_the_readme_says_which_tests_to_run_for_each_package() -> None:
    """Each file that the table names exists."""
    rows = re.findall(
        r"^\| (`src/.*) \| `(tests/.*)` \|$", (BACKEND / "README.md").read_text(), re.M
    )
    named = {each for packages, _ in rows for each in re.findall(r"`([^`]+)`", packages)}
    packages = {
        f"{path.parent.relative_to(BACKEND)}/"
        for path in BACKEND.glob("src/**/__init__.py")
        if len(path.parent.relative_to(BACKEND).parts) > 1
    } - {"src/framework/"}

    assert packages <= named
    for _, files in rows:
        for file in files.split():
            assert list(BACKEND.glob(file)), file


def test_every_module_has_tests_and_every_accepted_mutant_exists() -> None:
    """`modules` ends the process with a sentence for each fault."""
    assert {"src/config.py", "src/main.py"} <= {*modules()}


def test_an_accepted_mutant_that_matches_no_code_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in [*ACCEPTED]:
        monkeypatch.delitem(ACCEPTED, module)
    monkeypatch.setitem(ACCEPTED, "src/config.py", {"1 → 2": "it is gone"})
    monkeypatch.setitem(ACCEPTED, "src/gone.py", {"3 → 4": "its module is gone"})

    with pytest.raises(SystemExit) as ended:
        modules.__wrapped__()

    assert ended.value.code == "src/config.py: no code for 1 → 2\nsrc/gone.py: no code for 3 → 4"
