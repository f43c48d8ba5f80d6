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
                   tasks.completed_at,
                   tasks.due_date,
                   tasks.created_at,
                   tasks.updated_at,
                   CASE
                     WHEN jsonb_typeof(tasks.further) = 'object'
                       THEN tasks.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[])
                   END AS further
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
