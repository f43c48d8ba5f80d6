"""The service takes over only its own tables. For other tables, a sentence says what to change."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from src.framework.exceptions import CannotStart
from src.migrations import HEAD
from src.migrations.checks import VERSION_TABLE
from tests.citus import beside
from tests.conftest import database, execute
from tests.serving import serving, started
from tests.tasks import assert_problem, create, listed
from tests.test_by_hand import dumped
from tests.test_failures import sentence
from tests.test_migrations import EARLIER, upgraded


@pytest.fixture(autouse=True)
def _is_one_server(pytestconfig: pytest.Config) -> None:
    if pytestconfig.getoption("citus"):
        pytest.skip("makes the tables of other programs, and roles")


def everything(url: str) -> list[bytes]:
    """Return the whole database as SQL, without the lines that differ in each dump."""
    lines = dumped(url).splitlines()
    return [line for line in lines if not line.startswith((b"\\restrict", b"\\unrestrict"))]


def refused(url: str) -> str:
    """Start on a database that the service must refuse and not change. Return the sentence."""
    before = everything(url)
    with pytest.raises(CannotStart) as caught:
        asyncio.run(upgraded(url))
    assert everything(url) == before
    return str(caught.value)


@pytest.fixture(scope="module")
def shared(direct: str) -> Iterator[str]:
    with database(direct) as url:
        yield url


@pytest.fixture
def without_tables(shared: str) -> str:
    """The connection string of a database without tables, which the tests use in turn."""
    asyncio.run(execute(shared, "DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    asyncio.run(execute(shared, "DROP FOREIGN DATA WRAPPER IF EXISTS w CASCADE"))
    return shared


@pytest.fixture(scope="module")
def with_tables(direct: str, template: str) -> Iterator[str]:
    with database(direct, template) as url:
        yield url


INTEGER_IDS = """
CREATE TABLE tasks (
    id serial PRIMARY KEY, user_id text NOT NULL, title text NOT NULL, created_at timestamp
)
"""
PRISMA = """
CREATE TABLE tasks (
    id text PRIMARY KEY, "userId" text NOT NULL, title text NOT NULL, done boolean NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
)
"""


def earlier(old: str, new: str) -> str:
    assert old in EARLIER
    return EARLIER.replace(old, new)


TYPED = """
CREATE TYPE a_task AS (
    id uuid, user_id varchar(255), title varchar(500), description varchar, completed boolean,
    created_at timestamp, updated_at timestamp
);
CREATE TABLE tasks OF a_task (
    PRIMARY KEY (id), user_id NOT NULL, title NOT NULL, completed NOT NULL, created_at NOT NULL,
    updated_at NOT NULL
)
"""

OTHERS = [
    ("has a column id of type integer instead of uuid", INTEGER_IDS),
    ("has a column id of type text instead of uuid", PRISMA),
    (
        "has a column id of type character varying(36) instead of uuid",
        earlier("id UUID", "id VARCHAR(36)"),
    ),
    (
        "has a column user_id of type character varying(100) instead of character varying(255)",
        earlier("user_id VARCHAR(255)", "user_id VARCHAR(100)"),
    ),
    (
        "has a column title of type text instead of character varying(500)",
        earlier("title VARCHAR(500)", "title TEXT"),
    ),
    (
        "has a column title of type character varying(200) instead of character varying(500)",
        earlier("title VARCHAR(500)", "title VARCHAR(200)"),
    ),
    (
        "has a column description of type character varying(500) instead of character varying",
        earlier("description VARCHAR", "description VARCHAR(500)"),
    ),
    (
        "has a column description with NOT NULL",
        earlier("description VARCHAR", "description VARCHAR NOT NULL"),
    ),
    (
        "has a column title without NOT NULL",
        earlier("title VARCHAR(500) NOT NULL", "title VARCHAR(500)"),
    ),
    (
        "has a column completed of type integer instead of boolean",
        earlier("completed BOOLEAN", "completed INTEGER"),
    ),
    (
        "has a column created_at of type timestamp with time zone instead of timestamp without "
        "time zone",
        earlier("created_at TIMESTAMP WITHOUT", "created_at TIMESTAMP WITH"),
    ),
    (
        "has a column id with a default",
        earlier("id UUID NOT NULL", "id UUID NOT NULL DEFAULT gen_random_uuid()"),
    ),
    (
        "has a column title with a collation",
        earlier("title VARCHAR(500)", 'title VARCHAR(500) COLLATE "C"'),
    ),
    (
        "has a column priority that the service does not know",
        earlier("completed BOOLEAN", "priority INTEGER, completed BOOLEAN"),
    ),
    ("has no column description", earlier("    description VARCHAR,\n", "")),
    (
        "has PRIMARY KEY (user_id, id) instead of PRIMARY KEY (id)",
        earlier("PRIMARY KEY (id)", "PRIMARY KEY (user_id, id)"),
    ),
    ("has no primary key instead of PRIMARY KEY (id)", earlier(",\n    PRIMARY KEY (id)", "")),
    (
        "has the constraint tasks_title_key",
        earlier("PRIMARY KEY (id)", "PRIMARY KEY (id), UNIQUE (title)"),
    ),
    (
        "has the constraint tasks_title_check",
        earlier("PRIMARY KEY (id)", "PRIMARY KEY (id), CHECK (title <> '')"),
    ),
    (
        "has the index one_title",
        f"{EARLIER} CREATE UNIQUE INDEX one_title ON tasks (user_id, title)",
    ),
    ("has the index ix_tasks_user_id", earlier("ON tasks (user_id)", "ON tasks (user_id, title)")),
    (
        "has the constraint tasks_user_id_fkey",
        "CREATE TABLE users (id varchar(255) PRIMARY KEY);"
        + earlier("user_id VARCHAR(255)", "user_id VARCHAR(255) REFERENCES users"),
    ),
    (
        "has the constraint parts_task_fkey, which refers to it",
        f"{EARLIER} CREATE TABLE parts (task uuid REFERENCES tasks)",
    ),
    (
        "has the trigger stamp",
        f"{EARLIER} CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER stamp BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION f()",
    ),
    (
        "has the rule nothing",
        f"{EARLIER} CREATE RULE nothing AS ON DELETE TO tasks DO INSTEAD NOTHING",
    ),
    ("has row security", f"{EARLIER} ALTER TABLE tasks ENABLE ROW LEVEL SECURITY"),
    (
        "has the table more_tasks, which inherits from it",
        f"{EARLIER} CREATE TABLE more_tasks () INHERITS (tasks)",
    ),
    (
        "has rows that a crash deletes (it is UNLOGGED)",
        earlier("CREATE TABLE", "CREATE UNLOGGED TABLE"),
    ),
    ("has the type a_task", TYPED),
    ("is a view", "CREATE VIEW tasks AS SELECT 1 AS id"),
    ("is a materialized view", "CREATE MATERIALIZED VIEW tasks AS SELECT 1 AS id"),
    ("is a partitioned table", "CREATE TABLE tasks (id uuid) PARTITION BY HASH (id)"),
    ("is a sequence", "CREATE SEQUENCE tasks"),
    ("is a type", "CREATE TYPE tasks AS (id uuid)"),
    ("is a type", "CREATE TYPE tasks AS ENUM ('a')"),
    (
        "is a foreign table",
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        "CREATE FOREIGN TABLE tasks (id uuid) SERVER s",
    ),
]


@pytest.mark.parametrize(("misfit", "sql"), OTHERS)
def test_another_programs_table_tasks_keeps_every_byte(
    without_tables: str, misfit: str, sql: str
) -> None:
    asyncio.run(execute(without_tables, sql))

    assert refused(without_tables) == (
        f"Another program made tasks: tasks {misfit}. The service needs a schema of its own, with "
        "ALTER ROLE … SET search_path, or a database of its own"
    )


@pytest.mark.parametrize("name", ["feeds", "changes", "idempotency_keys", "task_priority"])
@pytest.mark.parametrize("kind", ["TABLE {} (id int)", "VIEW {} AS SELECT 1", "SEQUENCE {}"])
def test_another_programs_table_with_a_name_of_our_tables_stays_unchanged(
    without_tables: str, name: str, kind: str
) -> None:
    asyncio.run(execute(without_tables, f"CREATE {kind.format(name)}"))

    assert f"Another program made {name}: {name} is a" in refused(without_tables)


IN_THE_WAY = {
    "CREATE TABLE todos (user_id text); CREATE INDEX ix_tasks_user_id ON todos (user_id)": (
        'relation "ix_tasks_user_id" already exists'
    ),
    f"{EARLIER} ALTER TABLE tasks RENAME TO old_tasks": "already exists",
    "CREATE SEQUENCE ix_tasks_user_id": 'relation "ix_tasks_user_id" already exists',
    "CREATE TABLE todos (user_id text CONSTRAINT tasks_pkey PRIMARY KEY)": "tasks_pkey",
    "CREATE FUNCTION log_changes() RETURNS int LANGUAGE sql AS 'SELECT 1'": "log_changes",
    "CREATE FUNCTION members_fit(jsonb, jsonb, boolean) RETURNS int LANGUAGE sql AS 'SELECT 1'": (
        "members_fit"
    ),
    f"{EARLIER} CREATE VIEW of_a_day AS SELECT created_at FROM tasks": "on view of_a_day",
    f"{EARLIER} CREATE TABLE copies (task tasks)": 'column "copies.task" uses its row type',
}


@pytest.mark.parametrize(("sql", "what"), IN_THE_WAY.items())
def test_the_error_names_what_is_in_the_way_of_our_tables(
    without_tables: str, sql: str, what: str
) -> None:
    asyncio.run(execute(without_tables, sql))

    said = refused(without_tables)

    assert said.startswith("The service cannot upgrade the tables, and has changed nothing: ")
    assert what in said
    assert said.endswith(
        ". Remove the cause, or give the service a schema of its own, with "
        "ALTER ROLE … SET search_path, or a database of its own"
    )


SAME = {
    "the same": EARLIER,
    "text": earlier("description VARCHAR", "description TEXT"),
    "a longer varchar": earlier("description VARCHAR", "description VARCHAR(2000)"),
    "another order": earlier(
        "title VARCHAR(500) NOT NULL,\n    description VARCHAR,",
        "description VARCHAR,\n    title VARCHAR(500) NOT NULL,",
    ),
    "without its index": EARLIER.partition("CREATE INDEX")[0],
    "with one more index": f"{EARLIER} CREATE INDEX by_title ON tasks (title)",
    "another name of the key": earlier("PRIMARY KEY", "CONSTRAINT pk_tasks PRIMARY KEY"),
}


@pytest.mark.parametrize("sql", SAME.values(), ids=SAME)
def test_the_earlier_table_is_taken_over(without_tables: str, sql: str) -> None:
    asyncio.run(execute(without_tables, sql))

    asyncio.run(upgraded(without_tables))


def test_the_service_works_in_another_schema_than_another_programs_table(
    empty_database: str, tmp_path: Path
) -> None:
    """The service starts in another schema, beside the tables of the other program."""
    asyncio.run(execute(empty_database, f"{INTEGER_IDS}; CREATE SCHEMA app"))
    name = empty_database.partition("?")[0].rpartition("/")[2]
    asyncio.run(execute(empty_database, f"ALTER DATABASE {name} SET search_path = app, public"))

    for log in ("first", "second"):
        with serving(tmp_path / log, DATABASE_URL=empty_database) as server, server.client() as api:
            assert create(api, log) in listed(api, log)
    asyncio.run(execute(empty_database, "INSERT INTO public.tasks VALUES (1, 'ada', 'Buy milk')"))


# The version table


AT = f"UPDATE {VERSION_TABLE} SET version_num = '{{}}'"
BAD_VERSIONS = ["", "abc", "zzz", "0008", "0003_unknown", "ae1027a6acf5", "0008-x", "٠٠٠٨_x"]
BAD_VERSIONS += [f"{HEAD[:4]}_unknown"]


@pytest.mark.parametrize("version", BAD_VERSIONS)
def test_a_version_that_is_no_revision_is_refused(own_database: str, version: str) -> None:
    asyncio.run(execute(own_database, f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))

    assert f"{VERSION_TABLE} has {version!r} instead of one revision such as {HEAD}" in refused(
        own_database
    )


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("DELETE FROM task_api_version", "has nothing instead of one revision"),
        ("INSERT INTO task_api_version VALUES ('0001_earlier_table')", "has '0"),
        ("DROP TABLE task_api_version; CREATE TABLE task_api_version (id int)", "column id that"),
        ("DROP TABLE task_api_version; CREATE VIEW task_api_version AS SELECT 1", "is a view"),
        ("ALTER TABLE task_api_version ALTER version_num TYPE text", "version_num of type text"),
        (
            "ALTER TABLE task_api_version DROP CONSTRAINT task_api_version_pkc",
            "task_api_version has no primary key instead of PRIMARY KEY (version_num)",
        ),
        (
            "ALTER TABLE task_api_version ADD colour text",
            "a column colour that the service does not know",
        ),
        ("DROP TABLE tasks", "tasks is missing"),
        ("DROP TABLE tasks; CREATE TYPE tasks AS (id int)", "tasks is a type"),
        ("DROP TABLE feeds; CREATE TYPE feeds AS ENUM ('a')", "feeds is a type"),
        ("DROP TABLE feeds; CREATE VIEW feeds AS SELECT '' AS user_id, 1 AS seq", "is a view"),
        ("DROP FUNCTION feed_epoch", "the function feed_epoch() is missing"),
        ("DROP FUNCTION merge_members", "the function merge_members(jsonb,jsonb,boolean) is miss"),
        (f"{AT.format('0001_earlier_table')}; DROP TABLE tasks", "tasks is missing"),
        (f"{AT.format('0010_all_day')}; DROP TABLE tasks", "tasks is missing"),
        (f"{AT.format('0008_any_writer')}; DROP TABLE feeds, personal_tokens", "feeds is missing"),
        ("ALTER TABLE tasks DROP title", "tasks has no column title"),
        ("ALTER TABLE idempotency_keys RENAME TO k", "idempotency_keys is missing"),
    ],
)
def test_tables_that_do_not_go_together_are_refused(
    own_database: str, sql: str, found: str
) -> None:
    asyncio.run(execute(own_database, sql))

    assert found in refused(own_database)


@pytest.mark.parametrize("version", ["9999_newer", "0099_x"])
def test_a_newer_release_may_run_beside_this_release(own_database: str, version: str) -> None:
    asyncio.run(execute(own_database, f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))

    asyncio.run(upgraded(own_database))


def test_a_table_that_hides_our_table_is_refused(own_database: str) -> None:
    name = own_database.partition("?")[0].rpartition("/")[2]
    asyncio.run(execute(own_database, "CREATE SCHEMA app; CREATE TABLE app.tasks (id int)"))
    asyncio.run(execute(own_database, f"ALTER DATABASE {name} SET search_path = app, public"))

    assert refused(own_database) == (
        "Another table hides the service's table tasks: put the schema of tasks first in the "
        "search_path app, public, or use another database"
    )


@pytest.mark.parametrize("schema", ["app", 'my "own" tables'])
def test_functions_that_would_write_to_another_schema_are_refused(
    own_database: str, schema: str
) -> None:
    """The functions name the schema in which they were made."""
    name = own_database.partition("?")[0].rpartition("/")[2]
    quoted = '"' + schema.replace('"', '""') + '"'
    asyncio.run(execute(own_database, f"ALTER SCHEMA public RENAME TO {quoted}"))
    asyncio.run(execute(own_database, f"ALTER DATABASE {name} SET search_path = {quoted}"))

    assert refused(own_database) == (
        f"The function keep_counting() was made for another schema than {schema}, so writes would "
        "fail: give the schema its earlier name, or let the service make new tables in an empty "
        "schema and copy the rows there with pg_dump --data-only"
    )


# The database and the role


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text_is_refused(
    postgres: str, tmp_path: Path, encoding: str
) -> None:
    name = f"test_{uuid4().hex}"
    asyncio.run(
        execute(
            postgres,
            f"CREATE DATABASE {name} ENCODING {encoding} LOCALE 'C' TEMPLATE template0",
        )
    )
    with started(tmp_path / "log", DATABASE_URL=beside(postgres, name)) as server:
        assert server.process.wait(timeout=30) == 3

    said = f"The database {name} has the encoding {encoding}, which cannot hold every text: "
    assert f"{said}create a database WITH ENCODING" in sentence(server.log)
    assert "ENCODING 'UTF8'" in sentence(server.log)
    assert "Traceback" not in server.log
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def role(url: str, *grants: str, name: str = "") -> Iterator[str]:
    """The connection string of a new role, which may use the schema and gets these grants."""
    name = name or f"role_{uuid4().hex}"
    asyncio.run(execute(url, f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA public TO {name}"))
    try:
        for grant in grants:
            asyncio.run(execute(url, f"GRANT {grant} TO {name}"))
        yield url.replace("postgres:@", f"{name}:@", 1)
    finally:
        asyncio.run(execute(url, f"DROP OWNED BY {name}; DROP ROLE {name}"))


def grants_without(table: str = "", right: str = "") -> list[str]:
    rights = {
        "tasks": ["SELECT", "INSERT", "UPDATE", "DELETE"],
        "feeds": ["SELECT", "INSERT", "UPDATE"],
        "changes": ["SELECT", "INSERT", "DELETE"],
        "idempotency_keys": ["SELECT", "INSERT", "UPDATE", "DELETE"],
        "personal_tokens": ["SELECT", "INSERT", "UPDATE", "DELETE"],
        VERSION_TABLE: ["SELECT"],
    }
    if table:
        rights[table].remove(right)
    return [f"{', '.join(names)} ON {name}" for name, names in rights.items() if names]


@pytest.mark.parametrize(
    ("table", "right"),
    [
        *(("tasks", right) for right in ("SELECT", "INSERT", "UPDATE", "DELETE")),
        *(("feeds", right) for right in ("SELECT", "INSERT", "UPDATE")),
        *(("changes", right) for right in ("SELECT", "INSERT", "DELETE")),
        *(("idempotency_keys", right) for right in ("SELECT", "INSERT", "UPDATE", "DELETE")),
        *(("personal_tokens", right) for right in ("SELECT", "INSERT", "UPDATE", "DELETE")),
        (VERSION_TABLE, "SELECT"),
    ],
)
def test_a_role_that_lacks_a_right_is_refused(with_tables: str, table: str, right: str) -> None:
    with (
        role(with_tables, *grants_without(table, right)) as url,
        pytest.raises(CannotStart, match=f"lacks the right {right} on the table {table}: run"),
    ):
        asyncio.run(upgraded(url))


def test_a_role_with_only_the_needed_rights_serves(own_database: str, tmp_path: Path) -> None:
    with role(own_database, *grants_without()) as url:
        with serving(tmp_path / "log", DATABASE_URL=url) as server, server.client() as api:
            task = create(api, "ada")
            answer = api.post(
                "/api/ada/tasks", json={"title": "a"}, headers={"Idempotency-Key": "a"}
            )
            assert answer.status_code == 201
            assert api.get("/api/ada/tasks/changes").status_code == 200
            assert api.delete(f"/api/ada/tasks/{task['id']}").status_code == 200
        assert "WARNING" not in server.log


def test_the_error_names_the_right_that_a_role_needs_to_create_tables(without_tables: str) -> None:
    with (
        role(without_tables) as url,
        pytest.raises(CannotStart, match="run GRANT CREATE ON SCHEMA public TO role_"),
    ):
        asyncio.run(upgraded(url))


def test_a_role_that_does_not_own_the_tables_cannot_upgrade_the_tables(empty_database: str) -> None:
    asyncio.run(execute(empty_database, EARLIER))
    with (
        role(empty_database, "CREATE ON SCHEMA public", "ALL ON tasks") as url,
        pytest.raises(
            CannotStart, match="start this release once as the role postgres, which owns"
        ),
    ):
        asyncio.run(upgraded(url))


def test_the_error_names_the_search_path_of_a_role_without_a_schema(empty_database: str) -> None:
    name = empty_database.partition("?")[0].rpartition("/")[2]
    asyncio.run(execute(empty_database, f"ALTER DATABASE {name} SET search_path = nowhere"))

    assert refused(empty_database) == (
        "The role postgres finds no schema for the tables in its search_path (nowhere): create the "
        "schema, grant the role USAGE on the schema, or change the search_path"
    )


@pytest.mark.parametrize("schema", ["pg_catalog", "pg_temp", "information_schema"])
def test_a_schema_that_is_postgresqls_own_is_refused(empty_database: str, schema: str) -> None:
    name = empty_database.partition("?")[0].rpartition("/")[2]
    asyncio.run(execute(empty_database, f"ALTER DATABASE {name} SET search_path = {schema}"))

    assert f"finds no schema for the tables in its search_path ({schema}): create" in refused(
        empty_database
    )


def test_names_are_recognized_in_a_database_that_quotes_every_name(
    empty_database: str,
) -> None:
    asyncio.run(execute(empty_database, EARLIER))
    name = empty_database.partition("?")[0].rpartition("/")[2]
    asyncio.run(execute(empty_database, f"ALTER DATABASE {name} SET quote_all_identifiers = on"))

    for _ in range(2):
        asyncio.run(upgraded(empty_database))


def test_rows_that_row_security_hides_are_refused(own_database: str) -> None:
    asyncio.run(execute(own_database, "ALTER TABLE tasks ENABLE ROW LEVEL SECURITY"))
    with (
        role(own_database, *grants_without()) as url,
        pytest.raises(CannotStart, match="Row security hides every row of the table tasks"),
    ):
        asyncio.run(upgraded(url))
    asyncio.run(upgraded(own_database))


@pytest.mark.parametrize(
    ("policies", "hidden"),
    [
        ("TO postgres USING (true)", "SELECT"),
        ("AS RESTRICTIVE USING (true)", "SELECT"),
        ("FOR SELECT USING (true)", "INSERT"),
        (
            "FOR SELECT USING (true); CREATE POLICY b ON tasks FOR INSERT WITH CHECK (true)",
            "UPDATE",
        ),
        ("USING (true)", None),
        ("TO {} USING (true)", None),
    ],
)
def test_a_policy_for_the_role_lets_the_service_start(
    own_database: str, policies: str, hidden: str | None
) -> None:
    with role(own_database, *grants_without()) as url:
        name = url.partition("//")[2].partition(":")[0]
        sql = f"ALTER TABLE tasks ENABLE ROW LEVEL SECURITY; CREATE POLICY a ON tasks {policies}"
        asyncio.run(execute(own_database, sql.format(name)))
        expected = (
            nullcontext()
            if hidden is None
            else pytest.raises(CannotStart, match=f"because no policy allows {hidden}: ")
        )
        with expected:
            asyncio.run(upgraded(url))


def test_a_right_that_is_taken_while_the_service_runs_is_a_503(
    own_database: str, tmp_path: Path
) -> None:
    with (
        role(own_database, *grants_without()) as url,
        serving(tmp_path / "log", DATABASE_URL=url) as server,
        server.client() as api,
    ):
        name = url.partition("//")[2].partition(":")[0]
        asyncio.run(execute(own_database, f"REVOKE UPDATE ON feeds FROM {name}"))
        batch = {"operations": [{"op": "create", "task": {"title": "a"}}]}

        assert_problem(api.post("/api/ada/tasks", json={"title": "a"}), 503)
        assert_problem(api.post("/api/ada/tasks/batch", json=batch), 503)
        assert api.get("/api/ada/tasks").json() == []
        assert "permission denied for table feeds" in server.log
        assert "Traceback" not in server.log


@pytest.mark.parametrize(
    "function",
    [
        "feed_epoch()",
        "change_members(jsonb,jsonb,boolean,integer)",
        "members_fit(jsonb,jsonb,boolean)",
        "merge_members(jsonb,jsonb,boolean)",
    ],
)
def test_a_function_that_a_role_may_not_call_is_named(own_database: str, function: str) -> None:
    asyncio.run(execute(own_database, f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC"))
    with (
        role(own_database, *grants_without()) as url,
        pytest.raises(CannotStart, match=re.escape(f"run GRANT EXECUTE ON FUNCTION {function} TO")),
    ):
        asyncio.run(upgraded(url))


# Exposure


async def readers(url: str) -> set[tuple[str, str]]:
    """Return each role with a right on a table of another role, with the table's name."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT DISTINCT relname, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END"
        " AS grantee FROM pg_class, aclexplode(relacl) WHERE grantee <> relowner"
        " AND relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    await connection.close()
    return {(row["grantee"], row["relname"]) for row in rows}


@contextmanager
def roles_of_a_host(url: str) -> Iterator[str]:
    """Make the roles that hosts make, and another role. Default privileges give them every right.

    Give the name of the other role.
    """
    other = f"role_{uuid4().hex}"
    names = ["anon", "anonymous", "authenticated", other]
    for name in names:
        asyncio.run(execute(url, f"CREATE ROLE {name}"))
    asyncio.run(
        execute(
            url,
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {', '.join(names)};"
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;"
            f"GRANT USAGE ON SCHEMA public TO {', '.join(names)}",
        )
    )
    try:
        yield other
    finally:
        for name in names:
            asyncio.run(execute(url, f"DROP OWNED BY {name}; DROP ROLE {name}"))


TABLES = {"tasks", "feeds", "changes", "idempotency_keys", "personal_tokens", VERSION_TABLE}


def test_default_privileges_give_no_role_rights_on_a_new_table(
    empty_database: str,
) -> None:
    with roles_of_a_host(empty_database):
        asyncio.run(upgraded(empty_database))

        assert asyncio.run(readers(empty_database)) == set()


def test_the_upgrade_takes_rights_from_everyone_and_no_rights_from_other_roles(
    empty_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with roles_of_a_host(empty_database) as other:
        asyncio.run(execute(empty_database, EARLIER))
        asyncio.run(execute(empty_database, "GRANT SELECT (title) ON tasks TO anon"))
        asyncio.run(upgraded(empty_database))

        assert asyncio.run(readers(empty_database)) == {(other, "tasks")}
        assert "can read" not in caplog.text

        for sql in (
            f"GRANT SELECT ON feeds TO {other}",
            "GRANT SELECT (title) ON tasks TO anon",
            "GRANT SELECT ON tasks, feeds TO PUBLIC",
        ):
            asyncio.run(execute(empty_database, sql))
        asyncio.run(upgraded(empty_database))

        assert (other, "feeds") in asyncio.run(readers(empty_database))
        assert "The role anon can read tasks, feeds: run REVOKE ALL ON tasks, feeds" in caplog.text
        assert "The role PUBLIC can read tasks, feeds" in caplog.text
        assert other not in caplog.text
