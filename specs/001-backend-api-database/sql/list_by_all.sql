WITH row AS (
         SELECT tasks.id AS id,
                tasks.user_id AS user_id,
                tasks.title AS title,
                tasks.description AS description,
                tasks.completed AS completed,
                tasks.priority AS priority,
                tasks.tags AS tags,
                tasks.all_day AS all_day,
                tasks.completed_at AS completed_at,
                tasks.due_date AS due_date,
                tasks.created_at AS created_at,
                tasks.updated_at AS updated_at,
                CASE
                  WHEN jsonb_typeof(tasks.further) = 'object'
                    THEN tasks.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[])
                END AS further
         FROM tasks
         WHERE tasks.user_id = CAST($1 AS varchar)
           AND tasks.completed = CAST($2 AS boolean)
           AND (position((SELECT convert_to(lower(CASE
                                                    WHEN octet_length(CAST($3 AS varchar)) = length(CAST($3 AS varchar))
                                                      OR is_normalized(CAST($3 AS varchar), 'NFKC')
                                                      THEN CAST($3 AS varchar)
                                                    ELSE pg_catalog.normalize(CAST($3 AS varchar),
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
                                                    WHEN octet_length(CAST($3 AS varchar)) = length(CAST($3 AS varchar))
                                                      OR is_normalized(CAST($3 AS varchar), 'NFKC')
                                                      THEN CAST($3 AS varchar)
                                                    ELSE pg_catalog.normalize(CAST($3 AS varchar),
                                                                              'NFKC')
                                                  END),
                                            'UTF8') AS convert_to_2) IN convert_to(lower(CASE
                                                                                           WHEN octet_length(tasks.description) = length(tasks.description)
                                                                                             OR is_normalized(tasks.description, 'NFKC')
                                                                                             THEN tasks.description
                                                                                           ELSE pg_catalog.normalize(tasks.description, 'NFKC')
                                                                                         END),
                                                                                   'UTF8')) > 0)
           AND (CAST($4 AS text[]) IS NULL
             OR tasks.priority = ANY(CAST(CAST($4 AS text[]) AS task_priority[])))
           AND (CAST($5 AS text[]) IS NULL
             OR string_to_array(CASE
                                  WHEN octet_length(array_to_string(tasks.tags, ',')) = length(array_to_string(tasks.tags, ','))
                                    OR is_normalized(array_to_string(tasks.tags, ','), 'NFC')
                                    THEN array_to_string(tasks.tags, ',')
                                  ELSE pg_catalog.normalize(array_to_string(tasks.tags, ','), 'NFC')
                                END,
                                ',') @> CAST($5 AS text[]))
           AND (CAST($6 AS timestamp with time zone) IS NULL
             OR tasks.due_date >= CAST($6 AS timestamp with time zone))
           AND (CAST($7 AS timestamp with time zone) IS NULL
             OR tasks.due_date <= CAST($7 AS timestamp with time zone))
           AND (CAST($8 AS timestamp with time zone) IS NULL
             OR tasks.completed_at >= CAST($8 AS timestamp with time zone))
           AND (CAST($9 AS timestamp with time zone) IS NULL
             OR tasks.completed_at <= CAST($9 AS timestamp with time zone))
           AND (CAST($10 AS boolean) IS NULL OR (tasks.due_date IS NOT NULL) = CAST($10 AS boolean))
           AND (CAST($11 AS boolean) IS NULL
             OR (NOT tasks.completed
             AND COALESCE(CASE
                            WHEN tasks.all_day
                              THEN tasks.due_date + CAST('1 day' AS interval) <= now()
                            ELSE tasks.due_date < now()
                          END,
                          FALSE)) = CAST($11 AS boolean))
           AND ((tasks.due_date, tasks.id) < (CAST(CAST($12 AS varchar) AS timestamp with time zone),
                                              CAST($13 AS uuid))
             OR (tasks.due_date IS NULL
             AND (CAST(CAST($12 AS varchar) AS timestamp with time zone) IS NOT NULL
               OR tasks.id < CAST($13 AS uuid))))
         ORDER BY tasks.due_date DESC NULLS LAST, tasks.id DESC
         LIMIT CAST($14 AS bigint)
         OFFSET CAST($15 AS bigint)
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
