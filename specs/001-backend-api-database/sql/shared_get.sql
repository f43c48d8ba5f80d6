SELECT row.user_id, row.id, row_to_json(row) AS row_to_json_1
FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(user_id varchar(255), id uuid)
     INNER JOIN LATERAL (SELECT tasks.id AS id,
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
                         WHERE tasks.user_id = asked.user_id AND tasks.id = asked.id
                         LIMIT 1) AS row ON TRUE
