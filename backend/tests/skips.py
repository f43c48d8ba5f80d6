"""Says at the end of a run why tests were skipped, and how to install the programs they need."""

from collections import Counter
from collections.abc import Iterable

from tests.pgbouncer import BUILT

NEEDS = "needs "

PACKAGES = {
    "buildah": "buildah",
    "chromium": "chromium",
    "haproxy": "haproxy",
    "jq": "jq",
    "nginx": "nginx-light",
    "node": "npm",
    "npm": "npm",
    "npx": "npm",
    "pgbouncer": "pgbouncer",
}
"""The Debian package of each program that a test may need."""

COMMANDS = {str(BUILT): "bash tests/build_pgbouncer.sh"}
"""The command that builds each other program."""


def told(reasons: Iterable[str]) -> list[str]:
    """Return a line for each reason of skipped tests, and a line to install missing programs."""
    counts = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    missing = [
        name
        for reason in counts
        if reason.startswith(NEEDS) and (name := reason.removeprefix(NEEDS)) in PACKAGES | COMMANDS
    ]
    packages = sorted({PACKAGES[name] for name in missing if name in PACKAGES})
    commands = [COMMANDS[name] for name in missing if name in COMMANDS]
    if packages:
        commands.insert(0, f"apt-get install {' '.join(packages)}")
    lines = [f"{number:5} skipped: {reason}" for reason, number in counts.most_common()]
    return lines + [f"To run what needs a program: {' && '.join(commands)}"] * bool(commands)
