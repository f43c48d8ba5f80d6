SELECT pg_advisory_xact_lock(hashtextextended(CAST($1 AS varchar), 0)) AS pg_advisory_xact_lock_1
