WITH row AS (
         INSERT INTO tasks (id,
                            user_id,
                            title,
                            description,
                            completed,
                            priority,
                            tags,
                            all_day,
                            due_date,
                            created_at,
                            updated_at)
         VALUES (CAST($1 AS uuid),
                 CAST($2 AS varchar),
                 CAST($3 AS varchar),
                 CAST($4 AS varchar),
                 CAST($5 AS boolean),
                 CAST(CAST($6 AS varchar) AS task_priority),
                 CAST($7 AS text[]),
                 CAST($8 AS boolean),
                 CAST($9 AS timestamp with time zone),
                 CAST($10 AS timestamp with time zone),
                 CAST($10 AS timestamp with time zone))
         ON CONFLICT DO NOTHING
         RETURNING tasks.id,
                   tasks.user_id,
                   tasks.title,
                   tasks.description,
                   tasks.completed,
                   tasks.priority,
                   tasks.tags,
                   tasks.all_day,
                   tasks.due_date,
                   tasks.created_at,
                   tasks.updated_at
       )
  SELECT row_to_json(row) AS row_to_json_1
  FROM row
