DELETE FROM idempotency_keys
WHERE idempotency_keys.user_id = ANY(CAST($1 AS text[]))
  AND idempotency_keys.created_at < CAST($2 AS timestamp with time zone)
RETURNING 1
