WITH current AS (
         SELECT tasks.id AS id,
                tasks.user_id AS user_id,
                tasks.title AS title,
                tasks.description AS description,
                tasks.completed AS completed,
                tasks.priority AS priority,
                tasks.tags AS tags,
                tasks.all_day AS all_day,
                tasks.due_date AS due_date,
                tasks.created_at AS created_at,
                tasks.updated_at AS updated_at
         FROM tasks
         WHERE tasks.user_id = CAST($1 AS varchar) AND tasks.id = CAST($2 AS uuid)
         FOR UPDATE
       ),
     row AS (
         DELETE FROM tasks
         WHERE tasks.user_id = CAST($1 AS varchar)
           AND tasks.id = CAST($2 AS uuid)
           AND EXISTS (SELECT current.id
                       FROM current
                       WHERE "left"(encode(sha256(convert_to(CAST(row_to_json(current) AS text),
                                                             'UTF8')),
                                           'hex'),
                                    32) = ANY(CAST($3 AS text[])) = CAST($4 AS boolean))
         RETURNING tasks.user_id, tasks.id
       )
  SELECT row_to_json(row) AS row_to_json_1
  FROM current LEFT JOIN row ON TRUE
