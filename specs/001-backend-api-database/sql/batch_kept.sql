INSERT INTO idempotency_keys (user_id, key, fingerprint, created_at)
VALUES (CAST($1 AS varchar),
        CAST($2 AS varchar),
        CAST($3 AS varchar),
        CAST($4 AS timestamp with time zone))
ON CONFLICT (user_id, key)
   DO UPDATE
     SET fingerprint = excluded.fingerprint,
         task_id = excluded.task_id,
         created_at = excluded.created_at,
         answer = excluded.answer
     WHERE idempotency_keys.created_at < CAST($5 AS timestamp with time zone)
RETURNING idempotency_keys.key
