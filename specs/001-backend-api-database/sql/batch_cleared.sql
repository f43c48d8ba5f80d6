DELETE FROM idempotency_keys
WHERE idempotency_keys.user_id = CAST($1 AS varchar)
  AND idempotency_keys.key = ANY(ARRAY(SELECT idempotency_keys.key
                                       FROM idempotency_keys
                                       WHERE idempotency_keys.user_id = CAST($1 AS varchar)
                                         AND idempotency_keys.created_at < CAST($2 AS timestamp with time zone)
                                         AND idempotency_keys.key <> CAST($3 AS varchar)
                                       LIMIT 10
                                       FOR UPDATE SKIP LOCKED))
RETURNING idempotency_keys.key
