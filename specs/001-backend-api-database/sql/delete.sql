WITH row AS (
         DELETE FROM tasks
         WHERE tasks.user_id = CAST($1 AS varchar) AND tasks.id = CAST($2 AS uuid)
         RETURNING tasks.user_id, tasks.id
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
