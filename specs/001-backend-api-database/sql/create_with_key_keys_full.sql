SELECT to_json(CAST(ceil(EXTRACT(EPOCH FROM (SELECT min(idempotency_keys.created_at) AS min_1
                                             FROM idempotency_keys
                                             WHERE idempotency_keys.user_id = CAST($1 AS varchar)
                                               AND idempotency_keys.created_at >= CAST($2 AS timestamp with time zone)) - CAST($2 AS timestamp with time zone))) AS integer)) AS to_json_1
WHERE EXISTS (SELECT idempotency_keys.user_id
              FROM idempotency_keys
              WHERE idempotency_keys.user_id = CAST($1 AS varchar)
                AND idempotency_keys.created_at >= CAST($2 AS timestamp with time zone)
              LIMIT 1
              OFFSET 9999)
  AND NOT EXISTS (SELECT idempotency_keys.key
                  FROM idempotency_keys
                  WHERE idempotency_keys.user_id = CAST($1 AS varchar)
                    AND idempotency_keys.key = CAST($3 AS varchar)
                    AND idempotency_keys.created_at >= CAST($2 AS timestamp with time zone))
