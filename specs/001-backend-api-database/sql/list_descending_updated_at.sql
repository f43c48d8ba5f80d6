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
         ORDER BY tasks.updated_at DESC, tasks.id DESC
         LIMIT CAST($2 AS bigint)
       )
  SELECT json_send(row_to_json(row)) AS json_send_1
  FROM row
