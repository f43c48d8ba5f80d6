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
           AND tasks.completed = CAST($2 AS boolean)
           AND (position((SELECT convert_to(lower(CAST($3 AS varchar)), 'UTF8') AS convert_to_1) IN convert_to(lower(tasks.title),
                                                                                                               'UTF8')) > 0
             OR position((SELECT convert_to(lower(CAST($3 AS varchar)), 'UTF8') AS convert_to_2) IN convert_to(lower(tasks.description),
                                                                                                               'UTF8')) > 0)
           AND (CAST($4 AS text[]) IS NULL
             OR tasks.priority = ANY(CAST(CAST($4 AS text[]) AS task_priority[])))
           AND (CAST($5 AS text[]) IS NULL OR tasks.tags @> CAST($5 AS text[]))
           AND (CAST($6 AS timestamp with time zone) IS NULL
             OR tasks.due_date >= CAST($6 AS timestamp with time zone))
           AND (CAST($7 AS timestamp with time zone) IS NULL
             OR tasks.due_date <= CAST($7 AS timestamp with time zone))
           AND (CAST($8 AS boolean) IS NULL OR (tasks.due_date IS NOT NULL) = CAST($8 AS boolean))
           AND (CAST($9 AS boolean) IS NULL
             OR (NOT tasks.completed AND COALESCE(tasks.due_date < now(), FALSE)) = CAST($9 AS boolean))
           AND ((tasks.due_date, tasks.id) < (CAST(CAST($10 AS varchar) AS timestamp with time zone),
                                              CAST($11 AS uuid))
             OR (tasks.due_date IS NULL
             AND (CAST(CAST($10 AS varchar) AS timestamp with time zone) IS NOT NULL
               OR tasks.id < CAST($11 AS uuid))))
         ORDER BY tasks.due_date DESC NULLS LAST, tasks.id DESC
         LIMIT CAST($12 AS bigint)
         OFFSET CAST($13 AS bigint)
       )
  SELECT row_to_json(row) AS row_to_json_1
  FROM row
