"""`make faults`: every fault, at full length, and a table of what happened."""

import sys
from pathlib import Path

import pytest

from tests.faults.load import Figures

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "faults.md"

HEAD = "`make -C backend faults` writes this table."

# In the suite, the faults take less time.
ALL = [
    "tests/faults",
    "tests/test_clients.py::test_the_client_of_another_generator_compiles_and_works",
    "tests/test_contract.py::test_the_service_keeps_its_contract_in_a_thousand_cases",
    "tests/test_contract.py::test_the_service_keeps_its_contract_with_tokens",
    "tests/test_feed.py::test_8_writers_through_two_servers_and_by_hand_are_followed_without_a_gap",
    "tests/test_feed.py::test_statements_over_several_users_do_not_deadlock",
    "tests/test_feed.py::test_a_client_that_syncs_page_by_page_while_others_write_has_every_task",
    "tests/test_migrations.py::test_8_processes_start_at_once_on_an_empty_database_again_and_again",
    "tests/test_nginx.py::test_no_body_runs_as_another_users_request_through_kept_connections",
    "tests/test_poolers.py::test_40_clients_on_4_server_connections_each_get_their_own_answers",
    "tests/test_proxies.py::test_after_45_seconds_of_silence_a_change_arrives_within_a_second",
]

COLUMNS = (
    "fault",
    "requests",
    "answers",
    "slowest answer",
    "acknowledged writes lost",
    "writes applied twice",
    "seconds to recover",
    "note",
)


class Table:
    """Shows progress and failures, and keeps a row per fault."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []
        self.done = 0
        self.all = 0

    def pytest_addoption(self, parser: pytest.Parser) -> None:
        parser.addoption("--full", action="store_true", help="every fault at full length")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.all = len(session.items)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        bar = ("#" * self.done).ljust(self.all, "-")
        print(f"\r\033[K[{bar}] {_words(nodeid)}", end="", file=sys.stderr, flush=True)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(f"\n{report.longreprtext}", file=sys.stderr)
        if report.when == "call":
            self.done += 1
            self.rows += [
                _row(report.nodeid, Figures(**figures), report.passed)
                for name, figures in report.user_properties
                if name == "figures" and isinstance(figures, dict)
            ]

    def text(self) -> str:
        lines = [COLUMNS, ("---",) * 2 + ("---",) + ("---:",) * 4 + ("---",), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(nodeid: str, figures: Figures, passed: bool) -> tuple[str, ...]:
    answers = " · ".join(f"{status}: {n:,}" for status, n in sorted(figures.answers.items()))
    return (
        _words(nodeid),
        f"{sum(figures.answers.values()):,}",
        answers,
        f"{figures.slowest:.2f} s",
        str(figures.lost),
        str(figures.twice),
        "" if figures.recovered is None else f"{figures.recovered:.2f}",
        figures.note if passed else f"FAILED {figures.note}",
    )


def _words(nodeid: str) -> str:
    return nodeid.rsplit("::test_", maxsplit=1)[-1].replace("_", " ")


def main() -> None:
    table = Table()
    arguments = sys.argv[1:] or ALL
    options = ["--full", "--timeout=3600", "-p", "no:terminalreporter"]
    status = pytest.main([*options, *arguments], [table])
    print(f"\r\033[K\n{table.text()}")
    if status == 0 and not sys.argv[1:]:
        RESULTS.write_text(f"# Faults\n\n{HEAD}\n\n{table.text()}\n")
    sys.exit(status)


if __name__ == "__main__":
    main()
