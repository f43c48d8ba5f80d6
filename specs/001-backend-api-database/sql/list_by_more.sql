WITH row AS (
         SELECT tasks.id AS id,
                tasks.user_id AS user_id,
                tasks.title AS title,
                tasks.description AS description,
                tasks.completed AS completed,
                tasks.priority AS priority,
                tasks.due_date AS due_date,
                tasks.tags AS tags,
                tasks.created_at AS created_at,
                tasks.updated_at AS updated_at
         FROM tasks
         WHERE tasks.user_id = CAST($1 AS varchar)
           AND (CAST($2 AS text[]) IS NULL
             OR tasks.priority = ANY(CAST(CAST($2 AS text[]) AS task_priority[])))
           AND (CAST($3 AS text[]) IS NULL
             OR string_to_array(CASE
                                  WHEN octet_length(array_to_string(tasks.tags, ',')) = length(array_to_string(tasks.tags, ','))
                                    OR is_normalized(array_to_string(tasks.tags, ','), 'NFC')
                                    THEN array_to_string(tasks.tags, ',')
                                  ELSE pg_catalog.normalize(array_to_string(tasks.tags, ','), 'NFC')
                                END,
                                ',') @> CAST($3 AS text[]))
           AND (CAST($4 AS timestamp with time zone) IS NULL
             OR tasks.due_date >= CAST($4 AS timestamp with time zone))
           AND (CAST($5 AS timestamp with time zone) IS NULL
             OR tasks.due_date <= CAST($5 AS timestamp with time zone))
           AND (CAST($6 AS boolean) IS NULL OR (tasks.due_date IS NOT NULL) = CAST($6 AS boolean))
           AND (CAST($7 AS boolean) IS NULL
             OR (NOT tasks.completed AND COALESCE(tasks.due_date < now(), FALSE)) = CAST($7 AS boolean))
         ORDER BY tasks.created_at, tasks.id
         LIMIT CAST($8 AS bigint)
         OFFSET CAST($9 AS bigint)
       )
  SELECT CASE
           WHEN row.created_at = CAST(row.created_at AS timestamp(5) with time zone)
             OR row.updated_at = CAST(row.updated_at AS timestamp(5) with time zone)
             THEN row_to_json(padded)
           ELSE row_to_json(sent)
         END AS json
  FROM row
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
