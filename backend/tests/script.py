"""Runs a script, as `python -c` does: `python -m tests.script "print(1)" argument …`."""

import sys

if __name__ == "__main__":
    exec(sys.argv.pop(1), {"__name__": "__main__"})
