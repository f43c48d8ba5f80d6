WITH made AS (
         INSERT INTO idempotency_keys (user_id, key, fingerprint, created_at, task_id)
         SELECT CAST($11 AS varchar) AS anon_1,
                CAST($12 AS varchar) AS anon_2,
                CAST($13 AS varchar) AS anon_3,
                CAST($14 AS timestamp with time zone) AS anon_4,
                CAST($15 AS uuid) AS anon_5
         WHERE NOT EXISTS (SELECT idempotency_keys.user_id
                           FROM idempotency_keys
                           WHERE idempotency_keys.user_id = CAST($11 AS varchar)
                             AND idempotency_keys.created_at >= CAST($16 AS timestamp with time zone)
                           LIMIT 1
                           OFFSET 9999)
            OR EXISTS (SELECT idempotency_keys.key
                       FROM idempotency_keys
                       WHERE idempotency_keys.user_id = CAST($11 AS varchar)
                         AND idempotency_keys.key = CAST($12 AS varchar)
                         AND idempotency_keys.created_at >= CAST($16 AS timestamp with time zone))
         ON CONFLICT (user_id, key)
            DO UPDATE
              SET fingerprint = CASE
                                  WHEN idempotency_keys.created_at < CAST($16 AS timestamp with time zone)
                                    THEN excluded.fingerprint
                                  ELSE idempotency_keys.fingerprint
                                END,
                  task_id = CASE
                              WHEN idempotency_keys.created_at < CAST($16 AS timestamp with time zone)
                                THEN excluded.task_id
                              ELSE idempotency_keys.task_id
                            END,
                  created_at = CASE
                                 WHEN idempotency_keys.created_at < CAST($16 AS timestamp with time zone)
                                   THEN excluded.created_at
                                 ELSE idempotency_keys.created_at
                               END
         RETURNING idempotency_keys.user_id,
                   idempotency_keys.task_id AS id,
                   idempotency_keys.created_at,
                   idempotency_keys.fingerprint
       ),
     row AS (
         SELECT made.id AS id,
                made.user_id AS user_id,
                CAST(CAST($1 AS varchar) AS varchar(500)) AS title,
                CAST(CAST($2 AS varchar) AS text) AS description,
                CAST(CAST($3 AS boolean) AS boolean) AS completed,
                CAST(CAST(CAST($4 AS varchar) AS task_priority) AS task_priority) AS priority,
                CAST(CAST($5 AS text[]) AS text[]) AS tags,
                CAST(CAST(CAST($6 AS varchar) AS jsonb) AS jsonb) AS further,
                CAST(CAST($7 AS boolean) AS boolean) AS all_day,
                CASE
                  WHEN CAST(CAST($3 AS boolean) AS boolean)
                    THEN LEAST(CAST(CAST($8 AS timestamp with time zone) AS timestamp with time zone),
                               made.created_at)
                END AS completed_at,
                CAST(CAST($9 AS timestamp with time zone) AS timestamp with time zone) AS due_date,
                LEAST(CAST(CAST($10 AS timestamp with time zone) AS timestamp with time zone),
                      made.created_at) AS created_at,
                made.created_at AS updated_at
         FROM made
       ),
     created AS (
         INSERT INTO tasks (id,
                            user_id,
                            title,
                            description,
                            completed,
                            priority,
                            tags,
                            further,
                            all_day,
                            completed_at,
                            due_date,
                            created_at,
                            updated_at)
         SELECT row.id AS id,
                row.user_id AS user_id,
                row.title AS title,
                row.description AS description,
                row.completed AS completed,
                row.priority AS priority,
                row.tags AS tags,
                row.further AS further,
                row.all_day AS all_day,
                row.completed_at AS completed_at,
                row.due_date AS due_date,
                row.created_at AS created_at,
                row.updated_at AS updated_at
         FROM row
         WHERE row.id = CAST($15 AS uuid)
         ON CONFLICT DO NOTHING
         RETURNING tasks.id
       ),
     cleared AS (
         DELETE FROM idempotency_keys
         WHERE idempotency_keys.user_id = CAST($11 AS varchar)
           AND idempotency_keys.key = ANY(ARRAY(SELECT idempotency_keys.key
                                                FROM idempotency_keys
                                                WHERE idempotency_keys.user_id = CAST($11 AS varchar)
                                                  AND idempotency_keys.created_at < CAST($16 AS timestamp with time zone)
                                                  AND idempotency_keys.key <> CAST($12 AS varchar)
                                                LIMIT 10
                                                FOR UPDATE SKIP LOCKED))
         RETURNING idempotency_keys.key
       )
  SELECT CASE
           WHEN made.fingerprint = CAST($13 AS varchar)
             THEN CASE
                    WHEN jsonb_typeof(row.further) = 'object'
                      THEN CAST(concat_ws(',',
                                          "left"(CAST(row_to_json(own) AS text), -1),
                                          NULLIF("left"(substr(CAST(row.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[]) AS text),
                                                               2),
                                                        -1),
                                                 '')) || '}' AS pg_catalog.json)
                    ELSE row_to_json(own)
                  END
         END AS anon_6
  FROM made
       INNER JOIN (row
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
                                              row.updated_at AS updated_at) AS own ON TRUE)
          ON TRUE
