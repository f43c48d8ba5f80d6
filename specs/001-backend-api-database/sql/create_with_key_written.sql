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
                CAST(CAST(CAST($9 AS varchar) AS jsonb) AS jsonb) AS further,
                CAST(CAST($10 AS boolean) AS boolean) AS all_day,
                CASE
                  WHEN CAST(CAST($6 AS boolean) AS boolean)
                    THEN LEAST(CAST(CAST($11 AS timestamp with time zone) AS timestamp with time zone),
                               made.created_at)
                END AS completed_at,
                CAST(CAST($12 AS timestamp with time zone) AS timestamp with time zone) AS due_date,
                LEAST(CAST(CAST($13 AS timestamp with time zone) AS timestamp with time zone),
                      made.created_at) AS created_at,
                made.created_at AS updated_at
         FROM made
       )
  SELECT CASE
           WHEN jsonb_typeof(row.further) = 'object'
             THEN CAST(concat_ws(',',
                                 "left"(CAST(row_to_json(own) AS text), -1),
                                 NULLIF("left"(substr(CAST(row.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[]) AS text),
                                                      2),
                                               -1),
                                        '')) || '}' AS pg_catalog.json)
           ELSE row_to_json(own)
         END AS anon_1
  FROM row
       INNER JOIN LATERAL (SELECT row.id AS id,
                                  row.user_id AS user_id,
                                  row.title AS title,
                                  row.description AS description,
                                  row.completed AS completed,
                                  row.priority AS priority,
                                  row.tags AS tags,
                                  row.all_day AS all_day,
                                  row.completed_at AS completed_at,
                                  row.due_date AS due_date,
                                  row.created_at AS created_at,
                                  row.updated_at AS updated_at) AS own ON TRUE
