WITH made AS (
         INSERT INTO idempotency_keys (user_id, key, fingerprint, created_at, task_id)
         SELECT CAST($7 AS varchar) AS anon_1,
                CAST($8 AS varchar) AS anon_2,
                CAST($9 AS varchar) AS anon_3,
                CAST($10 AS timestamp with time zone) AS anon_4,
                CAST($11 AS uuid) AS anon_5
         WHERE NOT EXISTS (SELECT idempotency_keys.user_id
                           FROM idempotency_keys
                           WHERE idempotency_keys.user_id = CAST($7 AS varchar)
                             AND idempotency_keys.created_at >= CAST($12 AS timestamp with time zone)
                           LIMIT 1
                           OFFSET 9999)
            OR EXISTS (SELECT idempotency_keys.key
                       FROM idempotency_keys
                       WHERE idempotency_keys.user_id = CAST($7 AS varchar)
                         AND idempotency_keys.key = CAST($8 AS varchar)
                         AND idempotency_keys.created_at >= CAST($12 AS timestamp with time zone))
         ON CONFLICT (user_id, key)
            DO UPDATE
              SET fingerprint = CASE
                                  WHEN idempotency_keys.created_at < CAST($12 AS timestamp with time zone)
                                    THEN excluded.fingerprint
                                  ELSE idempotency_keys.fingerprint
                                END,
                  task_id = CASE
                              WHEN idempotency_keys.created_at < CAST($12 AS timestamp with time zone)
                                THEN excluded.task_id
                              ELSE idempotency_keys.task_id
                            END,
                  created_at = CASE
                                 WHEN idempotency_keys.created_at < CAST($12 AS timestamp with time zone)
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
                CAST(CAST($5 AS timestamp with time zone) AS timestamp with time zone) AS due_date,
                CAST(CAST($6 AS text[]) AS text[]) AS tags,
                made.created_at AS created_at,
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
                            due_date,
                            tags,
                            created_at,
                            updated_at)
         SELECT row.id AS id,
                row.user_id AS user_id,
                row.title AS title,
                row.description AS description,
                row.completed AS completed,
                row.priority AS priority,
                row.due_date AS due_date,
                row.tags AS tags,
                row.created_at AS created_at,
                row.updated_at AS updated_at
         FROM row
         WHERE row.id = CAST($11 AS uuid)
         ON CONFLICT DO NOTHING
         RETURNING tasks.id
       ),
     cleared AS (
         DELETE FROM idempotency_keys
         WHERE idempotency_keys.user_id = CAST($7 AS varchar)
           AND idempotency_keys.key = ANY(ARRAY(SELECT idempotency_keys.key
                                                FROM idempotency_keys
                                                WHERE idempotency_keys.user_id = CAST($7 AS varchar)
                                                  AND idempotency_keys.created_at < CAST($12 AS timestamp with time zone)
                                                  AND idempotency_keys.key <> CAST($8 AS varchar)
                                                LIMIT 10
                                                FOR UPDATE SKIP LOCKED))
         RETURNING idempotency_keys.key
       )
  SELECT CASE
           WHEN made.fingerprint = CAST($9 AS varchar)
             THEN CASE
                    WHEN row.created_at = CAST(row.created_at AS timestamp(5) with time zone)
                      OR row.updated_at = CAST(row.updated_at AS timestamp(5) with time zone)
                      THEN row_to_json(padded)
                    ELSE row_to_json(sent)
                  END
         END AS anon_6
  FROM made
       INNER JOIN row ON TRUE
       INNER JOIN LATERAL (SELECT row.id AS id,
                                  row.user_id AS user_id,
                                  row.title AS title,
                                  row.description AS description,
                                  row.completed AS completed,
                                  row.priority AS priority,
                                  CASE
                                    WHEN row.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.due_date = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.due_date) #>> '{}'
                                    ELSE to_char(row.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS due_date,
                                  row.tags AS tags,
                                  row.created_at AS created_at,
                                  row.updated_at AS updated_at) AS sent ON TRUE
       INNER JOIN LATERAL (SELECT row.id AS id,
                                  row.user_id AS user_id,
                                  row.title AS title,
                                  row.description AS description,
                                  row.completed AS completed,
                                  row.priority AS priority,
                                  CASE
                                    WHEN row.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.due_date = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.due_date) #>> '{}'
                                    ELSE to_char(row.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS due_date,
                                  row.tags AS tags,
                                  CASE
                                    WHEN row.created_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.created_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.created_at) #>> '{}'
                                    ELSE to_char(row.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS created_at,
                                  CASE
                                    WHEN row.updated_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                      OR row.updated_at = CAST('infinity' AS timestamptz)
                                      THEN to_json(row.updated_at) #>> '{}'
                                    ELSE to_char(row.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                  END AS updated_at) AS padded ON TRUE
