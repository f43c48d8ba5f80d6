WITH current AS (
         SELECT tasks.id AS id,
                tasks.user_id AS user_id,
                tasks.title AS title,
                tasks.description AS description,
                tasks.completed AS completed,
                tasks.priority AS priority,
                tasks.tags AS tags,
                tasks.further AS further,
                tasks.all_day AS all_day,
                tasks.completed_at AS completed_at,
                tasks.due_date AS due_date,
                tasks.created_at AS created_at,
                tasks.updated_at AS updated_at
         FROM tasks
         WHERE tasks.user_id = CAST($1 AS varchar) AND tasks.id = CAST($2 AS uuid)
         FOR UPDATE
       ),
     row AS (
         UPDATE tasks
         SET title = CAST($3 AS varchar), updated_at = GREATEST(tasks.updated_at, now())
         WHERE tasks.user_id = CAST($1 AS varchar)
           AND tasks.id = CAST($2 AS uuid)
           AND EXISTS (SELECT current.id
                       FROM current
                            INNER JOIN LATERAL (SELECT current.id AS id,
                                                       current.user_id AS user_id,
                                                       current.title AS title,
                                                       current.description AS description,
                                                       current.completed AS completed,
                                                       current.priority AS priority,
                                                       current.tags AS tags,
                                                       current.all_day AS all_day,
                                                       current.completed_at AS completed_at,
                                                       current.due_date AS due_date,
                                                       current.created_at AS created_at,
                                                       current.updated_at AS updated_at) AS own ON TRUE
                       WHERE "left"(encode(sha256(convert_to(CAST(CASE
                                                                    WHEN jsonb_typeof(current.further) = 'object'
                                                                      THEN CAST(concat_ws(',',
                                                                                          "left"(CAST(row_to_json(own) AS text),
                                                                                                 -1),
                                                                                          NULLIF("left"(substr(CAST(current.further - CAST('{id,user_id,title,description,completed,priority,tags,all_day,completed_at,due_date,created_at,updated_at}' AS text[]) AS text),
                                                                                                               2),
                                                                                                        -1),
                                                                                                 '')) || '}' AS pg_catalog.json)
                                                                    ELSE row_to_json(own)
                                                                  END AS text),
                                                             'UTF8')),
                                           'hex'),
                                    32) = ANY(CAST($4 AS text[])) = CAST($5 AS boolean))
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
  FROM current LEFT JOIN row ON TRUE
