UPDATE idempotency_keys
SET answer = CAST($1 AS pg_catalog.json)
WHERE idempotency_keys.user_id = CAST($2 AS varchar) AND idempotency_keys.key = CAST($3 AS varchar)
