SELECT convert_to(idempotency_keys.user_id, 'UTF8') AS convert_to_1
FROM idempotency_keys
WHERE idempotency_keys.user_id > CAST($1 AS varchar)
  AND idempotency_keys.created_at < CAST($2 AS timestamp with time zone)
ORDER BY idempotency_keys.user_id
LIMIT 100
