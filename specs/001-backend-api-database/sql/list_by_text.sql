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
           AND (position((SELECT convert_to(lower(CASE
                                                    WHEN octet_length(CAST($2 AS varchar)) = length(CAST($2 AS varchar))
                                                      OR is_normalized(CAST($2 AS varchar), 'NFKC')
                                                      THEN CAST($2 AS varchar)
                                                    ELSE pg_catalog.normalize(CAST($2 AS varchar),
                                                                              'NFKC')
                                                  END),
                                            'UTF8') AS convert_to_1) IN convert_to(lower(CASE
                                                                                           WHEN octet_length(tasks.title) = length(tasks.title)
                                                                                             OR is_normalized(tasks.title, 'NFKC')
                                                                                             THEN tasks.title
                                                                                           ELSE pg_catalog.normalize(tasks.title, 'NFKC')
                                                                                         END),
                                                                                   'UTF8')) > 0
             OR position((SELECT convert_to(lower(CASE
                                                    WHEN octet_length(CAST($2 AS varchar)) = length(CAST($2 AS varchar))
                                                      OR is_normalized(CAST($2 AS varchar), 'NFKC')
                                                      THEN CAST($2 AS varchar)
                                                    ELSE pg_catalog.normalize(CAST($2 AS varchar),
                                                                              'NFKC')
                                                  END),
                                            'UTF8') AS convert_to_2) IN convert_to(lower(CASE
                                                                                           WHEN octet_length(tasks.description) = length(tasks.description)
                                                                                             OR is_normalized(tasks.description, 'NFKC')
                                                                                             THEN tasks.description
                                                                                           ELSE pg_catalog.normalize(tasks.description, 'NFKC')
                                                                                         END),
                                                                                   'UTF8')) > 0)
         ORDER BY tasks.created_at, tasks.id
         LIMIT CAST($3 AS bigint)
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
