INSERT INTO idempotency_keys (user_id, key, fingerprint, task_id, created_at)
VALUES (CAST($1 AS varchar),
        CAST($2 AS varchar),
        CAST($3 AS varchar),
        CAST($4 AS uuid),
        CAST($5 AS timestamp with time zone))
ON CONFLICT (user_id, key)
   DO UPDATE
     SET fingerprint = CASE
                         WHEN idempotency_keys.created_at < CAST($6 AS timestamp with time zone)
                           THEN excluded.fingerprint
                         ELSE idempotency_keys.fingerprint
                       END,
         task_id = CASE
                     WHEN idempotency_keys.created_at < CAST($6 AS timestamp with time zone)
                       THEN excluded.task_id
                     ELSE idempotency_keys.task_id
                   END,
         created_at = CASE
                        WHEN idempotency_keys.created_at < CAST($6 AS timestamp with time zone)
                          THEN excluded.created_at
                        ELSE idempotency_keys.created_at
                      END
RETURNING idempotency_keys.task_id AS id, idempotency_keys.fingerprint
