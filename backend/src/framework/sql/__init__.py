"""PostgreSQL, from the connection string to the bytes of an answer, whatever the tables.

Guarantees: a statement is one round trip; nothing is applied twice; a database that cannot be
reached raises DatabaseUnavailable in time. Nothing else knows how statements run.
"""
