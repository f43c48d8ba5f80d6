WITH row AS (
         UPDATE tasks
         SET completed = NOT tasks.completed, updated_at = GREATEST(tasks.updated_at, now())
         WHERE tasks.user_id = CAST($1 AS varchar) AND tasks.id = CAST($2 AS uuid)
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
