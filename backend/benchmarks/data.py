"""The rows with which every server is measured. PostgreSQL itself makes the rows."""

from urllib.parse import urlsplit

import asyncpg

SMALL_USERS = 150

# A row's id has the row's number, and `user` computes the row's owner from this number.
_INSERT = """
INSERT INTO tasks
SELECT id, user_id, 'Buy milk and bread ' || row, 'Two litres, whole, and rye', false, at, at
FROM (
    SELECT
        ('019aa000-0000-7000-8000-' || lpad(to_hex(row), 12, '0'))::uuid AS id,
        {user} AS user_id,
        row,
        '2026-01-01 00:00:00.123456+00'::timestamptz + row * interval '1 ms' AS at
    FROM generate_series({first}::bigint, {last}::bigint) AS row
) AS rows
"""


async def database(url: str, name: str) -> str:
    """Create a database beside the one at `url`, and return its URL."""
    await run(url, f"CREATE DATABASE {name}")
    return urlsplit(url)._replace(path=f"/{name}").geturl()


async def fill(url: str) -> None:
    """Make 10,000 tasks: 150 users have 20 tasks, 20 users have 100, and 5 users have 1,000."""
    await run(
        url,
        _INSERT.format(user="'u' || row / 20", first=0, last=2_999),
        _INSERT.format(user="'h' || row / 100 % 20", first=10**10, last=10**10 + 1_999),
        _INSERT.format(user="'k' || row / 1000 % 5", first=10**11, last=10**11 + 4_999),
        "VACUUM ANALYZE tasks",
    )


async def grow(url: str, rows: int) -> int:
    """Fill the table up to this many rows, and return how many users have 20 tasks.

    Four of ten users have 20 tasks. The other users have 3 or 4 tasks.
    """
    large = rows * 8 // 10
    others = rows * 6 // 100
    await run(
        url,
        _INSERT.format(user="'u' || row / 20", first=SMALL_USERS * 20, last=large - 1),
        _INSERT.format(
            user=f"'s' || row % {others}", first=10**12, last=10**12 + rows - large - 7_001
        ),
    )
    return large // 20


async def give(url: str, user: str, rows: int) -> None:
    """Give one user this many tasks."""
    await run(url, _INSERT.format(user=f"'{user}'", first=10**9, last=10**9 + rows - 1))


async def settle(url: str, rows_to_delete: int = 0, owners: int = 1000) -> None:
    """Remove rows of earlier creates, add rows to delete, and let PostgreSQL finish its work."""
    await run(
        url,
        "DELETE FROM tasks WHERE user_id >= 'c' AND user_id < 'e'",
        _INSERT.format(user=f"'d' || row % {owners}", first=1, last=rows_to_delete),
        "VACUUM ANALYZE",
        "CHECKPOINT",
    )


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=3600)
    finally:
        await connection.close()
