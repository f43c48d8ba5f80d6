"""PostgreSQL as this service uses it, whatever its tables: one statement, one round trip."""
