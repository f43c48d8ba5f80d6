WITH cleared AS (
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
       ),
     made AS (
         SELECT idempotency_keys.user_id AS user_id,
                idempotency_keys.task_id AS id,
                idempotency_keys.created_at AS created_at
         FROM idempotency_keys
         WHERE idempotency_keys.user_id = CAST($1 AS varchar)
           AND idempotency_keys.key = CAST($3 AS varchar)
       ),
     row AS (
         SELECT made.id AS id,
                made.user_id AS user_id,
                CAST(CAST($4 AS varchar) AS varchar(500)) AS title,
                CAST(CAST($5 AS varchar) AS text) AS description,
                CAST(CAST($6 AS boolean) AS boolean) AS completed,
                CAST(CAST(CAST($7 AS varchar) AS task_priority) AS task_priority) AS priority,
                CAST(CAST($8 AS text[]) AS text[]) AS tags,
                CAST(CAST($9 AS boolean) AS boolean) AS all_day,
                CAST(CAST($10 AS timestamp with time zone) AS timestamp with time zone) AS due_date,
                made.created_at AS created_at,
                made.created_at AS updated_at
         FROM made
       )
  SELECT row_to_json(row) AS row_to_json_1
  FROM row
