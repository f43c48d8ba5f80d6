"""Change the code in many small ways, one at a time, and see that a test fails: `make mutants`.

The tools that others maintain do not fit. mutmut leaves out decorated functions and all code that
runs on import, but our code makes statements and validators on import. cosmic-ray starts Python
anew for each mutant, which takes hours. This module forks a process that has every library already.

A mutant is dead if a test fails, also if the test reaches a time limit in three runs. If all tests
of the module pass, or if the run hangs outside of the tests, the mutant survives.
"""

import ast
import asyncio
import atexit
import logging
import multiprocessing.util
import os
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import chain
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any, NamedTuple

import asyncpg
import psutil
import pytest
from _pytest.runner import runtestprotocol

from src.framework.sql.embedded import embedded_server
from tests.mutants_accepted import ACCEPTED

BACKEND = Path(__file__).resolve().parent.parent
TABLE = BACKEND / "benchmarks" / "results" / "mutants.md"
WANTED = 0.9
LONG = 100
"""The table shows a constant alone if the code around the constant has this many characters."""

SECONDS = 90
"""After this time, the run of the tests counts as hanging, and ends."""

MORE_SECONDS, TIMES_SLOWER = 70, 3
"""How much longer the tests may take with a mutant than without. Tests that hang run again.

Most tests wait for up to 30 s, and every test ends after 40 s. A test that waited and failed runs
once more, and waits again. A test that ended after 40 s ends the run.
"""

START_SECONDS = 60
"""How long to wait for a service to start. On an idle machine, a start takes a second or two."""

QUICK_SECONDS = 2
"""A test that fails sooner did not wait for anything."""

AGAIN = 77
"""The exit status if the tests did not begin in time."""

LOOK_SECONDS = 0.1
"""The time between two looks for a run that has ended.

If the machine stops this process for some time, the time does not count for the runs.
"""

MOST = 10
"""How many mutants of a module to try, from all parts alike. To try all mutants takes hours."""

_OF_STATEMENTS = """
    tests/test_resource.py tests/test_statements.py tests/test_idempotency.py
    tests/test_conditions.py tests/test_pages.py tests/test_notes.py tests/test_lost_answers.py
    -k 'published_sql or not (test_resource or jwt) and (scoped or cursor_can_say
    or same_key_and_task or with_another_task or postgresql_computes or empty_update
    or filters_combine or full_page or type_error or asks_for or any_position or same_title
    or sent_again or completed_filters)'
"""

# The quick tests of each module, the quickest tests first. A module without an entry of its own has
# the entry of a pattern that matches the module's name.
TESTS = {
    "src/__main__.py": """
        tests/test_starter.py tests/test_run.py tests/test_logs.py tests/test_open_mode.py
        tests/test_stop.py
        -k 'starter or prints or names_the_setting or json_object or forged
        or beyond_loopback and its or slow_upload or imports
        or is_served and 127.0.0.2'
    """,
    "src/config.py": "tests/test_settings.py -k 'not most_tests'",
    "src/database.py": """
        tests/test_failures.py tests/faults/test_start.py tests/test_starter.py
        -k 'start_up or test_start and not late_database'
    """,
    "src/dependencies.py": """
        tests/test_contract.py tests/test_idempotency.py tests/test_personal_tokens.py
        tests/test_auth.py
        -k 'published or quote or key_is_refused or last_character or is_not_part_of_it
        or (end_with_their_token and fast) or every_operation or malformed_token
        or no_personal_tokens or manages_no_tokens'
    """,
    "src/development_token.py": """
        tests/test_development_token.py tests/test_settings.py -k 'development or signed'
    """,
    "src/personal_token.py": "tests/test_personal_tokens.py -k 'operator or make_token'",
    "src/main.py": """
        tests/test_contract.py tests/test_http.py tests/test_fastapi.py tests/test_bodies.py
        tests/test_auth.py tests/test_open_mode.py tests/test_telemetry.py tests/test_logs.py
        tests/test_asgi_servers.py
        -k 'published or test_http and preflight or be_read_by or mounted or plain_endpoint
        or override or frames or match_the_settings or 421_for_preflights or traces_of
        or stop_is_logged or prefix'
    """,
    "src/framework/addresses.py": """
        tests/test_open_mode.py -k 'recognized or on_this_machine'
    """,
    "src/framework/condition.py": """
        tests/test_conditions.py -k 'not (50_ or servers or lost or version)'
    """,
    "src/framework/exceptions.py": "tests/test_starter.py",
    "src/framework/files.py": "tests/test_files.py",
    "src/framework/long_numbers.py": """
        tests/test_bodies.py tests/test_further_members.py -k 'number and not jwt'
    """,
    "src/framework/turns.py": "tests/test_live.py -k 'turn and not query'",
    "src/framework/auth/jwks.py": """
        tests/test_jwks.py
        -k 'fetched_once or media_type or not_wait or few_searches or used_search or share_a_fetch
        or background or ends_with or continues or without_a_key_id or empty_set or odd_key_is
        or redirect_within or another_host or redirect or plain_http or huge or trickling_answer
        or no_proxy or remembered or unchanged or not_a_set or outage or without_an_answer
        or neither_waits'
    """,
    "src/framework/auth/keys.py": """
        tests/test_jwks.py
        -k 'every_asymmetric or states_its or two_names or key_sets or odd_key_is or two_keys'
    """,
    "src/framework/server/cycle.py": """
        tests/test_cycle.py tests/test_connection.py -k 'test_cycle or no_faster'
    """,
    "src/framework/server/flow.py": """
        tests/test_flow.py tests/test_cycle.py tests/test_connection.py
        -k 'not (test_connection or 1_0) or pipelined or no_faster'
    """,
    "src/framework/server/host_check.py": """
        tests/test_open_mode.py
        -k 'without_a_loopback or names_can_be or on_loopback_any_other or on_loopback_every'
    """,
    "src/framework/server/listening.py": "tests/test_open_mode.py",
    "src/framework/server/logs.py": """
        tests/test_logs.py tests/test_output.py
        -k 'test_logs and not failed_start or unread or written_together or non_blocking
        or waited_for or dropped or goes_away or closed_output'
    """,
    "src/framework/server/open_mode.py": "tests/test_open_mode.py",
    "src/framework/server/process.py": """
        tests/test_open_mode.py tests/test_logs.py tests/test_stop.py tests/test_run.py
        -k 'test_stop and not counts_once or closing or names_the_setting or is_named
        or used_again or does_not_listen or error_of_an_import'
    """,
    "src/framework/server/transport.py": "tests/test_transport.py",
    "src/framework/server/*.py": """
        tests/test_connection.py tests/test_cycle.py tests/faults/test_peers.py
        -k 'test_connection and not plain or test_cycle or limit_of_open_files'
    """,
    "src/framework/sql/embedded.py": "tests/test_embedded.py",
    "src/framework/sql/engine.py": """
        tests/test_connections.py tests/test_round_trips.py tests/test_lost_answers.py
        tests/test_failures.py tests/test_long_lists.py tests/test_sharing.py
        -k 'not (pooler or jwt or test_failures or test_long_lists or test_sharing) or absent
        or may_have or read_only or own_zone or snapshot or is_read_again or broken_off
        or takes_too_long or two_changes or are_each_applied or all_kinds_go_together'
    """,
    "src/framework/web/application.py": "tests/test_telemetry.py tests/test_fastapi.py",
    "src/framework/web/docs.py": """
        tests/test_assets.py tests/test_http.py tests/test_bodies.py tests/test_browser.py
        tests/test_docs_page.py
        -k 'test_assets or leads_to_the_docs or frames or redoc_works or four_clicks'
    """,
    "src/framework/web/strict_names.py": "tests/test_strict_names.py",
    "src/framework/web/middleware.py": """
        tests/test_http.py tests/test_fastapi.py tests/test_connection.py tests/test_failures.py
        tests/test_asgi_servers.py
        -k 'test_http and not preflight_allows_the or fastapi or ambiguous or unexpected or one_line
        or must or own_connections or cannot_start or prefix or absent_at_start_up'
    """,
    "src/migrations/__init__.py": """
        tests/test_migrations.py tests/test_own_tables.py
        -k 'test_migrations and not 8_processes or no_revision or do_not_go or beside
        or role_needs or role_without'
    """,
    "src/migrations/checks.py": """
        tests/test_own_tables.py
        -k '(in_the_way or refused or beside or policy or role_needs or role_without or quotes
        or keeps_every_byte or stays_unchanged) and not (LATIN1 or WIN1252 or EUC_JP)'
    """,
    "src/migrations/rights.py": "tests/test_own_tables.py -k 'right or policy or may_not'",
    "src/models/*.py": """
        tests/test_migrations.py tests/test_contract.py tests/test_fields.py
        tests/test_personal_tokens.py tests/test_resource.py
        -k 'published_sql or make_the_same or same_priorities or as_long_as or published
        or keeps_a_field or keeps_every_row or kept or shown_once or like_tasks'
    """,
    "src/routers/introduction.py": "tests/test_contract.py -k 'published or no_token'",
    "src/routers/health.py": """
        tests/test_contract.py tests/test_strict_names.py tests/test_failures.py
        -k 'published or probes or absent or Ready'
    """,
    "src/routers/problems.py": """
        tests/test_contract.py tests/test_personal_tokens.py tests/test_days.py tests/test_batch.py
        tests/test_idempotency.py tests/test_further_members.py tests/test_changes.py
        tests/test_conditions.py tests/test_auth.py
        -k 'published or (scope_read and fast) or unknown_time_zone or is_410
        or every_operation_asks or path_of_the_tokens_user
        or not jwt and (same_key_with_another or changed_task_refuses or excluded_etag
        or too_many_or_too_long)'
    """,
    "src/routers/answers.py": """
        tests/test_contract.py tests/test_conditions.py tests/test_filters.py tests/test_pages.py
        -k 'published or not jwt and (page_that_is_known or given_etag or state_of_its_list
        or no_etag_of_a_list or content_location or number_of_all or by_number or link)
        and not (test_contract or come_go)'
    """,
    "src/routers/batches.py": """
        tests/test_contract.py tests/test_batch.py
        -k 'published or not jwt and (like_the_endpoints or in_order or missing_task or changed_task
        or expected_etag or etag_of_a_result or 3_mib or repeated_batch)
        and not (test_contract or outcome)'
    """,
    "src/routers/changes.py": """
        tests/test_contract.py tests/test_changes.py tests/test_live.py
        -k 'published or not jwt and (test_changes or waits or waiting_request
        or scarce or asks_for_events) and not (expires or test_contract or text_that)'
    """,
    "src/routers/*.py": """
        tests/test_contract.py tests/test_create_task.py tests/test_toggle_task.py
        tests/test_delete_task.py tests/test_conditions.py tests/test_further_members.py
        tests/test_changes.py tests/test_batch.py tests/test_odd_input.py
        -k 'not (cases or with_tokens or come_go or outcome or 50_ or servers) and not jwt
        and (not test_further_members or put_replaces) or published'
    """,
    "src/routers/personal_tokens.py": """
        tests/test_personal_tokens.py tests/test_contract.py
        -k 'not plain and (personal_tokens or published)'
    """,
    "src/schemas/personal_token.py": """
        tests/test_personal_tokens.py tests/test_contract.py
        -k 'not plain and (new or body or other_user_manages or lives or pages or published)'
    """,
    "src/schemas/fields.py": """
        tests/test_contract.py tests/test_fields.py tests/test_filters.py tests/test_create_task.py
        tests/test_conditions.py
        -k 'published or not (test_contract or jwt) and (test_fields or through or last_day
        or not_encoded or create_task or malformed) and not (random or any_tags)'
    """,
    "src/schemas/other_names.py": """
        tests/test_contract.py tests/test_filters.py tests/test_spellings.py tests/test_pages.py
        -k 'published or not (test_contract or test_pages or jwt) and (names or value or spellings
        or number) or invalid_order and open'
    """,
    "src/schemas/*.py": """
        tests/test_contract.py tests/test_batch.py tests/test_fields.py tests/test_filters.py
        tests/test_pages.py tests/test_spellings.py
        -k 'not (cases or with_tokens or come_go or outcome or random) and not jwt or published'
    """,
    "src/services/known_tokens.py": "tests/test_personal_tokens.py -k 'not 50 and not plain'",
    "src/services/personal_token_service.py": """
        tests/test_resource.py tests/test_personal_tokens.py
        -k 'published_sql or not plain and (shown_once or pages_and_etags or the_50th or the_51st
        or starts_over or once_an_hour)'
    """,
    "src/services/token_text.py": "tests/test_personal_tokens.py -k 'a_text or the_text'",
    "src/services/due_dates.py": """
        tests/test_resource.py tests/test_days.py -k 'published_sql or test_days'
    """,
    "src/services/batch_service.py": """
        tests/test_resource.py tests/test_batch.py
        -k 'published_sql or (not test_resource and (not jwt and not outcome))'
    """,
    "src/services/expiry_service.py": """
        tests/test_resource.py tests/test_expiry.py -k 'published_sql or test_expiry'
    """,
    "src/services/listeners.py": """
        tests/test_live.py
        -k 'query or read_once or turns_at_reading or goes_on or go_on or missed_changes or idle
        or as_many or comment or waiting_request_is_answered or unknown_position or begins
        or large_tasks or single_task or ends_at_once or one_line_for'
    """,
    "src/services/*.py": """
        tests/test_contract.py tests/test_changes.py tests/test_batch.py -k 'not cases'
    """,
    "src/framework/auth/tokens.py": """
        tests/test_auth.py tests/test_jwks.py tests/test_live.py
        -k '(test_auth or unknown_key_is_refused or is_revoked)
        and not (without_postgresql or any_header)'
    """,
    "src/framework/sql/connection_string.py": """
        tests/test_connection_string.py -k 'not the_service'
    """,
    "src/schemas/paging.py": """
        tests/test_statements.py tests/test_pages.py tests/test_days.py tests/test_contract.py
        tests/test_personal_tokens.py
        -k 'cursor or published or pages_in_a_zone or tokens_have_pages
        or test_pages and (order or link or postgresql)'
    """,
    "src/framework/sql/members.py": """
        tests/test_resource.py tests/test_times.py tests/test_further_members.py
        tests/test_sharing.py tests/test_personal_tokens.py
        -k 'published_sql or searched or pages_and_etags
        or not (test_resource or test_times or test_personal_tokens or jwt)'
    """,
    "src/framework/sql/etag.py": """
        tests/test_resource.py tests/test_conditions.py
        -k 'published_sql or (not test_resource and (postgresql or etag or known))'
    """,
    "src/framework/sql/json_times.py": """
        tests/test_times.py
        -k 'searched or changed_back or need_zeros or hides_no_time or six_digits or by_hand'
    """,
    "src/framework/sql/row_end.py": """
        tests/test_resource.py tests/test_times.py tests/test_further_members.py
        -k 'published_sql or searched or changed_back or need_zeros or hides_no_time
        or six_digits or members and not jwt'
    """,
    "src/schemas/changes.py": """
        tests/test_changes.py tests/test_contract.py tests/test_routing.py
        -k 'published or on_the_fast_path
        or not jwt and (token or order) and not (test_contract or test_routing)'
    """,
    "src/framework/sql/batch_rows.py": "tests/test_batch.py -k 'not jwt and not outcome'",
    "src/framework/sql/exceptions.py": """
        tests/test_further_members.py -k 'too_many_or_too_long and not jwt'
    """,
    "src/framework/sql/text.py": """
        tests/test_resource.py tests/test_spellings.py
        -k 'published_sql or any_locale or (open and (composed or people_expect or same_text))'
    """,
    "src/framework/sql/shares.py": "tests/test_connections.py",
    "src/framework/sql/sharing.py": """
        tests/test_sharing.py -k 'not (session or breaks or slow or deadlock_with)'
    """,
    "src/framework/sql/statements.py": _OF_STATEMENTS,
    "src/framework/sql/shared_statements.py": _OF_STATEMENTS,
    "src/framework/sql/batch_statements.py": """
        tests/test_resource.py tests/test_batch.py
        -k 'published_sql or (test_batch and not jwt and not outcome)'
    """,
    "src/framework/sql/uuid7.py": "tests/test_uuid7.py",
    "src/framework/web/bodies.py": "tests/test_bodies.py",
    "src/framework/web/conditions.py": """
        tests/test_conditions.py -k 'not (50_ or servers or lost or version)'
    """,
    "src/framework/web/contract.py": """
        tests/test_contract.py -k 'published or no_token or description'
    """,
    "src/framework/web/events.py": """
        tests/test_live.py
        -k 'begins or event or comment or head or logged or ends_with or no_token or frontend'
    """,
    "src/framework/web/fast.py": """
        tests/test_routing.py tests/test_odd_input.py tests/test_fastapi.py
        -k 'routing or fastapi or odd_input and not jwt'
    """,
    "src/framework/web/links.py": """
        tests/test_pages.py tests/test_create_task.py tests/test_odd_input.py tests/test_changes.py
        -k 'not jwt and (link or odd_input or create_task or leads_to)'
    """,
    "src/framework/web/preferences.py": """
        tests/test_filters.py -k 'preferences_are or to_wait or weights or hundred'
    """,
    "src/framework/web/problems.py": """
        tests/test_fastapi.py tests/test_http.py tests/test_odd_input.py tests/test_contract.py
        tests/test_create_task.py tests/test_toggle_task.py tests/test_pages.py
        tests/test_failures.py tests/test_patch_task.py tests/test_batch.py
        -k 'test_http or odd_input or handle or published or none_is_refused or unexpected
        or standby or accept_patch or before_a_look
        or not jwt and (create_task or toggle_task or invalid_operation)'
    """,
    "src/framework/web/responses.py": """
        tests/test_compression.py tests/test_conditions.py tests/test_long_lists.py
        -k 'not (50_ or servers or lost or version) and not long_lists or closed'
    """,
    "src/framework/web/routing.py": """
        tests/test_odd_input.py tests/test_connection.py tests/test_bodies.py tests/test_routing.py
        tests/test_strict_names.py tests/test_http.py tests/test_pages.py tests/test_spellings.py
        -k 'not jwt and (odd_input or test_routing or encod or longer or at_their_limits
        or strict_names
        or without_its_length or parameter_is_named)'
    """,
    "src/framework/spool.py": """
        tests/test_spool.py tests/test_long_lists.py
        -k 'test_spool or every_task and not jwt'
    """,
    "src/schemas/task_listing.py": """
        tests/test_filters.py tests/test_pages.py tests/test_contract.py tests/test_days.py
        -k '(published or not jwt) and (test_filters or limit or parameter or order or cursor
        or published or belongs_to_its_zone)
        and not (come_go or postgresql or random or any_position)'
    """,
    "src/schemas/further.py": """
        tests/test_further_members.py tests/test_contract.py
        -k 'published or further and not jwt'
    """,
    "src/schemas/task.py": """
        tests/test_fields.py tests/test_create_task.py tests/test_update_task.py
        tests/test_toggle_task.py tests/test_odd_input.py tests/test_days.py
        tests/test_spellings.py tests/test_contract.py
        -k '(published or not jwt) and (published or not test_contract)
        and (not test_days or day_or_at or stays_a_day or no_day or all_day_alone)
        and (not test_spellings or same_text)
        and not (anyone or cases or with_tokens or answer_is or come_go)'
    """,
    "src/services/feed_service.py": """
        tests/test_resource.py tests/test_changes.py tests/test_feed.py tests/test_live.py
        -k 'published_sql or (not test_resource and (not jwt and (test_changes or hand or old or
        restored or new or without_changes or page_by_page or each_change)))'
    """,
    "src/framework/sql/rows.py": """
        tests/test_filters.py tests/test_pages.py tests/test_idempotency.py
        tests/test_conditions.py tests/test_long_lists.py tests/test_statements.py
        tests/test_lost_answers.py tests/test_key_storage.py
        -k 'not jwt and (by_number or number_of_all or full_page or page_has or large_tasks
        or without_a_limit or same_key_and_task or with_another_task or own_expired
        or create_is_sent_again or page_that_is_known or missing_task_is_404 or order_filter
        or every_task or one_statement or beyond_10_000_keys)
        and not (outlives or 50_ or index or servers or come_go)'
    """,
    "src/services/task_service.py": """
        tests/test_resource.py tests/test_filters.py tests/test_statements.py tests/test_pages.py
        tests/test_idempotency.py tests/test_fields.py tests/test_toggle_task.py
        tests/test_conditions.py tests/test_delete_task.py tests/test_days.py
        tests/test_further_members.py
        -k 'published_sql or patch_merges or (not test_resource and not test_further_members
        and (not jwt and (test_filters or test_days or
        scoped or takes_long or completed or key or known or text or toggle or delete or condition)
        and not (outlives or 50_ or index or servers or come_go or other_names or contradict
        or wrong)))'
    """,
}

NOT_TRIED = {
    "src/framework/sql/citus.py": "its tests need a Citus cluster, which no registry has",
    "src/framework/sql/steps.py": "its tests need a Citus cluster, which no registry has",
    "src/framework/web/problem_schema.py": "it describes; the published contract is compared",
    "src/migrations/env.py": "Alembic reads it from its file, once for each database",
    "src/migrations/versions/*.py": "of releases that are out; their tables are compared",
}
"""The modules without mutants, and the reasons."""

OPTIONS = shlex.split(
    "-x -q -p no:cacheprovider -p no:schemathesis -p no:xdist "
    # The other method raises an exception, which asyncio catches in a loop that never waits.
    "--timeout=40 --timeout-method=thread "
    "-W ignore::pytest.PytestAssertRewriteWarning"
)

LIBRARIES = (
    "alembic.command",
    "asyncpg",
    "fastapi",
    "fastapi_offline",
    "httptools",
    "httpx",
    "hypothesis",
    "jwt",
    "multiprocessing.spawn",
    "pydantic.v1",
    "pydantic_settings",
    "sqlalchemy.ext.asyncio",
    "sqlmodel",
    "starlette.middleware.cors",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    "uvicorn.supervisors",
    "uvloop",
    "xxhash",
    "zstandard",
)

OTHER: dict[type[ast.AST], Any] = {
    ast.Add: ast.Sub,
    ast.And: ast.Or,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Eq: ast.NotEq,
    ast.FloorDiv: ast.Mult,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.LShift: ast.RShift,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Mod: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.NotEq: ast.Eq,
    ast.NotIn: ast.In,
    ast.Or: ast.And,
    ast.RShift: ast.LShift,
    ast.Sub: ast.Add,
}

# The functions that also work with one argument less.
OF_ANY_NUMBER = {"and_", "func.greatest", "max", "min", "or_"}

# Code for readers and type checkers, and decorators, some of which only make the code faster.
LEFT_ALONE = {"annotation", "decorator_list", "returns", "type_params"}


HEAD = """# Mutants

A mutant is one small change of the code. The change replaces an operator or a constant, turns a
condition round, or leaves out a call or an argument. With each mutant, a test has to fail. Of a
large module, `make mutants` tries only some mutants, from all parts of the module alike.

| module | possible | tried | killed | |
|---|---:|---:|---:|---:|""".splitlines()

HEAD_OF_SURVIVORS = """
## Survivors

| where | change | why it stays |
|---|---|---|""".splitlines()


class Mutant(NamedTuple):
    line: int
    change: str
    source: str


@cache
def modules() -> list[str]:
    """Return every module that has mutants.

    Ends the process if a module has no tests in `TESTS`, or if an accepted mutant does not exist.
    """
    found = [
        str(file.relative_to(BACKEND))
        for file in sorted(BACKEND.glob("src/**/*.py"))
        if not any(file.match(pattern) for pattern in NOT_TRIED)
    ]
    found = [module for module in found if next(iter(_mutants(_source(module))), None)]
    wrong = [f"{module}: has no tests in TESTS" for module in found if not tests_of(module)]
    for module, accepted in ACCEPTED.items():
        possible = {change for _, change, _ in _changes(_source(module))}
        wrong += [f"{module}: no code for {change}" for change in accepted.keys() - possible]
    if wrong:
        sys.exit("\n".join(wrong))
    return found


def tests_of(module: str) -> str | None:
    """Return pytest's arguments for a module's tests: those of the module, or of a pattern."""
    fitting = (tests for pattern, tests in TESTS.items() if Path(module).match(pattern))
    return TESTS.get(module) or next(fitting, None)


def _source(module: str) -> str:
    file = BACKEND / module
    return file.read_text() if file.exists() else ""


@cache
def every_mutant_of(module: str) -> list[Mutant]:
    return list(_mutants(_source(module)))


def mutants_of(module: str, most: int) -> list[Mutant]:
    """Choose some mutants, from the module's beginning to the module's end."""
    every = every_mutant_of(module)
    number = min(most, len(every))
    return [every[len(every) * each // number] for each in range(number)]


def _mutants(source: str) -> Iterator[Mutant]:
    for line, change, tree in _changes(source):
        yield Mutant(line, change, ast.unparse(tree))


def _changes(source: str) -> Iterator[tuple[int, str, ast.Module]]:
    """Change the tree in each way, one change at a time. Undo each change before the next."""
    tree = ast.parse(source)
    modules = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for parent, field, place, node in _places(tree):
        is_bare = isinstance(node, ast.Constant) and len(_short(parent)) < LONG
        shown = parent if is_bare else node
        for new in _changed(node, modules):
            before = _short(shown)
            _put(parent, field, place, new)
            after = _short(new if shown is node else shown)
            yield node.lineno, f"{before} → {after}", tree
            _put(parent, field, place, node)


def _places(parent: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.expr | ast.stmt]]:
    """Yield each node that a mutant may change, with the node's place."""
    for field, value in ast.iter_fields(parent):
        if field in LEFT_ALONE:
            continue
        for place, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(node, ast.AST) and not _says_nothing(node):
                if isinstance(node, ast.expr | ast.stmt):
                    yield parent, field, place, node
                yield from _places(node)


def _says_nothing(node: ast.AST) -> bool:
    match node:
        case ast.Expr(ast.Constant()):  # a docstring
            return True
        case ast.Call(ast.Name("TypeVar" | "cast"), [ast.Constant(), *_]):
            return True
        case ast.If(ast.Name("TYPE_CHECKING")):
            return True
    return False


def _put(parent: ast.AST, field: str, place: int | None, node: ast.AST) -> None:
    if place is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[place] = node


def _changed(node: ast.AST, modules: set[str]) -> Iterator[ast.AST]:  # noqa: PLR0912 - one for each kind of change
    match node:
        case ast.Compare(left, [op], right) if type(op) in OTHER:
            yield ast.Compare(left, [OTHER[type(op)]()], right)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(OTHER[type(op)](), values)
        case ast.BinOp(left, op, right) if type(op) in OTHER:
            yield ast.BinOp(left, OTHER[type(op)](), right)
        case ast.UnaryOp(ast.Not(), operand):
            yield operand
        case ast.If(test, body, orelse):
            yield ast.If(_not(test), body, orelse)
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(_not(test), body, orelse)
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(str() as value):
            yield ast.Constant(f"{value}~")
        case ast.Constant(bytes() as value):
            yield ast.Constant(value + b"~")
        case ast.Return(ast.expr() as value) if not _is_none(value):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.AugAssign() | ast.Expr(ast.Call() | ast.Await()):
            yield ast.Pass()
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Pass()
        case ast.Call(func, args, keywords):
            match func:
                case ast.Attribute(ast.Name(name)) if name in modules:
                    pass
                case ast.Attribute(value):
                    yield value
            for place in range(len(args) if ast.unparse(func) in OF_ANY_NUMBER else 0):
                yield ast.Call(func, args[:place] + args[place + 1 :], keywords)
            for place in range(len(keywords)):
                yield ast.Call(func, args, keywords[:place] + keywords[place + 1 :])


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _short(node: ast.AST) -> str:
    """Return the code of a node, or only the first line of a block."""
    return ast.unparse(node).split("\n", 1)[0]


@dataclass
class Run:
    """A run of the tests on one mutant, in a copy of the project."""

    mutant: Mutant
    copy: Path
    left: float = SECONDS
    times: int = 3


def survivors_of(
    module: str, mutants: list[Mutant], copies: list[Path], postgres: str
) -> list[Mutant] | None:
    """Run the module's tests on each mutant, in all copies of the project at the same time.

    Return None if the tests fail without a mutant.
    """
    # The first run has the unchanged code, without comments, like the code of a mutant.
    unchanged = Mutant(0, "", ast.unparse(ast.parse(_source(module))))
    waiting, free = [Run(unchanged, copies[0])], list(copies)
    running: dict[int, Run] = {}
    killers: list[str] = []
    seconds: float = SECONDS
    survivors = []
    while waiting or running:
        while waiting and free:
            run = waiting.pop(0)
            run.copy, run.left, run.times = free.pop(), seconds, run.times - 1
            (run.copy / module).write_text(run.mutant.source)
            running[_start(run.copy, tests_of(module) or "", postgres, killers)] = run
        pid, status = _wait(running)
        run = running.pop(pid)
        free.append(run.copy)
        has_failed = (failed := _failed(run.copy)).exists()
        hangs = run.left == inf and not has_failed
        has_survived = status == 0
        is_cut_off = status == pytest.ExitCode.TESTS_FAILED and not has_failed
        may_be_others = hangs or is_cut_off or status == AGAIN or run.mutant is unchanged
        if run.times and not has_survived and may_be_others:
            waiting.append(run)
        elif run.mutant is unchanged and has_survived:
            waiting = [Run(mutant, copies[0]) for mutant in mutants]
            slower = max(TIMES_SLOWER, len(copies))
            seconds = MORE_SECONDS + slower * (SECONDS - run.left)
            print(f"{module}: its tests take {SECONDS - run.left:.0f} s", flush=True)
        elif run.mutant is unchanged:
            print(_said(run.copy))
            return None
        elif has_survived or hangs:
            survivors.append(run.mutant)
        elif has_failed:
            killer = failed.read_text()
            killers = [killer, *(each for each in killers if each != killer)]
        if os.environ.get("SHOW"):
            said = [line for line in _said(run.copy).splitlines() if "stopping" not in line]
            what = "SURVIVES" if has_survived else said[-2:] if status != AGAIN else "AGAIN"
            what = "HANGS" if hangs else "IS CUT OFF" if is_cut_off else what
            print(f"  {run.mutant.line} {run.mutant.change} {what}")
    for copy in copies:
        shutil.copy2(BACKEND / module, copy / module)
    return sorted(survivors)


def _failed(copy: Path) -> Path:
    """Return the file with the id of the test that failed with the mutant."""
    return copy.parent / "failed"


def _said(copy: Path) -> str:
    return (copy.parent / "said").read_text(errors="replace")


def _wait(running: dict[int, Run]) -> tuple[int, int]:
    """Wait until the tests on a mutant have ended. Return the tests' process and exit status.

    Ends the processes that the tests left behind.
    """
    while True:
        began = perf_counter()
        sleep(LOOK_SECONDS)
        for pid, run in running.items():
            run.left -= min(perf_counter() - began, 2 * LOOK_SECONDS)
            if run.left < 0:
                os.kill(pid, signal.SIGKILL)
                run.left = inf
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                _, status = os.waitpid(pid, 0)
                _end_what_is_left_of(run.copy)
                return pid, os.waitstatus_to_exitcode(status)


def _end_what_is_left_of(copy: Path) -> None:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == os.getuid() and process.cwd() == str(copy):
                process.kill()


def _start(backend: Path, tests: str, postgres: str, killers: list[str]) -> int:
    """Run tests in a fork of this process, which has all libraries and no code of the project."""
    _failed(backend).unlink(missing_ok=True)
    if pid := os.fork():
        return pid
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        said = os.open(backend.parent / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for descriptor, file in enumerate([nowhere, said, said]):
            os.dup2(file, descriptor)
        os.chdir(backend)
        sys.path[0] = str(backend)
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        for name in [name for name in sys.modules if name.split(".")[0] in {"src", "tests"}]:
            del sys.modules[name]
        tempfile.tempdir = None  # otherwise services would not look at TMPDIR
        _let_services_fork()
        given = [f"--postgres={postgres}", f"--basetemp={backend.parent}/tests"]
        arguments = [*OPTIONS, *given, *shlex.split(" ".join(tests.split()))]
        os._exit(pytest.main(arguments, plugins=[Changes(arguments, backend, killers)]))
    except BaseException:
        traceback.print_exc()
    finally:  # the fork may not run on: only the parent may end servers and folders
        os._exit(1)


class Changes:
    """Changes in how pytest runs the tests on a mutant."""

    def __init__(self, arguments: list[str], backend: Path, killers: list[str]) -> None:
        names = [Path(argument).name for argument in arguments]
        self.files = {name: place for place, name in enumerate([*names, "conftest.py"])}
        self.failed = _failed(backend)
        self.order = {test: place for place, test in enumerate(killers)}

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Collect only the files in pytest's arguments. pytest would look at all files for each."""
        return (collection_path.suffix == ".py" and collection_path.name not in self.files) or None

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Begin with tests that failed with earlier mutants: few tests kill most mutants.

        The other tests follow in the order of the arguments. `conftest.py` would change this order.
        """
        items.sort(key=lambda item: self.files[item.path.name])
        items.sort(key=lambda item: self.order.get(item.nodeid, len(self.order)))

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test once more if it waited and then failed: the machine may have been busy."""
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        failed = [report for report in reports if report.failed]
        if failed and max(report.duration for report in reports) > QUICK_SECONDS:
            if failed[0].when == "setup":  # a service did not start, and other tests need it, too
                os._exit(AGAIN)
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if any(report.failed for report in reports):
            self.failed.write_text(item.nodeid)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        return True

    def pytest_collection_finish(self) -> None:
        """Wait for a service no longer than START_SECONDS."""
        vars(import_module("tests.serving"))["wait_until_ready"].__defaults__ = (START_SECONDS,)


def _let_services_fork() -> None:
    """Fork the process that starts services: a new process would import the libraries anew."""
    starter = import_module("tests.starter")
    here, there = socket.socketpair(type=socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        here.close()
        os.setsid()
        atexit._clear()
        atexit.register(logging.shutdown)
        atexit.register(vars(multiprocessing.util)["_exit_function"])
        try:
            starter.serve(there)
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                sys.stderr.write(f"{ended.code}\n")
        except BaseException as error:
            traceback.print_exc()
            status = 1
            if isinstance(error, KeyboardInterrupt):
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.kill(os.getpid(), signal.SIGINT)
        vars(threading)["_shutdown"]()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    there.close()
    vars(starter)["_starter"] = lambda: (None, here)


def _copy(top: Path, number: int) -> Path:
    """Make a copy of the project to change."""
    backend = top / str(number) / "backend"
    ignored = shutil.ignore_patterns(".*", "node_modules", "peers", "results")
    shutil.copytree(BACKEND, backend, ignore=ignored)
    # Tests read these files. Without the last, `make run` would install everything.
    for name in ("README.md", "specs", "backend/.env.example", "backend/.venv"):
        (backend.parent / name).symlink_to(BACKEND.parent / name)
    return backend


async def _wait_for_no_disk(postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute("ALTER SYSTEM SET fsync = off")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


def write_table(module: str, tried: int, survivors: list[Mutant]) -> None:
    """Write the results of a module into the table, and keep the results of other modules."""
    old = TABLE.read_text().splitlines() if TABLE.exists() else []
    every = modules()
    rows = {each: [line for line in old if line.startswith(f"| `{each}` ")] for each in every}
    alive = {each: [line for line in old if line.startswith(f"| `{each}:")] for each in every}
    all_of_them = len(every_mutant_of(module))
    rows[module] = [_row(f"`{module}`", all_of_them, tried, len(survivors))]
    alive[module] = [
        f"| `{module}:{mutant.line}` | `{mutant.change.replace('|', chr(92) + '|')}` "
        f"| {reason(module, mutant)} |"
        for mutant in survivors
    ]
    numbers = [
        [int(cell) for cell in row.split("|")[2:5]] for row in chain.from_iterable(rows.values())
    ]
    possible, tried, killed = map(sum, zip(*numbers, strict=True))
    lines = [
        *HEAD,
        *chain.from_iterable(rows.values()),
        _row("all", possible, tried, tried - killed),
        *HEAD_OF_SURVIVORS,
        *chain.from_iterable(alive.values()),
    ]
    TABLE.write_text("\n".join(lines) + "\n")


def _row(name: str, possible: int, tried: int, alive: int) -> str:
    return f"| {name} | {possible} | {tried} | {tried - alive} | {1 - alive / tried:.0%} |"


def reason(module: str, mutant: Mutant) -> str:
    return ACCEPTED.get(module, {}).get(mutant.change, "")


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument(
        "modules", nargs="*", help="only these; the table keeps what it says of others"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--most", type=int, default=MOST, help="how many mutants of a module to try"
    )
    chosen = parser.parse_args()
    survivors: dict[str, list[Mutant]] = {}
    failing: list[str] = []
    weak: list[str] = []
    every = modules()
    for library in LIBRARIES:
        import_module(library)
    with TemporaryDirectory() as folder, embedded_server(Path(folder) / "data") as postgres:
        top = Path(folder)
        asyncio.run(_wait_for_no_disk(postgres))
        copies = [_copy(top, number) for number in range(chosen.processes)]
        for module in chosen.modules or every:
            began = perf_counter()
            mutants = mutants_of(module, chosen.most)
            alive = survivors_of(module, mutants, copies, postgres)
            seconds = perf_counter() - began
            if alive is None:
                failing.append(f"{module}: its tests fail without a mutant: {tests_of(module)}")
                print(failing[-1], flush=True)
                continue
            survivors[module] = alive
            write_table(module, len(mutants), alive)
            if len(mutants) - len(alive) < len(mutants) * WANTED:
                weak.append(f"{module}: {len(alive)} of {len(mutants)} mutants survive")
            print(f"{module}: {len(alive)} survive, {seconds:.0f} s", flush=True)
    unexplained = [
        f"{module}:{mutant.line}: {mutant.change}"
        for module, mutants in survivors.items()
        for mutant in mutants
        if not reason(module, mutant)
    ]
    if failing or unexplained or weak:
        said = [
            "These survive without a reason, or a module has too many, or its tests fail:",
            *unexplained,
            *weak,
            *failing,
        ]
        sys.exit("\n".join(said))


if __name__ == "__main__":
    main()
