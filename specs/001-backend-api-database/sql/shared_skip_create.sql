WITH created AS (
         INSERT INTO tasks (id,
                            user_id,
                            title,
                            description,
                            completed,
                            priority,
                            tags,
                            further,
                            all_day,
                            completed_at,
                            due_date,
                            created_at,
                            updated_at)
         SELECT asked.id AS id,
                asked.user_id AS user_id,
                asked.title AS title,
                asked.description AS description,
                asked.completed AS completed,
                CAST(asked.priority AS task_priority) AS priority,
                asked.tags AS tags,
                CAST(asked.further AS jsonb) AS further,
                asked.all_day AS all_day,
                CASE
                  WHEN asked.completed THEN LEAST(asked.completed_at, asked.updated_at)
                END AS anon_1,
                asked.due_date AS due_date,
                LEAST(asked.created_at, asked.updated_at) AS least_1,
                asked.updated_at AS updated_at
         FROM json_to_recordset(CAST($1 AS pg_catalog.json)) AS asked(id uuid,
                                                                      user_id varchar(255),
                                                                      title varchar(500),
                                                                      description text,
                                                                      completed boolean,
                                                                      priority text,
                                                                      tags text[],
                                                                      further text,
                                                                      all_day boolean,
                                                                      completed_at timestamp with time zone,
                                                                      due_date timestamp with time zone,
                                                                      created_at timestamp with time zone,
                                                                      updated_at timestamp with time zone)
              INNER JOIN LATERAL (SELECT feeds.user_id AS user_id
                                  FROM feeds
                                  WHERE feeds.user_id = asked.user_id
                                  FOR UPDATE SKIP LOCKED) AS feed ON TRUE
         WHERE TRUE
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
  SELECT json_send(row_to_json(created)) AS json_send_1, created.user_id, created.id
  FROM created
