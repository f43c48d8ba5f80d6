"""The mutants that no test kills, for each module, and the reason why each mutant may survive."""

AS_FALSE = {"return False → return None": "None is as false as False"}

TUNED = "the service sends the same; benchmarks show the cost"

EXACT = "a test would need to be exact to a second"

ALIAS = "an alias has any name"

TURNS = "others wait longer for their turns; benchmarks show it"


ACCEPTED: dict[str, dict[str, str]] = {
    "src/main.py": {
        "GARBAGE_THRESHOLD = 20000 → GARBAGE_THRESHOLD = 20001": TUNED,
    },
    "src/database.py": {
        "repeat(4) → repeat(5)": "the service finds a database that comes late a second later",
    },
    "src/framework/addresses.py": AS_FALSE,
    "src/framework/server/host_check.py": AS_FALSE,
    "src/framework/server/logs.py": {
        "FLUSH_SECONDS = 0.1 → FLUSH_SECONDS = 1.1": "lines are the same, a second later",
    },
    "src/framework/server/process.py": {
        "SAME_SIGNAL_SECONDS = 1.0 → SAME_SIGNAL_SECONDS = 2.0": EXACT,
    },
    "src/framework/web/application.py": AS_FALSE,
    "src/framework/auth/tokens.py": {
        "LEEWAY_SECONDS = 30 → LEEWAY_SECONDS = 31": EXACT,
    },
    "src/framework/auth/jwks.py": {
        "self.searched_until = 0.0 → self.searched_until = 1.0": "every clock is past both values",
    },
    "src/framework/sql/batch_rows.py": {
        "has_key and (not _FAILURES.isdisjoint(rows)) → "
        "has_key or not _FAILURES.isdisjoint(rows)": (
            "another statement is sent, and its answer is the same"
        ),
    },
    "src/framework/sql/connection_string.py": AS_FALSE,
    "src/schemas/paging.py": {
        "urlsafe_b64encode(to_json([order, value, row['id']])).decode().rstrip('=') → "
        "urlsafe_b64encode(to_json([order, value, row['id']])).decode().rstrip('=~')": (
            "the text has no ~"
        ),
        "'Listing' → 'Listing~'": "no client sees this text",
        "2000 + year % 400 → 2000 - year % 400": "leap years are as far before 2000 as after it",
    },
    "src/framework/long_numbers.py": {
        "_MARK = '\\ud800' → _MARK = '\\ud800~'": "no client can send either text",
    },
    "src/schemas/further.py": {
        "FURTHER = '\\x00further' → FURTHER = '\\x00further~'": "no client can send either text",
        "digits[name] > most_bytes → digits[name] >= most_bytes": "the text is longer than these",
    },
    "src/schemas/changes.py": {
        "urlsafe_b64encode(to_json((position.seq, position.at))).decode().rstrip('=') → "
        "urlsafe_b64encode(to_json((position.seq, position.at))).decode().rstrip('=~')": (
            "the text has no ~"
        ),
        "b'=' * (-len(text) % 4) → b'=~' * (-len(text) % 4)": (
            "the decoder skips any character like ~"
        ),
        "ge=0 → ge=1": "no change is from the first microsecond of 1970",
        "ValueError('written in another way') → ValueError('written in another way~')": (
            "no client sees this text"
        ),
    },
    "src/framework/sql/shares.py": AS_FALSE
    | {
        "turn.done() → turn": "a turn is cancelled, and so done, with the task that waits for it",
        "timer.cancel() → pass": "a timer that comes late finds the turn done and does nothing",
    },
    "src/framework/sql/sharing.py": {
        "self.under_way == 0 → self.under_way != 0": TURNS,
        "self._call() → pass": TURNS,
        "self._call() → self": TURNS,
        "self._send_held() → self": "held requests are sent when the next statement returns",
        "answered: int = 0 → answered: int = 1": "the first request that waits lowers it to 0",
        "self.timer.cancel() → self.timer": "a call too many finds nobody waiting",
        "self.calls.add(call) → pass": "Python seldom forgets a task that nobody holds",
    },
    "src/framework/sql/engine.py": {
        "CONNECT_SECONDS = 5.0 → CONNECT_SECONDS = 6.0": EXACT,
    },
    "src/framework/sql/embedded.py": {
        "USERS_LOCK = 'users.lock' → USERS_LOCK = 'users.lock~'": "a file has any name",
    },
    "src/migrations/__init__.py": {
        "{'table': table, 'other': 'tasks'} → {'table': table, 'other': 'tasks~'}": (
            "its tests need a Citus cluster, which no registry has"
        ),
    },
    "src/framework/sql/statements.py": {
        "f'{model} is not a table' → f'{model} is not a table~'": (
            "for the type checker: SQLModel maps every model to a table"
        ),
        "bindparam('position_id', type_=row_id.type) → bindparam('position_id')": (
            "PostgreSQL gives the parameter the type of the column beside it"
        ),
        "row.c.keys() → row.c": "SQLAlchemy takes columns for their names",
    },
    "src/framework/sql/uuid7.py": {
        "_last_tick = 0 → _last_tick = 1": "every clock is far past both values",
        "_last_tick + 1 → _last_tick + 2": "the tick is still later than the tick before",
    },
    "src/framework/web/links.py": {
        '_IN_A_PATH = "%/:@!$&\'()*+,;=~" → _IN_A_PATH = "%/:@!$&\'()*+,;=~~"': "one ~ is enough",
        "path_of(request).rstrip('/') → path_of(request).rstrip('/~')": (
            "no path of a collection ends with ~"
        ),
    },
    "src/framework/web/problems.py": {
        "problem(400, 'The request ended before its body was complete') → "
        "problem(400, 'The request ended before its body was complete~')": (
            "no client is there to read it"
        ),
    },
    "src/framework/web/bodies.py": {
        "body.translate(None, _NO_MARKS) → body": "the same marks are counted, more slowly",
    },
    "src/framework/web/routing.py": {
        "strict.headers.get('prefer', '') → strict.headers.get('prefer', '~')": (
            "neither asks for anything"
        ),
    },
    "src/framework/web/responses.py": {
        "encoding is not None or self.spool.is_in_file → "
        "encoding is not None and self.spool.is_in_file": TURNS,
    },
    "src/framework/web/fast.py": {
        "include_url=False → include_url=True": "problems have no member for it; it takes time",
        "if error.error_count() > MANY_ERRORS: → if not error.error_count() > MANY_ERRORS:": TURNS,
    },
    "src/framework/spool.py": {
        "SHORT = 100 → SHORT = 101": TUNED,
        "PIECE_BYTES // 4 → PIECE_BYTES * 4": TUNED,
    },
    "src/schemas/other_names.py": {
        "'name alphabetical a_z' → 'name alphabetical a_z~'": "words lose their marks",
    },
    "src/services/feed_service.py": {
        "LOOK_AHEAD = 2000 → LOOK_AHEAD = 2001": TUNED,
        "last.order_by(_CHANGE.seq.desc()).limit(literal_column('1')).subquery('last') → "
        "last.order_by(_CHANGE.seq.desc()).limit(literal_column('1')).subquery('last~')": ALIAS,
        "'log' → 'log~'": ALIAS,
        "'task' → 'task~'": ALIAS,
        "bindparam('limit', type_=BigInteger) → bindparam('limit')": (
            "PostgreSQL finds the same type"
        ),
        "bindparam('seq', type_=BigInteger) → bindparam('seq')": "PostgreSQL finds the same type",
        "select(state).select_from(page.outerjoin(task, true())).order_by(page.c.seq) → "
        "select(state).select_from(page.outerjoin(task, true()))": (
            "today's plan keeps the order; another might not"
        ),
    },
    "src/services/personal_token_service.py": {
        "engine: AsyncEngine, user_id: str, listing: PersonalTokenListing, *, "
        "counted: bool=False → "
        "engine: AsyncEngine, user_id: str, listing: PersonalTokenListing, *, "
        "counted: bool=True": "a caller who does not ask for the number ignores it",
    },
    "src/framework/sql/rows.py": {
        "AT_ONCE = 1000 → AT_ONCE = 1001": TUNED,
    },
}
