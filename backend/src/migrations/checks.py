"""What the database has to be before the service touches it, and before it serves.

`FACTS` describes the database in one statement. Every check takes the facts and raises CannotStart
with a sentence that says what does not fit and what to do.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

from src.framework.exceptions import CannotStart

Facts: TypeAlias = dict[str, Any]

VERSION_TABLE = "task_api_version"

MADE_BY = {
    "tasks": 1,
    "idempotency_keys": 3,
    "task_priority": 4,
    "feeds": 6,
    "changes": 6,
    "personal_tokens": 9,
}
"""The number of the revision that makes a table or type."""

RIGHTS = {
    "tasks": "SELECT INSERT UPDATE DELETE",
    "feeds": "SELECT INSERT UPDATE",
    "changes": "SELECT INSERT DELETE",
    "idempotency_keys": "SELECT INSERT UPDATE DELETE",
    "personal_tokens": "SELECT INSERT UPDATE DELETE",
    VERSION_TABLE: "SELECT",
}

EARLIER = {
    "id": ["uuid"],
    "user_id": ["character varying(255)"],
    "title": ["character varying(500)"],
    "description": ["character varying", "text"],
    "completed": ["boolean"],
    "created_at": ["timestamp without time zone"],
    "updated_at": ["timestamp without time zone"],
}
"""The columns of the table that the earlier version made, as in migration 0001."""

TABLES = {"r", "p"}

FACTS = (Path(__file__).parent / "facts.sql").read_text()

KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "p": "a partitioned table",
    "f": "a foreign table",
    "S": "a sequence",
    "i": "an index",
    "c": "a type",
    "type": "a type",
}

WAYS_ON = "a schema of its own, with ALTER ROLE … SET search_path, or a database of its own"


def check_database(facts: Facts) -> None:
    """Refuse a database that cannot hold every text, and one without a schema for our tables."""
    if facts["encoding"] != "UTF8":
        raise CannotStart(
            f"The database {facts['database']} has the encoding {facts['encoding']}, which cannot "
            "hold every text: create a database WITH ENCODING 'UTF8' TEMPLATE template0"
        )
    if facts["schema"] is None or re.match("pg_|information_schema$", facts["schema"]):
        raise CannotStart(
            f"The role {facts['role']} finds no schema for the tables in its search_path "
            f"({facts['search_path'] or 'empty'}): create the schema, grant the role USAGE on the "
            "schema, or change the search_path"
        )


def check_version_table(facts: Facts) -> None:
    """Refuse a version table that is another program's, or that we may not read."""
    table = facts["relations"].get(VERSION_TABLE)
    if table is None:
        return
    column = {"version_num": ["character varying(32)"]}
    misfit = _misfit(table, column, "PRIMARY KEY (version_num)")
    if misfit:
        raise _not_ours(VERSION_TABLE, misfit)
    if "SELECT" not in table["rights"] or "SELECT" in table["hidden"]:
        raise _without_right(facts, "SELECT", VERSION_TABLE)


def revision_number(versions: list[str], known: Iterable[str]) -> int:
    """Return the number of the revision in the version table, which may be a newer release's.

    Raises CannotStart unless the table has one revision of the form 0008_….
    """
    known = list(known)
    [version] = versions if len(versions) == 1 else [""]
    newest = max(int(revision[:4]) for revision in known)
    if re.fullmatch(r"[0-9]{4}_\w+", version, re.ASCII) and (
        version in known or int(version[:4]) > newest
    ):
        return int(version[:4])
    found = ", ".join(map(repr, versions)) or "nothing"
    raise CannotStart(
        f"The table {VERSION_TABLE} has {found} instead of one revision such as {max(known)}: "
        "restore that row, or use another database"
    )


def check_before_upgrade(facts: Facts, revision: int) -> None:
    """Refuse to change tables that are another program's, or that belong to another role."""
    relations = facts["relations"]
    for name, made_by in MADE_BY.items():
        found = relations.get(name)
        if found is None and made_by <= revision:
            raise _is_missing(name)
        if found is None or made_by <= revision:
            continue
        if name != "tasks":
            raise _not_ours(name, f"is {KINDS.get(found['kind'], 'a table')}")
        if misfit := _misfit(found, EARLIER, "PRIMARY KEY (id)"):
            raise _not_ours(name, misfit)
    for name, found in relations.items():
        if not found.get("is_ours", True):
            raise CannotStart(
                f"To upgrade the table {name}, start this release once as the role "
                f"{found['owner']}, which owns {name}"
            )
    if not facts["may_create"]:
        schema, role = facts["schema"], facts["role"]
        raise CannotStart(
            f"The role {role} may not create tables in the schema {schema}: run GRANT CREATE ON "
            f"SCHEMA {schema} TO {role}, or start this release once as a role with that right"
        )


def check_before_serving(facts: Facts, columns: dict[str, list[str]]) -> None:
    """Refuse hidden tables, tables without a column of ours, and a role that may not use them."""
    for name, wanted in columns.items():
        found = facts["relations"].get(name)
        if found is None:
            raise _is_missing(name)
        if found["kind"] not in TABLES:
            raise _is_damaged(name, f"is {KINDS.get(found['kind'], 'no table')}")
        if not found["is_found"]:
            raise CannotStart(
                f"Another table hides the service's table {name}: put the schema of {name} first "
                f"in the search_path {facts['search_path']}, or use another database"
            )
        absent = [column for column in wanted if column not in found["columns"]]
        if absent:
            raise _is_damaged(name, f"has no column {absent[0]}")
    for name, rights in RIGHTS.items():
        found = facts["relations"][name]
        for right in rights.split():
            if right not in found["rights"]:
                raise _without_right(facts, right, name)
            if right in found["hidden"]:
                raise CannotStart(
                    f"Row security hides every row of the table {name} from the role "
                    f"{facts['role']}, because no policy allows {right}: start the service as the "
                    f"table's owner {found['owner']}, or make a policy for the role"
                )
    _check_functions(facts)


def exposed(facts: Facts) -> list[str]:
    """Return a sentence for each role that anyone can have and that may read our tables."""
    relations = {name: facts["relations"].get(name) or {} for name in RIGHTS}
    sentences = []
    for role in sorted({role for found in relations.values() for role in found.get("open_to", [])}):
        readable = [name for name, found in relations.items() if role in found.get("open_to", [])]
        if role != facts["role"]:
            tables, name = ", ".join(readable), role.upper() if role == "public" else role
            sentences.append(
                f"The role {name} can read {tables}: run REVOKE ALL ON {tables} FROM {name}, "
                "unless you granted this right on purpose"
            )
    return sentences


def failed(message: str, detail: str | None) -> CannotStart:
    """PostgreSQL refused a statement of a migration, and has undone the others."""
    why = f"{message} ({' '.join(detail.split())})" if detail else message
    return CannotStart(
        f"The service cannot upgrade the tables, and has changed nothing: {why}. "
        f"Remove the cause, or give the service {WAYS_ON}"
    )


def _check_functions(facts: Facts) -> None:
    for function in facts["moved"] or ():
        raise CannotStart(
            f"The function {function} was made for another schema than {facts['schema']}, so "
            "writes would fail: give the schema its earlier name, or let the service make new "
            "tables in an empty schema and copy the rows there with pg_dump --data-only"
        )
    for function, may_call in facts["may_call"].items():
        if may_call is None:
            raise _is_missing(f"the function {function}")
        if not may_call:
            raise CannotStart(
                f"The role {facts['role']} may not call {function}: run GRANT EXECUTE ON FUNCTION "
                f"{function} TO {facts['role']}"
            )


def _misfit(table: Facts, columns: dict[str, list[str]], key: str) -> str | None:
    """Say how a table differs from a table with these columns and this key, if at all."""
    if table["kind"] != "r":
        return f"is {KINDS.get(table['kind'], 'no table')}"
    absent = [f"has no column {name}" for name in columns if name not in table["columns"]]
    other = [
        f"has a column {name} {what}"
        for name, column in table["columns"].items()
        if (what := _column_misfit(name, column, columns.get(name)))
    ]
    wrong_key = [f"has {table['key'] or 'no primary key'} instead of {key}"]
    more = [f"has {each}" for each in table["more"]]
    misfits = [*other, *absent, *(wrong_key if table["key"] != key else []), *more]
    return misfits[0] if misfits else None


def _column_misfit(name: str, column: Facts, types: list[str] | None) -> str | None:
    if types is None:
        return "that the service does not know"
    kind = column["type"]
    if kind not in types and not _is_long_description(name, kind):
        return f"of type {kind} instead of {types[0]}"
    if column["is_required"] == (name == "description"):
        return f"{'with' if column['is_required'] else 'without'} NOT NULL"
    if column["has_default"]:
        return "with a default"
    return "with a collation" if column["has_collation"] else None


def _is_long_description(name: str, kind: str) -> bool:
    length = re.fullmatch(r"character varying\(([0-9]+)\)", kind)
    return name == "description" and length is not None and int(length[1]) > 500


def _not_ours(name: str, misfit: str) -> CannotStart:
    return CannotStart(f"Another program made {name}: {name} {misfit}. The service needs {WAYS_ON}")


def _is_damaged(name: str, misfit: str) -> CannotStart:
    return CannotStart(
        f"The service made {name}, but now {name} {misfit}: restore it from a backup, or use "
        "another schema (by the search_path) or another database"
    )


def _is_missing(name: str) -> CannotStart:
    return _is_damaged(name, "is missing")


def _without_right(facts: Facts, right: str, name: str) -> CannotStart:
    return CannotStart(
        f"The role {facts['role']} lacks the right {right} on the table {name}: "
        f"run GRANT {RIGHTS[name].replace(' ', ', ')} ON {name} TO {facts['role']}"
    )
