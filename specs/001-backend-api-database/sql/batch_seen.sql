SELECT idempotency_keys.fingerprint,
       CASE
         WHEN json_typeof(each_1.value) = 'object'
           THEN CASE
                  WHEN state_1.created_at = CAST(state_1.created_at AS timestamp(5) with time zone)
                    OR state_1.updated_at = CAST(state_1.updated_at AS timestamp(5) with time zone)
                    THEN row_to_json(padded)
                  ELSE row_to_json(sent)
                END
         ELSE each_1.value
       END AS row
FROM idempotency_keys
     LEFT JOIN LATERAL json_array_elements(idempotency_keys.answer) WITH ORDINALITY AS each_1 (value, n) ON TRUE
     LEFT JOIN (SELECT operations.n AS n,
                       operations.op AS op,
                       operations.id AS id,
                       operations.etags AS etags,
                       operations.fields AS fields
                FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS operations(n integer,
                                                                                  op text,
                                                                                  id uuid,
                                                                                  etags text[],
                                                                                  fields pg_catalog.json)) AS asked ON asked.n = each_1.n - 1
     LEFT JOIN LATERAL jsonb_to_record(CASE
                                         WHEN json_typeof(each_1.value) = 'object'
                                           THEN CAST(asked.fields AS jsonb) || CAST(each_1.value AS jsonb)
                                         ELSE CAST('{}' AS jsonb)
                                       END) AS state_1(id uuid,
                                                       user_id varchar(255),
                                                       title varchar(500),
                                                       description text,
                                                       completed boolean,
                                                       priority task_priority,
                                                       due_date timestamp with time zone,
                                                       tags text[],
                                                       created_at timestamp with time zone,
                                                       updated_at timestamp with time zone) ON TRUE
     INNER JOIN LATERAL (SELECT state_1.id AS id,
                                state_1.user_id AS user_id,
                                state_1.title AS title,
                                state_1.description AS description,
                                state_1.completed AS completed,
                                state_1.priority AS priority,
                                CASE
                                  WHEN state_1.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                    OR state_1.due_date = CAST('infinity' AS timestamptz)
                                    THEN to_json(state_1.due_date) #>> '{}'
                                  ELSE to_char(state_1.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                END AS due_date,
                                state_1.tags AS tags,
                                state_1.created_at AS created_at,
                                state_1.updated_at AS updated_at) AS sent ON TRUE
     INNER JOIN LATERAL (SELECT state_1.id AS id,
                                state_1.user_id AS user_id,
                                state_1.title AS title,
                                state_1.description AS description,
                                state_1.completed AS completed,
                                state_1.priority AS priority,
                                CASE
                                  WHEN state_1.due_date < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                    OR state_1.due_date = CAST('infinity' AS timestamptz)
                                    THEN to_json(state_1.due_date) #>> '{}'
                                  ELSE to_char(state_1.due_date, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                END AS due_date,
                                state_1.tags AS tags,
                                CASE
                                  WHEN state_1.created_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                    OR state_1.created_at = CAST('infinity' AS timestamptz)
                                    THEN to_json(state_1.created_at) #>> '{}'
                                  ELSE to_char(state_1.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                END AS created_at,
                                CASE
                                  WHEN state_1.updated_at < CAST('0001-01-01 00:00:00+00' AS timestamptz)
                                    OR state_1.updated_at = CAST('infinity' AS timestamptz)
                                    THEN to_json(state_1.updated_at) #>> '{}'
                                  ELSE to_char(state_1.updated_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')
                                END AS updated_at) AS padded ON TRUE
WHERE idempotency_keys.user_id = CAST($2 AS varchar)
  AND idempotency_keys.key = CAST($3 AS varchar)
  AND idempotency_keys.created_at >= CAST($4 AS timestamp with time zone)
ORDER BY each_1.n
