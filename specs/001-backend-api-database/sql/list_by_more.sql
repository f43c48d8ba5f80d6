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
           AND (CAST($6 AS timestamp with time zone) IS NULL
             OR tasks.completed_at >= CAST($6 AS timestamp with time zone))
           AND (CAST($7 AS timestamp with time zone) IS NULL
             OR tasks.completed_at <= CAST($7 AS timestamp with time zone))
           AND (CAST($8 AS boolean) IS NULL OR (tasks.due_date IS NOT NULL) = CAST($8 AS boolean))
           AND (CAST($9 AS boolean) IS NULL
             OR (NOT tasks.completed
             AND COALESCE(CASE
                            WHEN tasks.all_day
                              THEN tasks.due_date + CAST('1 day' AS interval) <= now()
                            ELSE tasks.due_date < now()
                          END,
                          FALSE)) = CAST($9 AS boolean))
         ORDER BY tasks.created_at, tasks.id
         LIMIT CAST($10 AS bigint)
         OFFSET CAST($11 AS bigint)
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
