"""PostgreSQL, from the connection string to the bytes of an answer, for any tables.

Guarantees: a statement is one round trip; nothing is applied twice; a database that cannot be
reached raises DatabaseUnavailable in time. No other package knows how statements run.
"""
