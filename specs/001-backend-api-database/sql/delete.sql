WITH row AS (
         DELETE FROM tasks
         WHERE tasks.user_id = CAST($1 AS varchar) AND tasks.id = CAST($2 AS uuid)
         RETURNING tasks.user_id, tasks.id
       )
  SELECT row_to_json(row) AS row_to_json_1
  FROM row
