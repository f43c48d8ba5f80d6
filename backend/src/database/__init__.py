"""PostgreSQL, from the connection string to the bytes of an answer, whatever the tables.

It promises one statement and one round trip, that nothing is applied twice, and that a database
that cannot be reached is DatabaseUnavailable in time. It follows one rule: how statements run is
known here alone.
"""
